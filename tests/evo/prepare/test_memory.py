"""A worker's memory in a dry run, and machines that are too small for it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.prepare import memory as prediction
from evo.prepare.memory import PROCESS, memory_note, memory_warnings, needed
from evo.prepare.outlook import outlook
from evo.prepare.task import Prepared, prepare
from fitness import hardware
from fitness.errors import InputError
from tests.evo.prepare.test_outlook import SPEC

GPU = 141_000_000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    path = tmp_path_factory.mktemp("spec") / "search.yaml"
    path.write_text(SPEC)
    return path, prepare(configuration.load(path))


def of(prepared: tuple[Path, Prepared], *overrides: str, **task: Any) -> Any:
    path, ready = prepared
    config = configuration.load(path, overrides)
    values = {"micro_batch": config.resources.micro_batch, **task}
    return config, replace(ready.task, **values)


def test_the_largest_fine_tune_counts(prepared: tuple[Path, Prepared]) -> None:
    small = needed(*of(prepared))
    gene = "genome.batch_size={type: choice, options: [4, 64]}"
    large = needed(*of(prepared, gene))
    assert small is not None
    assert large is not None
    assert large.peak > 2 * small.peak
    assert large.weights == small.weights
    many = "recipe.batch_size=64"  # more than is scored at once
    plain = needed(*of(prepared, many))
    assert plain is not None
    for wider in (
        "search.bucket=4",
        "genome.dropout={type: float, low: 0, high: 0.3}",
        "model.attention=eager",
    ):
        attention = "eager" if "eager" in wider else "auto"
        wide = needed(*of(prepared, many, wider, attention=attention))
        assert wide is not None
        assert wide.peak > 1.02 * plain.peak, wider
    mild = needed(*of(prepared, "recipe.optimizer=adafactor"))
    either = "genome.optimizer={type: choice, options: [adafactor, adamw]}"
    both = needed(*of(prepared, "recipe.optimizer=adafactor", either))
    assert mild is not None
    assert both is not None
    assert mild.moments < both.moments / 10
    one = needed(*of(prepared, gene, "resources.micro_batch=auto"))
    assert one is not None
    assert one.peak < large.peak / 2


@pytest.mark.parametrize(
    ("overrides", "task"),
    [(["evaluator={command: [\"true\"]}"], {}), ([], {"model": None})],
)  # fmt: skip
def test_what_another_trainer_takes_is_not_predicted(
    prepared: tuple[Path, Prepared], overrides: list[str], task: dict[str, Any]
) -> None:
    assert needed(*of(prepared, *overrides, **task)) is None


def test_an_architecture_that_cannot_be_predicted_is_no_fault(
    prepared: tuple[Path, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise InputError("DataDependentOutputException")

    monkeypatch.setattr("fitness.evaluate.memory.predicted", unknown)
    config, task = of(prepared)
    (note,) = [n for n in outlook(config, Prepared(task, {}), memory=True).notes if "memory" in n]
    wanted = "memory of a worker: not predicted for this model, as DataDependentOutputException"
    assert note == wanted


def test_the_dry_run_says_what_a_worker_takes_beside_what_there_is(
    prepared: tuple[Path, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "available_memory", lambda: 2_000_000_000)
    config, task = of(prepared, "resources.workers=2")
    (note,) = [n for n in outlook(config, Prepared(task, {}), memory=True).notes if "memory" in n]
    wanted = r"a worker's largest fine-tune takes [\d.]+ MB \([\d.]+ MB weights, [\d.]+ MB optimis"
    assert re.search(wanted, note)
    assert note.endswith("; this machine has 2.0 GB for 2 workers")
    assert not [n for n in outlook(config, Prepared(task, {})).notes if "memory" in n]
    memory = needed(config, task)
    assert memory is not None
    assert list(memory_warnings(config, memory, 2)) == []
    monkeypatch.setattr(prediction, "available_memory", lambda: 2 * PROCESS)
    (warning,) = memory_warnings(config, memory, 2)
    assert warning.startswith("2 processes are predicted to take 1.3 GB of memory, and this machi")
    assert "set fewer resources.workers, or lower batch_size" in warning
    elsewhere = configuration.load(prepared[0], ["resources.address=auto"])
    assert list(memory_warnings(elsewhere, memory, 2)) == []
    assert "this machine" not in memory_note(elsewhere, memory, 2)


def test_a_gpu_that_is_too_small_is_refused_before_anything_starts(
    prepared: tuple[Path, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: 1)
    monkeypatch.setattr(hardware, "gpu_memory", lambda: GPU)
    config, task = of(prepared, "resources.gpus=1")
    memory = needed(config, task)
    assert memory is not None
    assert f"; a GPU here has {GPU / 1e6:.1f} MB" in memory_note(config, memory, None)
    assert memory.peak < GPU
    outlook(config, Prepared(task, {}))
    wide = "recipe.batch_size=64", "recipe.sequence_length=256"
    wanted = r"resources.gpus 0.5: a worker has 70.5 MB of a GPU, and its largest fine-tune is pre"
    config, task = of(prepared, "resources.gpus=0.5", *wide)
    with pytest.raises(InputError, match=wanted):
        outlook(config, Prepared(task, {}))
