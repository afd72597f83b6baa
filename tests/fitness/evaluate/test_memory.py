"""Predicted memory beside what PyTorch's allocator counts in the fine-tune itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fitness.errors import InputError
from fitness.evaluate import memory
from fitness.evaluate.memory import predicted
from fitness.evaluation import Task
from fitness.inference import log_probabilities
from tests.fitness.allocations import measured
from tests.fitness.models.architectures import saved
from tests.fitness.quickstart import MODEL, small_recipe

SIZES = {"batch_size": 16, "sequence_length": 128}


CELLS: list[Any] = [
    ({}, {}),
    ({"adapter": "lora", "lora_layers": 1, "dropout": 0.1}, {}),
    ({"adapter": "lora", "precision": "bfloat16"}, {"dtype": "bfloat16"}),
    ({}, {"checkpointing": True}),
    ({}, {"micro_batch": 4}),
    ({"adapter": "lora"}, {"quantisation": "nf4"}),
    ({"adapter": "lora"}, {"quantisation": "int8"}),
    ({}, {"attention": "eager"}),
    ({"adapter": "dora"}, {}),
    ({"optimizer": "adamw_8bit"}, {}),
    ({"optimizer": "adafactor"}, {}),
]


@pytest.mark.parametrize(
    ("fields", "settings"),
    [cell if place < 6 else pytest.param(*cell, marks=pytest.mark.slow)
     for place, cell in enumerate(CELLS)],
    ids=str,
)  # fmt: skip
def test_a_prediction_is_what_is_allocated(fields: Any, settings: Any) -> None:
    task = Task("builtin", MODEL, held_out_length=16, **settings)
    recipe = small_recipe(**SIZES, **fields)
    found = predicted(task, recipe)
    assert found.peak == pytest.approx(measured(task, recipe), rel=0.1)
    assert found.weights + found.moments + found.rest == found.peak
    assert min(found.weights, found.moments, found.rest) > 0


def test_logits_in_parts_are_predicted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    task, recipe = Task("builtin", MODEL, held_out_length=16), small_recipe(**SIZES)
    whole = predicted(task, recipe)
    monkeypatch.setattr(log_probabilities, "LOGITS_AT_ONCE", 2**17)
    parts = predicted(task, recipe)
    assert parts.peak < 0.8 * whole.peak
    assert parts.peak == pytest.approx(measured(task, recipe), rel=0.1)


def test_a_batch_that_no_machine_holds_is_predicted_all_the_same() -> None:
    task = Task("builtin", MODEL, held_out_length=16)
    found = predicted(task, small_recipe(batch_size=10**8, sequence_length=512))
    assert found.peak > 10**14


def test_several_processes_share_a_batch_and_no_weights() -> None:
    task = Task("builtin", MODEL, held_out_length=16)
    alone = predicted(task, small_recipe(**SIZES))
    both = predicted(replace(task, processes=2), small_recipe(**SIZES))
    half = predicted(task, small_recipe(**{**SIZES, "batch_size": 8}))
    assert both == half
    assert both.weights == alone.weights


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "gemma3_text", "mamba"])
def test_other_architectures_are_predicted(kind: str, tmp_path: Path) -> None:
    task = Task("builtin", saved(kind, tmp_path), held_out_length=16)
    recipe = small_recipe(**SIZES, adapter="lora")
    assert predicted(task, recipe).peak == pytest.approx(measured(task, recipe), rel=0.15)


def test_what_needs_values_is_not_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_value(model: Any, tokens: Any) -> Any:
        return model(input_ids=memory.torch.from_numpy(tokens)).logits.max().item()

    monkeypatch.setattr(memory, "_loss", by_value)
    with pytest.raises(InputError, match="need values"):
        predicted(Task("builtin", MODEL), small_recipe(**SIZES))
