"""Deterministic algorithms of PyTorch during training; tests/gpu/check.sh compares the bits."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fitness.models.repeatable import repeatable

NOT, WARNING, STRICT = 0, 1, 2  # of torch.get_deterministic_debug_mode
WIDTH = 4


class Model(torch.nn.Module):
    """A head over embeddings, on a device without memory in place of a GPU."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(WIDTH, WIDTH, device=device)

    def forward(self, input_ids: torch.Tensor) -> Any:
        assert len(input_ids) == 3
        return SimpleNamespace(logits=self.embedding(input_ids))


SETTINGS: Any = torch.utils.deterministic  # a module with a property, which type checkers miss


class Unordered(Model):
    """A model with an operation that PyTorch has no deterministic algorithm for, on any device."""

    def forward(self, input_ids: torch.Tensor) -> Any:
        torch.zeros(2).put_(torch.tensor([0]), torch.tensor([1.0]))
        return super().forward(input_ids)


def mode_within(model: Model) -> int:
    with repeatable(model, list(model.parameters()), rows=3):
        assert model.embedding.weight.grad is None
        if model.embedding.weight.device.type != "cpu":
            assert not SETTINGS.fill_uninitialized_memory
        return torch.get_deterministic_debug_mode()


def test_a_gpu_is_held_to_deterministic_algorithms_while_it_trains_and_no_longer() -> None:
    assert mode_within(Model("meta")) == STRICT
    assert torch.get_deterministic_debug_mode() == NOT
    assert SETTINGS.fill_uninitialized_memory


def test_a_cpu_is_left_as_it_is() -> None:
    assert mode_within(Model("cpu")) == NOT


def test_a_model_that_has_no_such_algorithm_trains_all_the_same_and_it_is_said() -> None:
    with pytest.warns(UserWarning, match="Unordered: .* not equal to the bit .*put_ does not have"):
        assert mode_within(Unordered("meta")) == WARNING
    assert torch.get_deterministic_debug_mode() == NOT


def test_another_error_of_a_model_is_not_taken_for_that() -> None:
    class Broken(Model):
        def forward(self, input_ids: torch.Tensor) -> Any:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        mode_within(Broken("meta"))
    assert torch.get_deterministic_debug_mode() == NOT
