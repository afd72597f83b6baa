"""A fine-tune that gets worse on the selection split stops, and its best weights count."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.held_out import held_out_loss
from fitness.evaluation import Evaluation, Status, Task
from fitness.models import weights
from fitness.models.base import Base
from fitness.training.early_stopping import EarlyStopping
from tests.fitness.quickstart import BATCH, LENGTH, evaluate

STEPS = 20
RATES = {"none": 3e-3, "lora": 2e-2}  # rising to these, it gets better and then worse
GENTLE = {"learning_rate": 5e-4, "warmup_share": 0.0}


@pytest.fixture
def patient(task: Task, tmp_path: Path) -> Task:
    budget = STEPS * BATCH * LENGTH
    return replace(
        task,
        budget_tokens=budget,
        artifacts=tmp_path,
        patience=2,
        stop_on="target/loss",
        prompts={},
        prompt_sets={},
    )


def run(task: Task, **asked: Any) -> Evaluation:
    evaluation = evaluate(Evaluator(task), **asked)
    assert evaluation.status is Status.OK, evaluation.message
    return evaluation


class Falling(torch.nn.Module):
    """One weight, which is set to the step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


def stopped(losses: list[float], *, patience: int, steps: int) -> tuple[int, float, int]:
    """The step it stopped after, the weight it went back to, and the best step."""
    model, told = Falling(), iter(losses)
    stop = EarlyStopping(model, lambda: next(told), steps=steps, patience=patience)
    done = 0
    for done in range(1, steps + 1):
        model.weight.data.fill_(done)
        if stop(done):
            break
        assert model.training
    stop.go_back()
    return done, model.weight.item(), stop.best_step


def test_it_stops_after_so_many_checks_in_a_row_without_a_lower_loss() -> None:
    assert stopped([3, 2, 2, 2, 1], patience=2, steps=10) == (4, 2.0, 2)
    assert stopped([3, 2, 4, 1, 2, 2, 0], patience=2, steps=10) == (6, 4.0, 4)
    assert stopped([1, 2], patience=1, steps=10) == (2, 1.0, 1)


def test_a_loss_that_falls_is_followed_to_the_end_and_checked_ten_times() -> None:
    assert stopped(list(range(10, 0, -1)), patience=1, steps=10) == (10, 10.0, 10)
    assert stopped(list(range(10, 0, -1)), patience=1, steps=100) == (100, 100.0, 100)
    assert stopped([9, 8, 7], patience=1, steps=3) == (3, 3.0, 3)


def test_a_loss_that_was_never_a_number_leaves_the_weights_alone() -> None:
    assert stopped([float("nan")] * 5, patience=3, steps=10) == (3, 3.0, 0)


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_what_was_best_is_measured_and_kept_and_the_cost_is_of_what_was_done(
    patient: Task, tmp_path: Path, adapter: str
) -> None:
    recipe = {"adapter": adapter, "learning_rate": RATES[adapter], "warmup_share": 1.0}
    early, whole = (
        run(task, individual=place, **recipe)
        for place, task in enumerate((patient, replace(patient, patience=None)))
    )
    best = early.details["best_step"]
    assert 0 < best < STEPS - 4
    assert early.cost["tokens"] == (best + 4) * BATCH * LENGTH < whole.cost["tokens"]
    assert early.measurements["target/loss"] < whole.measurements["target/loss"]
    assert early.details["learning_curve"] == whole.details["learning_curve"][: best + 4]
    assert patient.model is not None
    weights.assemble(patient.model, weights.folder_of(tmp_path, 0), tmp_path / "to")
    loss = held_out_loss(
        Base(tmp_path / "to").model, patient.domains["target"]["selection"], LENGTH
    )
    assert loss == pytest.approx(early.measurements["target/loss"], abs=1e-5)


def test_a_fine_tune_that_only_gets_better_is_left_alone(patient: Task) -> None:
    early, whole = run(patient, **GENTLE), run(replace(patient, patience=None), **GENTLE)
    assert early.details["best_step"] == early.details["steps"] == STEPS
    assert early.measurements == whole.measurements
    assert early.cost["tokens"] == whole.cost["tokens"]


def test_the_test_split_decides_nothing(patient: Task) -> None:
    other = patient.domains["target"]["selection"]
    swapped = replace(patient, domains={"target": {**patient.domains["target"], "test": other}})
    one, two = (
        run(task, split="test", learning_rate=1e-2, warmup_share=1.0) for task in (patient, swapped)
    )
    assert one.details["best_step"] == two.details["best_step"]
    assert one.measurements != two.measurements


@pytest.mark.parametrize(
    ("name", "sign"), [("target/perplexity", 1), ("jargon/chrf", -1), ("jargon/mean_length", 1)]
)
def test_any_measurement_stops_in_its_own_direction(
    patient: Task, task: Task, name: str, sign: int
) -> None:
    scored = task.prompt_sets["jargon"].model_copy(update={"metrics": ("chrf", "mean_length")})
    asked = replace(patient, prompts=task.prompts, prompt_sets={"jargon": scored})
    early = run(replace(asked, stop_on=name, stop_sign=sign), learning_rate=3e-3)
    curve = early.details["held_out_curve"]
    values = [value for _, value in curve]
    best = min(values) if sign == 1 else max(values)
    assert early.measurements[name] == pytest.approx(best), "the best weights are scored"
    tokens = next(tokens for tokens, value in curve if value == best)
    assert early.details["best_step"] == STEPS * tokens // patient.budget_tokens
    assert len(set(values)) > 1
