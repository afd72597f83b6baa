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
from tests.fitness.inference.serving import vllm
from tests.fitness.quickstart import small_recipe, small_task
from tests.fitness.records import record_file

SETTINGS = Generation(samples=5, max_new_tokens=8)
TEXTS = ("a bug in the program that nobody could find", "the hacker wrote a new program at night")
ADAPTERS = {
    "none": {},
    "lora": {"adapter": "lora", "lora_rank": 4},
    "dora": {"adapter": "dora", "lora_rank": 4},
}


def asked(recipe: dict[str, object]) -> EvaluationSpec:
    writing = Writing(SETTINGS, round=2, real=TEXTS, filters=("perplexity",))
    ancestors = (Ancestor(7, recipe, 0),)
    spec = EvaluationSpec(7, recipe, 3, split="samples", parents=(7,), ancestors=ancestors)
    return replace(spec, writing=writing)


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


def greedy(spec: EvaluationSpec, seed: int = 3) -> EvaluationSpec:
    assert spec.writing is not None
    settings = SETTINGS.model_copy(update={"temperature": 0.0})
    return replace(spec, writing=replace(spec.writing, settings=settings), seed=seed)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_server_generates_for_the_base_and_for_lora_what_the_worker_would(
    adapter: str, tmp_path: Path
):
    recipe = small_recipe(learning_rate=0.01, **ADAPTERS[adapter]).model_dump(mode="json")
    alone = small_task(tmp_path / "cache", artifacts=tmp_path / "artifacts")
    worker = Evaluator(alone)
    assert worker.evaluate(EvaluationSpec(7, recipe, 0)).status == "ok"
    of_base = replace(greedy(asked({})), individual=0, parents=(), ancestors=(), fidelity=0.0)
    with vllm() as served:
        serving = Evaluator(replace(alone, server=served.url))
        for spec, lent in ((greedy(asked(recipe)), adapter == "lora"), (of_base, True)):
            wanted, found = (one.evaluate(spec) for one in (worker, serving))
            assert found.status == "ok", found.message
            assert found.details["samples"] == wanted.details["samples"]
            assert found.details.get("server") == (served.url if lent else None)
        assert served.loaded == {}
        assert len(served.seen) == (adapter == "lora")


def test_where_a_server_fails_the_worker_generates_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fitness.inference.connection.FIRST_PAUSE", 0)
    recipe = small_recipe(adapter="lora", lora_rank=4).model_dump(mode="json")
    alone = small_task(tmp_path / "cache", artifacts=tmp_path / "artifacts")
    wanted = Evaluator(alone).evaluate(asked(recipe))
    with vllm() as served:
        serving = Evaluator(replace(alone, server=served.url))
        served.down = True
        found = serving.evaluate(asked(recipe))
        assert found.details["samples"] == wanted.details["samples"]
        assert "no answer in 2 attempts" in found.details["server"]
        served.down, served.shift = False, -2.0
        found = serving.evaluate(asked(recipe))
        assert found.details["samples"] == wanted.details["samples"]
        assert "serve model.base there" in found.details["server"]
        served.shift, served.instead = 0.0, {"token_ids": [-1]}
        found = serving.evaluate(asked(recipe))
        assert found.details["samples"] == wanted.details["samples"]
        assert "answered [-1]" in found.details["server"]


def test_answers_that_are_reinforced_come_from_the_server_with_the_adapter_of_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fitness.inference.connection.FIRST_PAUSE", 0)
    records = [{"prompt": text, "reference": ""} for text in TEXTS]
    more = {"sources": {"asked": record_file(records, "prompt", tmp_path)}, "budget_tokens": 400}
    task = small_task(tmp_path / "cache", artifacts=tmp_path / "artifacts", **more)
    recipe = small_recipe(
        method="reinforce",
        mixture={"asked": 1.0},
        adapter="lora",
        lora_rank=4,
        learning_rate=0.01,
        reinforce_new_tokens=8,
        reinforce_group=2,
        batch_size=2,
    )
    with vllm() as served:
        evaluator = Evaluator(replace(task, server=served.url))
        found = evaluator.evaluate(EvaluationSpec(1, recipe.model_dump(mode="json"), 0))
        assert found.status == "ok", found.message
        assert found.details["server"] == served.url
        assert len(set(served.seen)) == len(served.seen) >= 2, "each step has weights of its own"
        assert served.loaded == {}
        served.down = True
        before = len(served.asked)
        found = evaluator.evaluate(EvaluationSpec(2, recipe.model_dump(mode="json"), 0))
        assert found.status == "ok", found.message
        assert "no answer in 2 attempts" in found.details["server"]
        assert len(served.asked) == before + 4, "to load and unload, twice each, in the first step"
    assert not list((tmp_path / "artifacts").glob("served-*"))


def test_workers_score_by_the_base_and_leave_the_rest_to_the_driver():
    assert of_the_worker(FILTERS) == ("perplexity",)
