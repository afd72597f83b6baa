"""`train_share`: a fine-tune on half of the tokens is one whose budget is half as large."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fitness.buckets.together import shared
from fitness.evaluate import materialise
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Ancestor, Evaluation, EvaluationSpec, Status, Task
from fitness.evaluators import Trl, TrlSettings
from tests.fitness.quickstart import BATCH, LENGTH, STEPS, evaluate, small_recipe

LONG = 2 * STEPS * BATCH * LENGTH
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"adapter": "lora", "dropout": 0.2, "batch_size": 3, "infill_share": 0.0},
)


def found(evaluation: Evaluation) -> tuple[Any, ...]:
    assert evaluation.status is Status.OK, evaluation.message
    cost = {name: evaluation.cost[name] for name in ("tokens", "flops")}
    return dict(evaluation.measurements), dict(evaluation.details), cost


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_of_the_tokens_are_half_of_the_budget_to_the_bit(
    task: Task, variant: dict[str, Any]
) -> None:
    half = found(evaluate(Evaluator(task), **variant))
    long = Evaluator(replace(task, budget_tokens=LONG))
    assert found(evaluate(long, train_share=0.5, **variant)) == half
    assert half[2]["tokens"] == LONG / 2
    assert found(evaluate(long, **variant))[0] != half[0]


def test_early_stopping_checks_along_its_own_length(task: Task) -> None:
    stopping: dict[str, Any] = {"patience": 1, "stop_on": "target/loss"}
    half = found(evaluate(Evaluator(replace(task, **stopping))))
    long = Evaluator(replace(task, budget_tokens=LONG, **stopping))
    assert found(evaluate(long, train_share=0.5)) == half
    assert half[1]["held_out_curve"][-1][0] == LONG / 2


def test_a_rung_is_a_share_of_its_own_length(task: Task, tmp_path: Path) -> None:
    long = replace(task, budget_tokens=2 * LONG, artifacts=tmp_path)
    own: dict[str, Any] = {"individual": 3, "train_share": 0.5}
    paused = evaluate(Evaluator(long), fidelity=0.5, keep_state=True, **own)
    assert paused.cost["tokens"] == LONG / 2
    resumed = evaluate(Evaluator(long), continue_from=0.5, **own)
    assert resumed.details["continued_from"] == 0.5
    assert resumed.cost["tokens"] == LONG / 2
    whole = evaluate(Evaluator(replace(task, budget_tokens=LONG)))
    assert resumed.measurements == whole.measurements


def test_a_child_takes_both_shares_and_its_recipe_from_scratch_is_as_long_as_its_lineage(
    task: Task, tmp_path: Path
) -> None:
    evaluator = Evaluator(
        replace(task, budget_tokens=2 * LONG, inherit_share=0.5, artifacts=tmp_path)
    )
    plain = small_recipe(train_share=0.5).model_dump(mode="json")
    parent = evaluator.evaluate(EvaluationSpec(1, plain, 0))
    assert parent.cost["tokens"] == LONG
    seen = parent.details["cumulative_tokens"]
    ancestor = Ancestor(1, plain, 0)
    child = EvaluationSpec(2, plain, 0, parents=(1,), seen=seen, ancestors=(ancestor,))
    inherited = evaluator.evaluate(child)
    assert inherited.cost["tokens"] == LONG / 2
    assert sum(inherited.details["cumulative_tokens"].values()) == 1.5 * LONG
    scratch = evaluator.evaluate(EvaluationSpec(2, plain, 1, 1.5, "test"))
    assert scratch.cost["tokens"] == 1.5 * LONG


def test_other_trainers_are_given_as_many_windows(task: Task) -> None:
    long = replace(task, budget_tokens=LONG)
    plain = small_recipe().model_dump(mode="json")
    half = [window.tokens.tolist() for window in materialise.drawn(task, plain, seed=4)]
    drawn = materialise.drawn(long, {**plain, "train_share": 0.5}, seed=4)
    assert [window.tokens.tolist() for window in drawn] == half
    assert len(half) == STEPS * BATCH


@pytest.mark.slow
def test_trl_trains_on_half_of_the_tokens(task: Task) -> None:
    trl = replace(task, evaluator=Trl(trl=TrlSettings()))
    half = found(evaluate(Evaluator(trl)))
    long = Evaluator(replace(trl, budget_tokens=LONG))
    assert found(evaluate(long, train_share=0.5)) == half


def test_members_of_a_bucket_are_equally_long() -> None:
    def key(share: float) -> object:
        recipe = small_recipe(adapter="lora", train_share=share)
        return shared(EvaluationSpec(0, recipe.model_dump(mode="json"), 0))

    assert key(0.5) == key(0.5) is not None
    assert key(0.5) != key(1.0)
