"""Sharded fine-tunes: equal to those of one process up to rounding, and resumed exactly."""

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fitness.evaluate.evaluator import by_several
from fitness.evaluation import Status
from fitness.mixture.decks import Draw, Sequence
from fitness.mixture.mixing import Batch
from fitness.training.sharding import ShardedRanks, as_part_of, own_part, whole
from tests.fitness.training.test_ranks import batch, kept, specs_of, task_in

NAMES = ("all weights", "LoRA", "preference", "dropout", "diverging")


def records(use: str, count: int) -> tuple[Draw, ...]:
    one = Sequence(np.array([1, 2]), np.array([1, 2]))
    return tuple(Draw(use, "source", number, (one, one), 0) for number in range(count))


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("others", [(0, 0), (1, 0), (4, 3)])
@pytest.mark.parametrize("micro", [None, 1])
@pytest.mark.parametrize("size", [2, 3])
def test_all_processes_compute_the_same_uses_at_the_same_time(
    rows: int, others: tuple[int, int], micro: int | None, size: int
) -> None:
    compared, rated = others
    plain = batch(rows)
    mixed = (*records("compare", compared), *records("rate", rated))
    given = Batch(plain.input_ids, plain.labels, tokens=rows * 4, others=mixed)
    found = [list(ShardedRanks(rank, size).parts(given, micro)) for rank in range(size)]
    for parts in zip_longest(*found):
        assert None not in parts, "a process would wait for one that has no part"
        assert len({part.others[0].use if part.others else "" for part, _ in parts}) == 1
    counted = [one for parts in found for one in parts if one[1]]
    assert sum(share for _, share in counted) == pytest.approx(1.0)
    assert sum(part.sequences for part, _ in counted) == given.sequences


def test_a_tensor_that_is_not_sharded_is_its_own_part() -> None:
    weight, state = torch.ones(3), torch.arange(3.0)
    assert whole(weight) is own_part(weight) is weight
    copied = as_part_of(weight, state)
    assert copied.equal(state)
    assert copied is not state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "rows", "names", "more"),
    [
        (2, 2, NAMES, {}),
        (3, 1, ("all weights", "dropout"), {"patience": 2, "stop_on": "target/loss"}),
    ],
)
def test_sharded_fine_tunes_equal_those_of_one_process(
    size: int, rows: int, names: tuple[str, ...], more: dict[str, Any], tmp_path: Path
) -> None:
    """One process computes in the same parts: AdamW amplifies rounding in its first steps."""
    one, many = (
        task_in(tmp_path / "one", micro_batch=rows, **more),
        task_in(tmp_path / "many", processes=size, sharding="full", **more),
    )
    specs = specs_of(names)
    for name, alone, shared in zip(
        names, by_several(one, specs), by_several(many, specs), strict=True
    ):
        assert shared.status is alone.status, shared.message
        if name == "diverging":
            assert shared.message.rpartition("at step")[2] == alone.message.rpartition("at step")[2]
            continue
        if name == "dropout":  # each process has masks of its own, and none are scored with
            best = [loss for _, loss in shared.details.get("held_out_curve", [])]
            assert shared.measurements["target/loss"] == min(
                best, default=shared.measurements["target/loss"]
            )
            continue
        assert shared.cost["tokens"] == alone.cost["tokens"]
        assert shared.measurements == pytest.approx(alone.measurements, rel=1e-5)
        assert shared.details.get("best_step") == alone.details.get("best_step")
        np.testing.assert_allclose(
            shared.details["learning_curve"], alone.details["learning_curve"], rtol=1e-5
        )
        single, of_all = kept(one, name), kept(many, name)
        assert single.keys() == of_all.keys()
        for weight in single:
            assert (single[weight] - of_all[weight]).abs().max() < 1e-5, (name, weight)


@pytest.mark.slow
def test_a_sharded_fine_tune_resumes_exactly_from_the_parts_of_all_processes(
    tmp_path: Path,
) -> None:
    task = task_in(tmp_path, processes=2, sharding="full")
    assert task.artifacts is not None
    (straight,) = specs_of(["dropout"])
    (half,) = specs_of(["dropout"], fidelity=0.5, keep_state=True)
    (rest,) = specs_of(["dropout"], continue_from=0.5)
    at_once, paused, resumed = by_several(task, [replace(straight, individual=9), half, rest])
    assert [one.status for one in (at_once, paused, resumed)] == [Status.OK] * 3, resumed.message
    assert resumed.details["continued_from"] == pytest.approx(0.5, abs=0.05)
    assert resumed.measurements == at_once.measurements

    sizes = [path.stat().st_size for path in task.artifacts.glob("state-*")]
    assert len(sizes) == 2
    model = sum(weight.numel() * 4 for weight in kept(task, "dropout").values())
    assert max(sizes) < 0.6 * 3 * model, "half of the weights and of both moments"
