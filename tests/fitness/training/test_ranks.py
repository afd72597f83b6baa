"""Processes that train one individual together: who computes what, and that it is as if alone."""

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fitness.evaluate.evaluator import by_several
from fitness.evaluation import Ancestor, Evaluation, EvaluationSpec, Status, Task
from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Batch
from fitness.models import weights
from fitness.training.ranks import ALONE, Parted, Ranks, meet, meeting_place
from tests.fitness.quickstart import small_recipe, small_task
from tests.fitness.records import PAIRS, record_file

# 20 steps of three draws and one step more of a single one: nothing divides evenly by two
# processes, and one of them has no part of the last batch.
TOKENS = (20 * 3 + 1) * 48
RECIPES: dict[str, dict[str, Any]] = {
    "all weights": {"clip_norm": 0.5},
    "LoRA": {"adapter": "lora", "lora_rank": 4},
    "preference": {"method": "preference", "mixture": {"jargon": 0.4, "pairs": 0.6}},
    "dropout": {"dropout": 0.1},
    "infilling": {"infill_share": 0.5},
    "diverging": {"learning_rate": 10.0, "weight_decay": 10.0, "warmup_share": 0.0},
}


def batch(rows: int) -> Batch:
    tokens = np.arange(rows * 4).reshape(rows, 4)
    labels = np.where(tokens % 3 == 0, NO_LABEL, tokens)
    return Batch(tokens, labels, tokens=rows * 4)


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
@pytest.mark.parametrize("micro", [None, 1, 3])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_each_row_is_computed_by_one_process(rows: int, micro: int | None, size: int) -> None:
    whole = batch(rows)
    parts = [part for rank in range(size) for part in Ranks(rank, size).parts(whole, micro)]
    assert sum(share for _, share in parts) == pytest.approx(1.0)
    seen = np.concatenate([part.input_ids for part, _ in parts])
    assert sorted(seen[:, 0]) == list(whole.input_ids[:, 0])
    most = max(len(list(Ranks(rank, size).parts(whole, None))) for rank in range(size))
    assert most == 1, "without micro-batches each process computes once"


def test_a_process_alone_has_all_of_a_batch_and_seeds_of_its_own() -> None:
    whole = batch(3)
    ((part, share),) = ALONE.parts(whole, None)
    assert part is whole
    assert share == 1.0
    assert ALONE.add(1.5, []) == 1.5
    assert ALONE.seed(7) == 7
    assert len({Ranks(rank, 3).seed(7) for rank in range(3)}) == 3


def task_in(folder: Path, **changes: Any) -> Task:
    task = small_task(folder, prompt_sets={}, prompts={}, budget_tokens=TOKENS)
    sources = {**task.sources, "pairs": record_file(PAIRS, "preference", folder)}
    return replace(task, sources=sources, artifacts=folder / "kept", **changes)


def specs_of(names: Sequence[str], **asked: Any) -> list[EvaluationSpec]:
    """Individual n has the n-th of all recipes."""
    recipes = {
        name: small_recipe(batch_size=3, **{"mixture": {"jargon": 1.0}, **changes})
        for name, changes in RECIPES.items()
    }
    return [
        EvaluationSpec(list(RECIPES).index(name), recipes[name].model_dump(mode="json"), 0, **asked)
        for name in names
    ]


def kept(task: Task, name: str) -> Mapping[str, torch.Tensor]:
    assert task.artifacts is not None
    folder = weights.folder_of(task.artifacts, list(RECIPES).index(name))
    return load_file(next(folder.glob("*.safetensors")))


Trained = tuple[Task, dict[str, Evaluation]]


def trained(folder: Path, **changes: Any) -> Trained:
    task = task_in(folder, **changes)
    evaluations = by_several(task, specs_of(list(RECIPES)))
    return task, dict(zip(RECIPES, evaluations, strict=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train in one process, in the same parts: AdamW amplifies rounding in its first steps."""
    return trained(tmp_path_factory.mktemp("alone"), micro_batch=2)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("both"), processes=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all weights", "LoRA", "preference", "infilling"])
def test_two_processes_train_as_one(alone: Trained, both: Trained, name: str) -> None:
    (one, by_one), (two, by_two) = alone, both
    for evaluation in (by_one[name], by_two[name]):
        assert evaluation.status is Status.OK, evaluation.message
    assert by_two[name].cost["tokens"] == by_one[name].cost["tokens"] == TOKENS
    assert by_two[name].measurements == pytest.approx(by_one[name].measurements, rel=1e-5)
    curve, same = (by[name].details["learning_curve"] for by in (by_one, by_two))
    np.testing.assert_allclose(curve, same, rtol=1e-5)
    single, shared = kept(one, name), kept(two, name)
    assert single.keys() == shared.keys()
    for weight in single:
        assert (single[weight] - shared[weight]).abs().max() < 1e-5, weight


@pytest.mark.slow
def test_each_process_has_dropout_masks_of_its_own(alone: Trained, both: Trained) -> None:
    one, two = (dict(kept(task, "dropout")) for task, _ in (alone, both))
    apart = max(float((one[weight] - two[weight]).abs().max()) for weight in one)
    assert apart > 1e-3


@pytest.mark.slow
def test_all_processes_see_a_divergence_at_the_same_step(alone: Trained, both: Trained) -> None:
    (_, by_one), (task, by_two) = alone, both
    assert by_one["diverging"].status is by_two["diverging"].status is Status.DIVERGED
    told = [by["diverging"].message.rpartition("at step")[2] for by in (by_one, by_two)]
    assert told[0] == told[1]
    assert task.artifacts is not None
    assert not weights.folder_of(task.artifacts, list(RECIPES).index("diverging")).exists()


@pytest.mark.slow
def test_paused_retried_and_stopped_fine_tunes_come_out_the_same(
    both: Trained, tmp_path: Path
) -> None:
    """Train by two processes: resumed from both states, from one of them, and stopped early."""
    task = task_in(tmp_path, processes=2)
    assert task.artifacts is not None
    (half,) = specs_of(["dropout"], fidelity=0.5, keep_state=True)
    (whole,) = specs_of(["dropout"], continue_from=0.5)
    paused, resumed = by_several(task, [half, whole])
    assert paused.status is resumed.status is Status.OK, (paused.message, resumed.message)
    assert resumed.details["continued_from"] == pytest.approx(0.5, abs=0.05)
    straight, in_parts = kept(both[0], "dropout"), kept(task, "dropout")
    assert all(in_parts[weight].equal(straight[weight]) for weight in straight)
    own = [f"state-{half.individual}-0{rank}.safetensors" for rank in ("", "-1")]
    assert {path.name for path in task.artifacts.glob("state-*")} == set(own)

    (task.artifacts / own[1]).unlink()
    patient = replace(task, patience=1, stop_on="target/loss")
    specs = specs_of(["all weights", "LoRA"])
    again, *stopped = by_several(patient, [whole, *specs])
    assert again.details["continued_from"] == 0.0
    alone = by_several(replace(patient, processes=1, artifacts=None), specs)
    for one, two in zip(alone, stopped, strict=True):
        assert two.details["best_step"] == one.details["best_step"] > 0
        assert two.cost["tokens"] == one.cost["tokens"]


@pytest.mark.slow
def test_children_of_weights_that_are_there_and_that_are_gone_begin_alike(tmp_path: Path) -> None:
    task = task_in(tmp_path, processes=2, budget_tokens=TOKENS // 4)
    recipe = small_recipe(batch_size=3, dropout=0.1).model_dump(mode="json")
    child = {**recipe, "start": "parent", "mixture": {"jargon": 1.0}}
    parent = EvaluationSpec(0, recipe, 4)
    heirs = [
        EvaluationSpec(heir, child, 5, parents=(of,), ancestors=(Ancestor(of, recipe, 4),))
        for heir, of in ((1, 0), (2, 7))
    ]
    evaluations = by_several(task, [parent, *heirs])
    assert [one.status for one in evaluations] == [Status.OK] * 3, evaluations
    assert evaluations[1].measurements == evaluations[2].measurements != evaluations[0].measurements
    assert task.artifacts is not None
    there, gone = (
        load_file(next(weights.folder_of(task.artifacts, heir).glob("*.safetensors")))
        for heir in (1, 2)
    )
    assert all(there[weight].equal(gone[weight]) for weight in there)
    assert not list(task.artifacts.glob("retrained-*"))


def summed(url: str, rank: int) -> tuple[float, list[list[float] | None], str]:
    """The sums over two processes, of which the second one leaves before the last of them."""
    ranks = meet(url, rank, 2, seconds=60.0, own_gpu=False)
    present = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    present[0].grad = torch.tensor([1.0, 2.0]) * (rank + 1)
    if rank == 0:
        present[1].grad = torch.tensor([5.0, 6.0])
    loss = ranks.add(0.25 + rank, present)
    assert ranks.all(rank * 2**40 + 1) == [1.0, 2**40 + 1.0]
    assert ranks.first(float(rank)) == 0.0
    found = [None if one.grad is None else one.grad.tolist() for one in present]
    told = ""
    if rank == 0:
        with pytest.raises(Parted) as parted:
            ranks.all(0.0)
        told = str(parted.value)
    torch.distributed.destroy_process_group()
    return loss, found, told


@pytest.mark.slow
def test_gradients_add_up_where_one_process_has_none_and_a_process_that_is_gone_is_noticed() -> (
    None
):
    url = meeting_place(None)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        first, second = pool.map(summed, [url, url], range(2))
    assert first[:2] == second[:2] == (1.5, [[3.0, 6.0], [5.0, 6.0], None])
    assert first[2].startswith("another process of this worker has ended (")
