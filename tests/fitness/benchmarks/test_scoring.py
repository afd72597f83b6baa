"""Scores on benchmarks equal lm-eval's own of the same model, and leave the model as it was."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from evo.significance import Result, Sample
from fitness.benchmarks.scoring import by_document, score_benchmark
from fitness.benchmarks.settings import Benchmark, HeldOutTask
from fitness.data.documents import Half
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec, Status, Task
from fitness.inference.sampling import generate
from fitness.training.supervised import Diverged
from tests.fitness.benchmarks.tasks import FOLDER, TASK, benchmark, held_out, own_task
from tests.fitness.quickstart import CORPUS, MODEL, evaluate, small_recipe, small_task

TASKS = ("which", "name", "prose")


def by_lm_eval(
    known: Mapping[str, HeldOutTask], split: Half, model: Any, **settings: Any
) -> dict[str, Any]:
    """Results of lm-eval on documents of a split, by task; of a folder or a model in memory."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    found: dict[str, Any] = simple_evaluate(
        HFLM(pretrained=model, tokenizer=load_tokenizer(MODEL), device="cpu"),
        tasks=list(known),
        samples={name: list(one.documents[split]) for name, one in known.items()},
        task_manager=TaskManager(include_path=FOLDER, include_defaults=False),
        bootstrap_iters=0,
        **settings,
    )
    return found["results"]


def with_benchmark(cache: Path, settings: Benchmark) -> Task:
    known = held_out(settings)
    return small_task(cache, benchmarks={"bench": settings}, benchmark_tasks={"bench": known})


@pytest.mark.slow
@pytest.mark.parametrize("split", ["selection", "test"])
def test_scores_are_those_of_lm_eval(split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = benchmark(*TASKS)
    known, model = held_out(settings), AutoModelForCausalLM.from_pretrained(MODEL)
    scores = score_benchmark(model, load_tokenizer(MODEL), settings, known, split, seed=0)
    monkeypatch.chdir(FOLDER)  # to which lm-eval takes paths of data to be relative
    expected = by_lm_eval(known, split, str(MODEL))
    assert set(scores) == {
        "which/acc",
        "which/acc_norm",
        "name/exact_match",
        "prose/word_perplexity",
        "prose/bits_per_byte",
    }
    for name, score in scores.items():
        task, metric = name.split("/")
        key = f"{metric},{'stripped' if task == 'name' else 'none'}"
        assert score.value == pytest.approx(expected[task][key], rel=1e-4), name


def test_examples_are_those_of_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = benchmark("name", few_shot=3, limit=8)
    known, model = held_out(settings), AutoModelForCausalLM.from_pretrained(MODEL)
    scores = score_benchmark(model, load_tokenizer(MODEL), settings, known, "test", seed=0)
    monkeypatch.chdir(FOLDER)
    expected = by_lm_eval(known, "test", str(MODEL), num_fewshot=3)
    assert scores["name/exact_match"].value == expected["name"]["exact_match,stripped"]


def test_the_noise_of_a_share_is_its_standard_error_and_bits_weigh_their_bytes() -> None:
    settings = benchmark("which", "prose", limit=24)
    known, model = held_out(settings), AutoModelForCausalLM.from_pretrained(MODEL)
    scores = score_benchmark(model, load_tokenizer(MODEL), settings, known, "test", seed=0)
    right = scores["which/acc"].sums
    assert right is not None
    assert right.mean() == scores["which/acc"].value
    error = Result((right.mean(),), Sample("document", 24, right, np.ones(24))).sample_error
    assert error == pytest.approx(right.std(ddof=1) / np.sqrt(24), rel=0.1)
    bits = scores["prose/bits_per_byte"]
    assert bits.sums is not None
    assert bits.weights is not None
    assert bits.sums.sum() / bits.weights.sum() == pytest.approx(bits.value)


def test_perplexities_of_words_have_pseudo_values_of_the_jackknife() -> None:
    from lm_eval.api.metrics import weighted_perplexity

    each = [(-30.0, 10), (-5.0, 3), (-44.0, 9)]
    values, weights = by_document(weighted_perplexity, each)
    whole = weighted_perplexity(each)
    without = [weighted_perplexity(each[:n] + each[n + 1 :]) for n in range(3)]
    assert values == pytest.approx([3 * whole - 2 * one for one in without])
    assert weights is None


def test_items_of_perplexity_are_those_of_its_loss(tmp_path: Path) -> None:
    folder = own_task(
        tmp_path,
        ("multiple_choice", "loglikelihood"),
        ("doc_to_choice: [artifact, person, plant, act]\n", ""),
        ("doc_to_target: 0", 'doc_to_target: "{{reference}}"'),
    )
    evaluator = Evaluator(with_benchmark(tmp_path, benchmark("mine", include=str(folder))))
    done = evaluate(evaluator, fidelity=0)
    sample = Sample.of(done.details, "bench/mine/perplexity")
    assert sample is not None
    assert sample.count == 4
    value = np.exp(sample.sums.sum() / sample.weights.sum())
    assert value == pytest.approx(done.measurements["bench/mine/perplexity"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_fine_tune_is_measured_and_leaves_nothing_behind(tmp_path: Path, adapter: str) -> None:
    plain = Evaluator(small_task(tmp_path))
    measured = Evaluator(with_benchmark(tmp_path, benchmark(*TASKS)))
    recipe: dict[str, Any] = {"adapter": adapter, "learning_rate": 3e-3}
    own = evaluate(plain, **recipe)
    first, second = (evaluate(measured, **recipe) for _ in range(2))
    assert first.status is Status.OK, first.message
    assert dict(first.measurements) == dict(second.measurements)
    assert {n: v for n, v in first.measurements.items() if n in own.measurements} == dict(
        own.measurements
    )
    untouched = evaluate(measured, fidelity=0).measurements
    name = "bench/prose/bits_per_byte"
    assert first.measurements[name] != untouched[name]
    assert {one for one in first.measurements if one.startswith("bench/")} == {
        one for one in untouched if one.startswith("bench/")
    }


@pytest.mark.slow
def test_a_fine_tune_may_stop_by_a_benchmark_and_trains_on_the_same_way(tmp_path: Path) -> None:
    name = "bench/prose/bits_per_byte"
    task = with_benchmark(tmp_path, benchmark("prose"))
    stopping = Evaluator(replace(task, patience=10, stop_on=name))
    stopped = evaluate(stopping, learning_rate=1e-3, dropout=0.1)
    plain = evaluate(Evaluator(task), learning_rate=1e-3, dropout=0.1)
    assert stopped.status is Status.OK, stopped.message
    curve = [loss for _, loss in stopped.details["held_out_curve"]]
    assert stopped.measurements[name] == pytest.approx(min(curve), rel=1e-5)
    assert curve[-1] == pytest.approx(plain.measurements[name], rel=1e-5)


@pytest.mark.slow
def test_members_of_a_bucket_are_measured_each(tmp_path: Path) -> None:
    evaluator = Evaluator(with_benchmark(tmp_path, benchmark(*TASKS)))
    recipes = [small_recipe(adapter="lora", learning_rate=rate) for rate in (1e-3, 9e-3)]
    specs = [
        EvaluationSpec(n, one.model_dump(mode="json"), seed=0) for n, one in enumerate(recipes)
    ]
    together = evaluator.evaluate_bucket(specs)
    for spec, done in zip(specs, together, strict=True):
        alone = evaluator.evaluate(spec).measurements
        name = "bench/prose/bits_per_byte"
        assert done.measurements[name] == pytest.approx(alone[name], rel=1e-3)
    assert len({one.measurements["bench/prose/bits_per_byte"] for one in together}) == 2


def test_mode_random_state_tokenizer_and_folder_stay_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = benchmark(*TASKS)
    known = held_out(settings)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL), load_tokenizer(MODEL)
    padding, weights = tokenizer.pad_token, {n: w.clone() for n, w in model.named_parameters()}
    before = generate(model, tokenizer, ["abbrev: n. "], max_new_tokens=8, seed=1)
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    model.train()
    state = torch.get_rng_state()
    score_benchmark(model, tokenizer, settings, known, "selection", seed=0)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert tokenizer.pad_token == padding
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())
    assert generate(model.eval(), tokenizer, ["abbrev: n. "], max_new_tokens=8, seed=1) == before
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_model_whose_likelihoods_are_no_numbers_diverged() -> None:
    settings = benchmark("which")
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    known = held_out(settings)
    with pytest.raises(Diverged, match="which: a likelihood is not a number"):
        score_benchmark(model, load_tokenizer(MODEL), settings, known, "test", seed=0)


def test_data_that_changed_since_the_launch_is_refused(tmp_path: Path) -> None:
    data = f"{CORPUS}/prompts/categories.test.jsonl"
    settings = benchmark("mine", include=str(own_task(tmp_path, (data, "data.jsonl"))))
    (tmp_path / "data.jsonl").write_bytes(Path(data).read_bytes())
    known = held_out(settings)
    text = (tmp_path / "data.jsonl").read_text("utf-8").replace("Category", "Kind")
    (tmp_path / "data.jsonl").write_text(text, encoding="utf-8")
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    with pytest.raises(InputError, match="not the documents and settings that it had"):
        score_benchmark(model, load_tokenizer(MODEL), settings, known, "test", seed=0)


def test_a_metric_that_a_task_does_not_give_is_told_with_what_it_gives(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def score(doc, results):\n    return {'right': 1.0}\n", encoding="utf-8"
    )
    own = "process_results: !function own.score\nmetric_list:\n  - metric: wrong\n"
    own += "    aggregation: mean\n    higher_is_better: true\n"
    folder = own_task(tmp_path)
    (folder / "mine.yaml").write_text(TASK + own, encoding="utf-8")
    settings = benchmark("mine", include=str(folder))
    known, model = held_out(settings), AutoModelForCausalLM.from_pretrained(MODEL)
    with pytest.raises(InputError, match="gave no number as wrong; it gave right"):
        score_benchmark(model, load_tokenizer(MODEL), settings, known, "test", seed=0)
