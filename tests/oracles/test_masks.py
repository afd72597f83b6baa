"""The loss of masked tokens against that of transformers."""

import pytest
import torch

from fitness.evaluation import Task
from fitness.models.base import Base
from fitness.training.masked import Masking
from tests.fitness.training.test_masked import base as base
from tests.fitness.training.test_masked import bert as bert
from tests.fitness.training.test_masked import many
from tests.fitness.training.test_masked import masking as masking
from tests.fitness.training.test_masked import task as task


def test_the_loss_of_masked_tokens_is_that_of_transformers(
    task: Task, base: Base, masking: Masking
) -> None:
    (hidden,) = masking.batches([many(task)], 0.15, seed=1, step=0)
    ids = torch.from_numpy(hidden.input_ids)
    with torch.no_grad():
        told = base.model(
            input_ids=ids,
            attention_mask=(ids != masking.pad).long(),
            labels=torch.from_numpy(hidden.labels),
        ).loss
        assert masking.loss(base.model, hidden, 0).item() == pytest.approx(told.item(), abs=1e-5)
