"""A fine-tune that pauses and goes on comes out as one that never paused, to the last bit."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, Status, Task
from fitness.models import weights
from fitness.training import state
from fitness.training.state import TrainingState
from tests.fitness.models.test_weights import full_disk
from tests.fitness.quickstart import BATCH, LENGTH, evaluate

STEPS = 6
THIRD, TWO_THIRDS = 1 / 3, 2 / 3
FULL = {"learning_rate": 3e-3, "dropout": 0.3}
LORA = {"adapter": "lora", "learning_rate": 1e-2, "dropout": 0.3}


@pytest.fixture
def longer(task: Task, tmp_path: Path) -> Task:
    """Six steps, the last of them a sequence short."""
    return replace(task, budget_tokens=STEPS * BATCH * LENGTH - 20, artifacts=tmp_path)


def run(task: Task, **asked: Any) -> Evaluation:
    """On a worker of its own."""
    evaluation = evaluate(Evaluator(task), **asked)
    assert evaluation.status is Status.OK, evaluation.message
    return evaluation


def result(evaluation: Evaluation) -> tuple[Any, ...]:
    """All but the costs, and where it went on from."""
    details = {k: v for k, v in evaluation.details.items() if k != "continued_from"}
    return dict(evaluation.measurements), details


def trained(artifacts: Path, individual: int) -> dict[str, torch.Tensor]:
    (file,) = weights.folder_of(artifacts, individual).glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize(
    "recipe",
    [
        FULL,
        {**LORA, "optimizer": "adafactor"},
        {**FULL, "optimizer": "muon"},
        {**FULL, "optimizer": "adamw_8bit", "decay": "linear"},
    ],
    ids=["full", "lora by adafactor", "muon", "8 bits"],
)
def test_going_on_after_pauses_is_the_uninterrupted_run_to_the_last_bit(
    longer: Task, tmp_path: Path, recipe: dict[str, Any]
) -> None:
    before = torch.get_rng_state()
    parts = [
        run(longer, fidelity=THIRD, keep_state=True, **recipe),
        run(longer, fidelity=TWO_THIRDS, continue_from=THIRD, keep_state=True, **recipe),
        run(longer, continue_from=TWO_THIRDS, **recipe),
    ]
    at_once = [
        run(longer, individual=1, fidelity=fidelity, **recipe)
        for fidelity in (THIRD, TWO_THIRDS, 1.0)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(parts, at_once, strict=True):
        assert result(one) == result(other)
    paused, straight = trained(tmp_path, 0), trained(tmp_path, 1)
    assert paused.keys() == straight.keys()
    assert [name for name in paused if not torch.equal(paused[name], straight[name])] == []


def test_the_cost_is_of_what_was_really_done_and_the_details_say_where_it_went_on(
    longer: Task,
) -> None:
    first = run(longer, fidelity=THIRD, keep_state=True, **LORA)
    rest = run(longer, continue_from=THIRD, **LORA)
    whole = run(longer, individual=1, **LORA)
    assert first.cost["tokens"] == 2 * BATCH * LENGTH
    for name in ("tokens", "flops"):
        assert first.cost[name] + rest.cost[name] == whole.cost[name]
    assert rest.details["continued_from"] == 2 * BATCH * LENGTH / longer.budget_tokens
    assert "continued_from" not in first.details.keys() | whole.details.keys()


def test_a_lower_fidelity_is_the_first_part_of_the_full_fine_tune(longer: Task) -> None:
    part, whole = run(longer, fidelity=0.5, **FULL), run(longer, **FULL)
    curve = whole.details["learning_curve"]
    assert part.details["learning_curve"] == curve[:3]
    assert len(curve) == STEPS
    assert part.measurements != whole.measurements


def test_weights_are_kept_of_whole_fine_tunes_only(longer: Task, tmp_path: Path) -> None:
    run(longer, fidelity=TWO_THIRDS, keep_state=True, **LORA)
    assert list(tmp_path.iterdir()) == [state.file_of(tmp_path, 0, 0)]
    run(longer, continue_from=TWO_THIRDS, **LORA)
    assert weights.folder_of(tmp_path, 0).is_dir()


@pytest.mark.parametrize("loss", ["deleted", "cut off", "another machine", "another seed"])
def test_without_the_state_all_is_done_again_to_the_same_result(
    longer: Task, tmp_path: Path, loss: str
) -> None:
    run(longer, fidelity=THIRD, keep_state=True, seed=5 if loss == "another seed" else 0, **LORA)
    file = state.file_of(tmp_path, 0, 0)
    if loss == "deleted":
        file.unlink()
    elif loss == "cut off":
        file.write_bytes(file.read_bytes()[:-1000])
    elif loss == "another machine":
        longer = replace(longer, artifacts=None)
    again = run(longer, continue_from=THIRD, **LORA)
    whole = run(longer, individual=1, **LORA)
    assert result(again) == result(whole)
    assert again.details["continued_from"] == 0
    assert again.cost["tokens"] == whole.cost["tokens"]


def test_what_was_trained_before_a_worker_died_is_only_measured(longer: Task) -> None:
    """It had kept its state, and nobody heard of its result."""
    first = run(longer, fidelity=TWO_THIRDS, keep_state=True, **LORA)
    again = run(longer, fidelity=TWO_THIRDS, continue_from=THIRD, **LORA)
    assert result(again) == result(first)
    assert again.cost["tokens"] == 0


def test_a_state_beyond_the_fidelity_is_of_no_use(longer: Task) -> None:
    run(longer, fidelity=TWO_THIRDS, keep_state=True, **LORA)
    part = run(longer, fidelity=0.5, continue_from=THIRD, **LORA)
    assert part.details["continued_from"] == 0
    assert result(part) == result(run(longer, individual=1, fidelity=0.5, **LORA))


def test_a_full_disk_costs_the_state_and_not_the_evaluation(longer: Task, tmp_path: Path) -> None:
    with full_disk(10_000):
        evaluation = run(longer, fidelity=THIRD, keep_state=True, **LORA)
    assert list(tmp_path.iterdir()) == []
    assert result(evaluation) == result(run(longer, fidelity=THIRD, **LORA))


def test_a_state_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    file = state.file_of(tmp_path / "artifacts", 3, 0)
    first = TrainingState(1, 10, [(10, 2.5)], {"random.cpu": torch.get_rng_state()})
    state.keep(first, file)
    child = os.fork()
    if child == 0:  # dies at the worst moment: all is written but the name
        os.replace = lambda *paths: os._exit(9)
        state.keep(replace(first, step=2), file)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with full_disk(1_000):
        state.keep(replace(first, step=3), file)
    kept = state.load(file)
    assert kept is not None
    assert (kept.step, kept.tokens, kept.learning_curve) == (1, 10, [(10, 2.5)])
    assert torch.equal(kept.tensors["random.cpu"], first.tensors["random.cpu"])
    assert list(file.parent.iterdir()) == [file]


def test_the_states_of_one_individual_are_forgotten_and_no_others(tmp_path: Path) -> None:
    for individual, seed in ((3, 0), (3, 7), (30, 0)):
        state.keep(TrainingState(1), state.file_of(tmp_path, individual, seed))
    (tmp_path / "state-3-7.safetensors.99.partial").touch()
    (tmp_path / "individual-3").mkdir()
    state.forget(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "individual-3",
        "state-30-0.safetensors",
    ]
