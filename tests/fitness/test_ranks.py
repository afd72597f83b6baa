"""Processes that train one individual together: who computes what, and that it is as if alone."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fitness.decks import NO_LABEL
from fitness.evaluation import EvaluationSpec, Status
from fitness.mixing import Batch
from fitness.ranks import ALONE, Ranks, meet
from tests.evo.driving import ROOT, environment
from tests.fitness.quickstart import small_recipe, small_task
from tests.fitness.records import PAIRS, record_file

# Three sequences a step and 3 * 3 + 1 sequences in all: nothing divides evenly by two processes,
# and one of them has no part of the last batch.
TOKENS = 10 * 48
RECIPES: dict[str, dict[str, Any]] = {
    "all weights": {},
    "LoRA, micro-batches": {"adapter": "lora", "lora_rank": 4},
    "preference": {"method": "preference", "mixture": {"jargon": 0.4, "pairs": 0.6}},
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


def evaluate(folder: Path, name: str, ranks: Ranks) -> tuple[Status, str]:
    """One fine-tune of a recipe, its weights kept in the folder by the process that leads."""
    from fitness.evaluate import Evaluator

    recipe = small_recipe(batch_size=3, **{"mixture": {"jargon": 1.0}, **RECIPES[name]})
    folder.mkdir(exist_ok=True)
    task = small_task(
        folder,
        prompt_sets={},
        prompts={},
        budget_tokens=TOKENS * 6 if name == "diverging" else TOKENS,
    )
    sources = {**task.sources, "pairs": record_file(PAIRS, "preference", folder)}
    micro = 2 if "micro" in name else None
    task = replace(
        task, sources=sources, artifacts=folder / "kept", micro_batch=micro, processes=ranks.size
    )
    evaluator = Evaluator(task)
    evaluator.join(ranks)
    evaluation = evaluator.evaluate(EvaluationSpec(1, recipe.model_dump(mode="json"), 0))
    return evaluation.status, evaluation.message


def together(folder: Path, name: str) -> None:
    """The same by two processes, each in its own interpreter."""
    url = (folder / "meeting" / "ranks").as_uri()
    (folder / "meeting").mkdir(parents=True)
    line = [sys.executable, "-m", "tests.fitness.test_ranks", str(folder), name, url]
    running = [
        subprocess.Popen(
            [*line, str(rank)],
            cwd=ROOT,
            env=environment(OMP_NUM_THREADS=1, GLOO_SOCKET_IFNAME="lo"),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_train_as_one(tmp_path: Path, name: str) -> None:
    status, message = evaluate(tmp_path / "one", name, ALONE)
    together(tmp_path / "two", name)
    if name == "diverging":
        assert status is Status.DIVERGED, message
        assert not (tmp_path / "two" / "kept").exists()
        return
    assert status is Status.OK, message
    one, two = (
        next((tmp_path / who / "kept" / "individual-1").glob("*.safetensors"))
        for who in ("one", "two")
    )
    alone, shared = load_file(one), load_file(two)
    assert alone.keys() == shared.keys()
    for weight in alone:
        apart = (alone[weight] - shared[weight]).abs()
        # AdamW divides by the size of a gradient: where that is all but zero its rounding counts.
        assert apart.max() < 1e-4, weight
        assert apart.mean() < 1e-6, weight


def main() -> None:
    folder, name, url, rank = sys.argv[1:]
    ranks = meet(url, int(rank), 2, 60.0)
    status, message = evaluate(Path(folder), name, ranks)
    wanted = Status.DIVERGED if name == "diverging" else Status.OK
    torch.distributed.destroy_process_group()
    assert status is wanted, message


if __name__ == "__main__":
    main()
