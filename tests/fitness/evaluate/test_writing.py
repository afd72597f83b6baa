"""Individuals that write: with the very weights they were scored with, or trained again."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.writing import of_the_worker
from fitness.evaluation import Ancestor, EvaluationSpec, Writing
from fitness.filters import FILTERS
from fitness.samples.write import Generation
from tests.fitness.quickstart import small_recipe, small_task

SETTINGS = Generation(samples=5, max_new_tokens=8)
TEXTS = ("a bug in the program that nobody could find", "the hacker wrote a new program at night")
ADAPTERS = {
    "none": {},
    "lora": {"adapter": "lora", "lora_rank": 4},
    "dora": {"adapter": "dora", "lora_rank": 4},
}


def asked(recipe: dict[str, object], **changes: object) -> EvaluationSpec:
    writing = Writing(SETTINGS, round=2, real=TEXTS, filters=("perplexity",))
    ancestors = (Ancestor(7, recipe, 0),)
    spec = EvaluationSpec(7, recipe, 3, split="samples", parents=(7,), ancestors=ancestors)
    return replace(spec, writing=writing, **changes)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_who_writes_has_the_weights_it_was_scored_with_whether_they_were_kept_or_not(
    adapter: str, tmp_path: Path
):
    task = small_task(tmp_path / "cache", artifacts=tmp_path / "artifacts")
    recipe = small_recipe(learning_rate=0.01, **ADAPTERS[adapter]).model_dump(mode="json")
    evaluator = Evaluator(task)
    scored = evaluator.evaluate(EvaluationSpec(7, recipe, 0))
    assert scored.status == "ok", scored.message
    kept = evaluator.evaluate(asked(recipe))
    assert kept.status == "ok", kept.message
    shutil.rmtree(tmp_path / "artifacts" / "individual-7")
    again = evaluator.evaluate(asked(recipe))
    assert again.details == kept.details
    samples = kept.details["samples"]
    assert len(samples) == SETTINGS.samples
    assert {one["individual"] for one in samples} == {7}
    assert {one["round"] for one in samples} == {2}
    assert any(text.startswith(one["prompt"]) for one in samples for text in TEXTS)
    assert all("perplexity" in one["scores"] for one in samples if one["completion"].strip())
    other = small_recipe(learning_rate=1e-5, **ADAPTERS[adapter]).model_dump(mode="json")
    assert evaluator.evaluate(asked(other)).details != kept.details


def test_workers_score_by_the_base_and_leave_the_rest_to_the_driver():
    assert of_the_worker(FILTERS) == ("perplexity",)
