"""Simulated mixtures by the builtin evaluator: beside the experts alone, and if one is gone."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Ancestor, Evaluation, EvaluationSpec, Simulation, Status, Task
from fitness.models import weights
from tests.fitness.quickstart import MIXTURE, small_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SOURCES = tuple(MIXTURE)
FIDELITY = 0.67  # two of three steps
KINDS: dict[str, dict[str, Any]] = {
    "all": {"learning_rate": 3e-3},
    "lora": {"adapter": "lora", "lora_rank": 4, "lora_dropout": 0.5, "learning_rate": 1e-2},
}


def recipe(mixture: dict[str, float], **settings: Any) -> dict[str, Any]:
    return small_recipe(mixture=mixture, **settings).model_dump(mode="json")


def simulated(evaluator: Evaluator, kind: str) -> Evaluation:
    """Scores of each expert alone, twice the first, and of a mixture."""
    alone = [{name: 1.0} for name in SOURCES]
    request = Simulation(SOURCES, (*alone, alone[0], MIXTURE))
    ancestors = tuple(
        Ancestor(number, recipe(one, **KINDS[kind]), 0, fidelity=FIDELITY)
        for number, one in enumerate(alone)
    )
    return evaluator.evaluate(
        EvaluationSpec(
            0,
            recipe(MIXTURE, **KINDS[kind]),
            seed=0,
            split="simulated",
            parents=(0, 1),
            ancestors=ancestors,
            simulation=request,
            scored=frozenset({"target"}),
        )
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_sum_of_one_expert_scores_as_the_expert_and_one_that_is_gone_is_trained_again(
    task: Task, tmp_path: Path, kind: str
) -> None:
    evaluator = Evaluator(replace(task, artifacts=tmp_path))
    own = []
    for number, name in enumerate(SOURCES):
        asked = recipe({name: 1.0}, **KINDS[kind])
        done = evaluator.evaluate(EvaluationSpec(number, asked, 0, FIDELITY))
        assert done.status is Status.OK, done.message
        own.append(done.measurements["target/loss"])
    found = simulated(evaluator, kind)
    assert found.status is Status.OK, found.message
    first, second, again, mixed = [one["target/loss"] for one in found.details["scores"]]
    assert [first, second] == pytest.approx(own, abs=2e-5)
    assert again == first
    assert mixed not in own
    assert "jargon/mean_length" not in found.details["scores"][0]  # prompts were not asked for
    shutil.rmtree(weights.folder_of(tmp_path, 1))
    evaluator.evaluate(EvaluationSpec(9, recipe(MIXTURE), 0, 0.0))  # lets the experts go
    assert simulated(evaluator, kind).details["scores"] == found.details["scores"]
    assert not list(tmp_path.glob("retrained*"))
