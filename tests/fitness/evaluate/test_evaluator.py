"""One evaluation: its result depends on the spec alone, and expected failure is data."""

import gc
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from fitness.cost import Shape, training_flops
from fitness.errors import InputError
from fitness.evaluate import builtin as module
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.held_out import held_out_loss
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from fitness.models.base import Base
from fitness.training.supervised import TrainingReport
from tests.fitness.quickstart import (
    BATCH,
    LENGTH,
    MODEL,
    STEPS,
    evaluate,
    small_recipe,
    small_task,
)
from tests.randomness import global_states

VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"adapter": "lora", "learning_rate": 1e-2},
    {"dropout": 0.3},
    {"adapter": "lora", "dropout": 0.3, "lora_layers": 1},
    {"precision": "bfloat16"},
    {"adapter": "lora", "precision": "bfloat16"},
    {"fidelity": 0.0},
)


@pytest.fixture(scope="module")
def evaluator(task: Task) -> Evaluator:
    return Evaluator(task)


def found(evaluation: Evaluation) -> tuple[Any, ...]:
    """All of an evaluation that must not depend on when and where it ran."""
    assert evaluation.status is Status.OK, evaluation.message
    cost = {name: evaluation.cost[name] for name in ("tokens", "flops")}
    return dict(evaluation.measurements), dict(evaluation.details), cost


# ---------------------------------------------------------------- what comes out


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_result_depends_on_nothing_that_the_worker_did_before(task: Task, dtype: str) -> None:
    here = replace(task, dtype=dtype)
    variants = VARIANTS if dtype == "float32" else VARIANTS[:3]  # a CPU may emulate bfloat16
    fresh = [found(evaluate(Evaluator(here), **variant)) for variant in variants]
    worker = Evaluator(here)
    for variant, alone in reversed(list(zip(variants, fresh, strict=True))):
        evaluate(worker, learning_rate=10, warmup_share=0, clip_norm=0, dropout=0.5)
        assert found(evaluate(worker, **variant)) == alone
    assert len({repr(measurements) for measurements, _, _ in fresh}) == len(variants)


def test_the_seed_decides_data_and_masks(evaluator: Evaluator) -> None:
    one, again, other = (found(evaluate(evaluator, seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert one[0]["target/loss"] != other[0]["target/loss"]


def test_no_global_randomness_is_read_or_left_changed(evaluator: Evaluator) -> None:
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002 - the state that must not count
        random.seed(global_seed)
        torch_state, states = torch.get_rng_state(), global_states()
        results.append([found(evaluate(evaluator, **variant)) for variant in VARIANTS])
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert global_states() == states
    assert results[0] == results[1]


def test_no_budget_leaves_the_model_as_it_is(evaluator: Evaluator, base: Base, task: Task) -> None:
    evaluation = evaluate(evaluator, fidelity=0.0)
    wanted = held_out_loss(base.model, task.domains["target"]["selection"], LENGTH)
    assert evaluation.measurements["target/loss"] == wanted
    assert evaluation.cost["tokens"] == evaluation.cost["flops"] == 0
    assert set(evaluation.details) == {"samples", "items"}


def test_half_the_budget_is_the_first_half_of_the_steps(
    evaluator: Evaluator, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[Any], int, int]] = []

    def watch(
        model: Any, recipe: Any, batches: Any, *, steps: int, until: int, **rest: Any
    ) -> TrainingReport:
        seen.append((list(batches), steps, until))
        return TrainingReport(steps, BATCH * LENGTH)

    monkeypatch.setattr(module, "finetune", watch)
    evaluate(evaluator, batch_size=2)
    evaluate(evaluator, batch_size=2, fidelity=0.5)
    (whole, *times), (half, *half_times) = seen
    assert times == [2 * STEPS, 2 * STEPS]
    assert half_times == [2 * STEPS, STEPS]
    for one, other in zip(whole, half, strict=True):
        assert (one.input_ids == other.input_ids).all()
        assert (one.labels == other.labels).all()


def test_the_split_decides_what_is_scored_and_not_what_is_learned(evaluator: Evaluator) -> None:
    selection, test = (evaluate(evaluator, split=split) for split in ("selection", "test"))
    assert selection.details["learning_curve"] == test.details["learning_curve"]
    assert selection.measurements != test.measurements


def test_costs_and_details_say_what_was_spent_on_what(evaluator: Evaluator, task: Task) -> None:
    evaluation = evaluate(evaluator, adapter="lora")
    tokens = STEPS * BATCH * LENGTH
    assert evaluation.cost["tokens"] == tokens
    recipe = small_recipe(adapter="lora")
    assert evaluation.cost["flops"] == training_flops(Shape.of(MODEL), recipe, tokens)
    assert evaluation.cost["train_seconds"] > 0
    assert evaluation.cost["evaluate_seconds"] > 0
    assert evaluation.details["shares"] == {"jargon": 0.5, "wordnet": 0.5}
    assert evaluation.details["epochs"]["jargon"] == tokens / 2 / task.sources["jargon"].tokens
    assert evaluation.details["learning_curve"][-1][0] == tokens
    json.dumps(evaluation.fact(), allow_nan=False)


def test_nothing_is_printed(task: Task, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    worker = Evaluator(replace(task, artifacts=tmp_path))
    for variant in VARIANTS:
        evaluate(worker, **variant)
    assert capfd.readouterr() == ("", "")


CODE = """
import json, sys
from pathlib import Path
from fitness.evaluate.evaluator import Evaluator
from tests.fitness.quickstart import evaluate, small_task
from tests.fitness.evaluate.test_evaluator import VARIANTS, found
worker = Evaluator(small_task(Path(sys.argv[1])))
order = VARIANTS if sys.argv[2] == "forward" else VARIANTS[::-1]
print(json.dumps({repr(variant): found(evaluate(worker, **variant)) for variant in order}))
"""


@pytest.mark.slow
def test_two_processes_find_the_same_to_the_last_bit(tmp_path: Path) -> None:
    small_task(tmp_path)
    root = Path(__file__).parents[3]
    results = []
    for hash_seed, order in (("1", "forward"), ("2", "backward")):
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(tmp_path), order],
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=400,
            check=True,
        )
        results.append(json.loads(done.stdout))
    assert len(results[0]) == len(VARIANTS)
    assert results[0] == results[1]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_evaluations(task: Task, tmp_path: Path) -> None:
    worker = Evaluator(replace(task, budget_tokens=2 * BATCH * LENGTH, artifacts=tmp_path))
    process = psutil.Process()

    def round_of_ten() -> int:
        for place in range(10):
            variant = VARIANTS[place % len(VARIANTS)]
            assert evaluate(worker, individual=place, **variant).status is Status.OK
        gc.collect()
        return process.memory_info().rss

    def tensors_alive() -> int:
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    before = max(round_of_ten() for _ in range(2))
    tensors = tensors_alive()
    after = min(round_of_ten() for _ in range(3))  # the allocator gives back and takes 20 MiB
    assert tensors_alive() == tensors
    assert after - before < 16 * 2**20  # one copy of weights, gradients and moments is 7 MiB


# ---------------------------------------------------------------- failure as data


def test_a_rate_of_ten_is_recorded_as_diverged(evaluator: Evaluator) -> None:
    settings = {"learning_rate": 10, "warmup_share": 0, "clip_norm": 0, "batch_size": 1}
    evaluation = evaluate(evaluator, **settings)
    assert evaluation.status is Status.DIVERGED
    assert evaluation.measurements == {}
    assert evaluation.message.startswith("loss ")


def test_a_loss_too_large_for_a_perplexity_is_recorded_as_diverged(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fitness.evaluate.held_out._loss_and_items", lambda *arguments: (800.0, {}))
    evaluation = evaluate(evaluator)
    assert evaluation.status is Status.DIVERGED
    assert evaluation.message == "target/perplexity is inf"


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"mixture": {"jargon": 1.0}, "learning_rate": -1}, "learning_rate"),
        ({"mixture": {"jargon": 1.0}, "lerning_rate": 1}, "lerning_rate"),
        ({"mixture": {"nowhere": 1.0}}, "no source 'nowhere'"),
        ({"mixture": {"jargon": 1.0}, "sequence_length": 10**6}, "do not fill one sequence"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_an_error(
    evaluator: Evaluator, recipe: dict[str, Any], told: str
) -> None:
    evaluation = evaluator.evaluate(EvaluationSpec(0, recipe, seed=0))
    assert evaluation.status is Status.ERROR
    assert told in evaluation.message


def test_a_recipe_without_a_source_is_infeasible(evaluator: Evaluator) -> None:
    evaluation = evaluator.evaluate(EvaluationSpec(0, {"mixture": {}}, seed=0))
    assert evaluation.status is Status.INFEASIBLE
    assert "supervised learns from none of the sources" in evaluation.message


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_leaves_the_worker_as_it_was(
    evaluator: Evaluator, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = found(evaluate(evaluator))
    train = module.finetune

    def dying(*arguments: Any, **settings: Any) -> None:
        train(*arguments, **settings)
        raise error

    monkeypatch.setattr(module, "finetune", dying)
    for adapter in ("none", "lora"):
        evaluation = evaluate(evaluator, adapter=adapter)
        assert evaluation.status is Status.OUT_OF_MEMORY
    monkeypatch.undo()
    assert found(evaluate(evaluator)) == before


def test_memory_that_torch_cannot_get_is_recorded(evaluator: Evaluator, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "finetune", lambda *arguments, **settings: torch.empty(2**55))
    assert evaluate(evaluator).status is Status.OUT_OF_MEMORY


def test_any_message_can_be_written_down() -> None:
    message = failed(EvaluationSpec(0, {}, seed=0), Status.ERROR, "x" * 5000 + "caf\udce9").message
    assert len(message) == 2000
    assert message.encode().endswith(b"xcaf?")


def test_the_builtin_evaluator_needs_a_model() -> None:
    with pytest.raises(InputError, match=r"needs `model\.base`"):
        Evaluator(Task("builtin"))


# ---------------------------------------------------------------- one's own evaluator


def custom(name: str) -> Evaluation:
    return Evaluator(Task(f"{__name__}:{name}")).evaluate(
        EvaluationSpec(7, {"rate": 0.5}, seed=3, fidelity=0.25, split="test")
    )


def told_all(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, Any]:
    numbers = {"rate": recipe["rate"], "seed": seed, "fidelity": fidelity}
    return {**numbers, "split": np.float32(len(split))}


def returns_a_number(recipe: Any, **asked: Any) -> Any:
    return 3.0


def returns_nothing(recipe: Any, **asked: Any) -> Any:
    return None


def returns_text(recipe: Any, **asked: Any) -> Any:
    return {"loss": "3.0"}


def returns_a_list(recipe: Any, **asked: Any) -> Any:
    return {"loss": [3.0]}


def returns_none_for_one(recipe: Any, **asked: Any) -> Any:
    return {"loss": 3.0, "quality": None}


def returns_true(recipe: Any, **asked: Any) -> Any:
    return {"loss": True}


def returns_a_tensor(recipe: Any, **asked: Any) -> Any:
    return {"loss": torch.tensor([1.0])}


def takes_too_little(recipe: Any) -> Any:
    return {"loss": 1.0}


def raises_an_error(recipe: Any, **asked: Any) -> Any:
    raise ZeroDivisionError("on purpose")


def raises_unprintable(recipe: Any, **asked: Any) -> Any:
    raise FileNotFoundError("caf\udce9.txt")


def exits(recipe: Any, **asked: Any) -> Any:
    sys.exit("no such data")


def runs_out_of_memory(recipe: Any, **asked: Any) -> Any:
    raise torch.OutOfMemoryError("Tried to allocate 2 GiB")


def diverges(recipe: Any, **asked: Any) -> Any:
    return {"quality": 1.0, "loss": float("nan")}


def explodes(recipe: Any, **asked: Any) -> Any:
    return {"loss": float("-inf")}


def is_interrupted(recipe: Any, **asked: Any) -> Any:
    raise KeyboardInterrupt


def test_an_evaluator_of_one_s_own_is_told_all_and_its_numbers_are_taken() -> None:
    evaluation = custom("told_all")
    assert evaluation.status is Status.OK
    assert evaluation.measurements == {"rate": 0.5, "seed": 3, "fidelity": 0.25, "split": 4}
    assert {type(value) for value in evaluation.measurements.values()} == {float}
    assert evaluation.cost["train_seconds"] >= 0


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("returns_a_number", Status.ERROR, "must return a dict of numbers, got 3.0"),
        ("returns_nothing", Status.ERROR, "must return a dict of numbers, got None"),
        ("returns_text", Status.ERROR, "must return numbers, got loss='3.0'"),
        ("returns_a_list", Status.ERROR, "must return numbers, got loss=[3.0]"),
        ("returns_none_for_one", Status.ERROR, "must return numbers, got quality=None"),
        ("returns_true", Status.ERROR, "must return numbers, got loss=True"),
        ("returns_a_tensor", Status.ERROR, "must return numbers, got loss=tensor([1.])"),
        ("takes_too_little", Status.ERROR, "unexpected keyword argument"),
        ("raises_an_error", Status.ERROR, "ZeroDivisionError: on purpose"),
        ("raises_unprintable", Status.ERROR, "FileNotFoundError: caf?.txt"),
        ("exits", Status.ERROR, "SystemExit: no such data"),
        ("runs_out_of_memory", Status.OUT_OF_MEMORY, "Tried to allocate 2 GiB"),
        ("diverges", Status.DIVERGED, "loss is nan"),
        ("explodes", Status.DIVERGED, "loss is -inf"),
    ],
)
def test_what_an_evaluator_of_one_s_own_does_wrong_is_recorded(
    name: str, status: Status, told: str
) -> None:
    evaluation = custom(name)
    assert evaluation.status is status
    assert told in evaluation.message
    assert evaluation.measurements == {}
    json.dumps(evaluation.fact(), ensure_ascii=False, allow_nan=False).encode()


def test_an_interrupt_is_nobody_s_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        custom("is_interrupted")


def test_an_evaluator_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"test_evaluator has no 'told_al'"):
        Evaluator(Task("tests.fitness.evaluate.test_evaluator:told_al"))
