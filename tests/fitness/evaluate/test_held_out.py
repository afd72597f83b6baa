"""Held-out loss against a sum token by token, and what else is measured."""

import math
from typing import Any

import pytest

from fitness.data.sources import TokenFile
from fitness.evaluate.held_out import held_out_loss, measure
from fitness.evaluation import EvaluationSpec, Task
from fitness.inference import log_probabilities
from fitness.models.base import Base
from fitness.models.heads import last_head
from fitness.training.supervised import Diverged


@pytest.fixture
def file(task: Task) -> TokenFile:
    return task.domains["target"]["selection"]


def test_the_size_of_a_batch_changes_nothing(
    base: Base, file: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = held_out_loss(base.model, file, 48)
    for tokens in (1, 48 * 3, 48 * 1000):
        monkeypatch.setattr(log_probabilities, "BATCH_TOKENS", tokens)
        assert held_out_loss(base.model, file, 48) == pytest.approx(wanted, abs=1e-6)


def test_the_logits_of_a_large_vocabulary_are_computed_in_parts(
    base: Base, file: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[Any] = []
    head = last_head(base.model)
    assert head is not None
    wanted = held_out_loss(base.model, file, 48)
    monkeypatch.setattr(log_probabilities, "LOGITS_AT_ONCE", 2**18)
    with head.register_forward_hook(lambda module, given, out: shapes.append(out.shape)):
        assert held_out_loss(base.model, file, 48) == pytest.approx(wanted, abs=1e-6)
    rows = [math.prod(shape[:-1]) for shape in shapes if shape[-1] == 1024]
    assert max(rows) == 2**18 // 1024
    assert sum(rows) == file.tokens - 1


def measured(base: Base, task: Task, **asked: Any) -> tuple[dict[str, float], dict[str, Any]]:
    return measure(base.model, base.tokenizer, task, EvaluationSpec(0, {}, **{"seed": 0, **asked}))


def test_everything_asked_is_measured_under_its_name(base: Base, task: Task) -> None:
    measurements, told = measured(base, task)
    samples = told["samples"]
    assert list(measurements) == ["target/loss", "target/perplexity", "jargon/mean_length"]
    assert measurements["target/perplexity"] == math.exp(measurements["target/loss"])
    whole = {"target/loss": "document", "jargon/mean_length": "prompt"}
    assert {name: found["unit"] for name, found in told["items"].items()} == whole
    for name, found in told["items"].items():
        weights = found.get("weights", [1] * found["count"])
        assert sum(found["sums"]) / sum(weights) == pytest.approx(measurements[name], rel=1e-4)
    assert told["items"]["target/loss"]["count"] == task.domains["target"]["selection"].documents
    assert [set(sample) for sample in samples["jargon"]] == [{"prompt", "reference", "output"}] * 2


def test_the_seed_decides_what_is_sampled_but_not_the_loss(base: Base, task: Task) -> None:
    one, again, other = (measured(base, task, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one[0]["target/loss"] == other[0]["target/loss"]
    assert one[1] != other[1]


def test_each_split_has_its_own_text(base: Base, task: Task) -> None:
    selection, test = (measured(base, task, split=split)[0] for split in ("selection", "test"))
    wanted = held_out_loss(base.model, task.domains["target"]["test"], task.held_out_length)
    assert test["target/loss"] == wanted != selection["target/loss"]


def test_a_model_whose_loss_is_no_number_diverged_and_is_not_sampled_from(
    base: Base, task: Task
) -> None:
    weight = base.model.model.norm.weight
    before = weight.detach().clone()
    try:
        weight.data.fill_(float("nan"))
        with pytest.raises(Diverged, match="target/loss is nan"):
            measured(base, task)
    finally:
        weight.data.copy_(before)
