"""Evaluations of a bucket against the same ones alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fitness.buckets.together import shared
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from fitness.models.weights import folder_of
from tests.fitness.quickstart import small_recipe


def spec_of(individual: int, *, fidelity: float = 1.0, **changes: Any) -> EvaluationSpec:
    values = {"adapter": "lora", "lora_rank": 4 + individual, "batch_size": 2, **changes}
    recipe = small_recipe(**values).model_dump(mode="json")
    return EvaluationSpec(individual, recipe, individual, fidelity)


@pytest.fixture(scope="module")
def evaluator(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    return Evaluator(replace(task, artifacts=tmp_path_factory.mktemp("artifacts")))


def assert_like(one: Evaluation, other: Evaluation) -> None:
    """Equal but for rounding and times."""
    assert one.status == other.status == Status.OK
    assert one.measurements == pytest.approx(other.measurements, rel=1e-5)
    assert (one.cost["tokens"], one.cost["flops"]) == (other.cost["tokens"], other.cost["flops"])
    assert one.details["shares"] == other.details["shares"]
    assert one.details["epochs"] == other.details["epochs"]
    assert one.details["samples"] == other.details["samples"]


def test_members_are_scored_as_if_each_had_been_alone(evaluator: Evaluator) -> None:
    specs = [spec_of(0), spec_of(1, dropout=0.2), spec_of(2, learning_rate=0.01)]
    together = evaluator.evaluate_bucket(specs)
    assert [evaluation.spec for evaluation in together] == specs
    for spec, evaluation in zip(specs, together, strict=True):
        assert_like(evaluation, evaluator.evaluate(spec))


def test_the_same_bucket_comes_out_the_same_bit_for_bit(evaluator: Evaluator) -> None:
    specs = [spec_of(0), spec_of(1, dropout=0.2)]
    first, again = evaluator.evaluate_bucket(specs), evaluator.evaluate_bucket(specs)
    for one, other in zip(first, again, strict=True):
        assert one.measurements == other.measurements
        assert one.details == other.details


def test_a_failure_is_its_own_and_who_fits_nobody_is_evaluated_alone(evaluator: Evaluator) -> None:
    wild = {"learning_rate": 10.0, "weight_decay": 10.0, "clip_norm": 0.0}
    specs = [
        spec_of(0),
        spec_of(1, **wild, decay="constant"),
        spec_of(2, mixture={"jargon": 0.5, "nowhere": 0.5}),
        spec_of(3, adapter="none"),
        spec_of(4),
        spec_of(5, fidelity=0.5),
        EvaluationSpec(6, {"adapter": "nonsense"}, 6),
    ]
    found = evaluator.evaluate_bucket(specs)
    assert [one.status for one in found[2:4]] == [Status.ERROR, Status.OK]
    assert "nowhere" in found[2].message
    assert "nonsense" in found[6].message
    for place in (0, 4):
        assert_like(found[place], evaluator.evaluate(specs[place]))
    for place in (3, 5):
        alone = evaluator.evaluate(specs[place])
        assert found[place].measurements == alone.measurements


def test_a_member_that_diverges_is_recorded_as_that(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fitness.buckets import training

    def broken(*arguments: Any) -> Any:
        losses = real(*arguments)
        return losses * torch.tensor([1.0, float("nan")][: len(losses)])

    real = training._losses
    monkeypatch.setattr(training, "_losses", broken)
    fine, diverged = evaluator.evaluate_bucket([spec_of(0), spec_of(1)])
    assert fine.status is Status.OK
    assert diverged.status is Status.DIVERGED
    assert "at step 0" in diverged.message


def test_what_is_too_much_at_once_is_evaluated_alone(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fitness.buckets import training

    def no_memory(*arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(training, "_losses", no_memory)
    specs = [spec_of(0), spec_of(1)]
    for spec, evaluation in zip(specs, evaluator.evaluate_bucket(specs), strict=True):
        assert evaluation.measurements == evaluator.evaluate(spec).measurements


def test_the_weights_of_a_member_are_kept_as_peft_keeps_them(task: Task, tmp_path: Path) -> None:
    weights = []
    specs = [spec_of(0), spec_of(1)]
    for way in ("together", "alone"):
        own = Evaluator(replace(task, artifacts=tmp_path / way))
        if way == "together":
            own.evaluate_bucket(specs)
        else:
            own.evaluate(specs[1])
        folder = folder_of(tmp_path / way, 1)
        assert (folder / "adapter_config.json").is_file()
        weights.append(load_file(folder / "adapter_model.safetensors"))
    together, alone = weights
    assert together.keys() == alone.keys()
    for name, weight in alone.items():
        assert together[name].shape == weight.shape
        assert torch.allclose(together[name], weight, atol=1e-5)


def test_what_pauses_or_goes_on_is_trained_alone() -> None:
    assert shared(spec_of(0)) == shared(spec_of(1)) is not None
    assert shared(spec_of(0, fidelity=0.5)) is None
    assert shared(replace(spec_of(0), continue_from=0.5)) is None
    assert shared(replace(spec_of(0), keep_state=True)) is None
