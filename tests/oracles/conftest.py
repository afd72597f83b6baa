from tests.fitness.conftest import base as base
from tests.fitness.conftest import task as task
from tests.fitness.conftest import tokenizer_folder as tokenizer_folder
