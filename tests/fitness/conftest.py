from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fitness.quickstart import MODEL, small_task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from fitness.evaluation import Task
    from fitness.models.base import Base

TEXT = ["the chairman of the assignment", "a quick brown fox, and a lazy dog", "Grüße über ä ö ü"]
END = "<|end|>"


def byte_tokenizer(**settings: object) -> "PreTrainedTokenizerFast":
    """Byte-level BPE of 300 tokens: encodes any text, decodes it without loss."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, clean_up_tokenization_spaces=False, **{"eos_token": END, **settings}
    )


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> "Task":
    """The embedded default, cut small; see tests/fitness/quickstart.py."""
    return small_task(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="session")
def base() -> "Base":
    """The embedded default's model; whoever borrows it gives it back as it was."""
    from fitness.models.base import Base

    return Base(MODEL)
