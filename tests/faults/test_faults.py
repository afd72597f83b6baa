"""Faults by simulation: any course of events ends in the undisturbed search.

`make faults` tries many more seeds than the suite.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from evo import config as configuration
from evo.cluster.queue import Cluster
from evo.config import SearchConfig
from evo.record import run_folder
from evo.record.artifacts import Artifacts
from evo.search.jobs import key_of
from evo.search.requests import Requests
from fitness.evaluation import Evaluation, EvaluationSpec, Status, failed
from fitness.facts import FactFile, as_lines
from fitness.merging import lineage
from tests.faults.course import Broken, compared, judged, undisturbed
from tests.faults.driver import MEMORY
from tests.faults.world import Weather

SEEDS = 500
EACH = 25  # seeds of a test, so that several processes share them
STRIDE = 11  # steps between those at which drivers die, one after the other


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where there is such a file system: a disk would take most of the time."""
    with TemporaryDirectory(prefix="faults-", dir=MEMORY) as name:
        yield Path(name)


@pytest.mark.parametrize("first", range(0, SEEDS, EACH))
def test_any_course_of_events_ends_in_the_undisturbed_search(first: int, folder: Path) -> None:
    for seed in range(first, first + EACH):
        judged(seed, folder / str(seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clock", "rungs", "inheritance", "buckets in generations"])
def test_a_driver_that_dies_at_any_step_ends_in_the_undisturbed_search(
    name: str, folder: Path
) -> None:
    for step in range(0, undisturbed(name)[1].steps, STRIDE):
        compared(name, Weather(crashes=0.5), step, folder / str(step), step)


def test_a_clock_that_is_set_back_leaves_a_ledger_that_can_be_read(folder: Path) -> None:
    """Seconds of evaluations, by the difference of its times, became negative."""
    for seed in range(4):
        compared("clock", Weather(clock=0.2), seed, folder / str(seed))


def test_a_launch_that_cannot_write_its_spec_is_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, full = configuration.write_config, [OSError(errno.ENOSPC, "no room")]

    def fails_once(config: SearchConfig, path: Path) -> None:
        if full:
            raise full.pop()
        write(config, path)

    undisturbed("random")
    monkeypatch.setattr(configuration, "write_config", fails_once)
    compared("random", Weather(), 0, folder)


def without_sync(self: FactFile, *facts: Mapping[str, Any]) -> None:
    os.write(self._file, as_lines(facts))


def with_torn_tail(self: FactFile, path: Path, whole: int) -> None:
    self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)


def queued_twice(self: Cluster, *specs: EvaluationSpec) -> None:
    self._queue.extend([(specs, 1), (specs, 1)])


def lost_for_good(self: Cluster, worker: Any, why: str) -> list[Evaluation]:
    return [failed(spec, Status.LOST, why) for spec in worker.specs]


def only_the_missing(self: Requests, *jobs: Any) -> None:
    specs = [spec for job in jobs if (spec := self._unshared(job)) is not None]
    for bucket in [specs] if len(specs) == 1 else self._buckets(specs):
        if missing := [spec for spec in bucket if key_of(spec) not in self.results]:
            self._cluster.submit(*missing)


def from_scratch(ancestor: Any, *arguments: Any, train: Any = lineage._train_again) -> None:
    train(replace(ancestor, parents=()), *arguments)


def nothing(*_: Any) -> None:
    """In place of what mends or cleans up."""


@dataclass(frozen=True)
class Mutation:
    """A way to break the product, and the weather in which a search shows it."""

    owner: Any
    name: str
    broken: Callable[..., Any]
    search: str
    weather: Weather


KILLS = Weather(kills=19)
MUTATIONS: Mapping[str, Mutation] = {
    "facts are not synced": Mutation(
        FactFile, "append", without_sync, "clock", Weather(kills=6, crashes=1)
    ),
    "a torn tail is not cut": Mutation(FactFile, "__init__", with_torn_tail, "random", KILLS),
    "an evaluation stays in the queue": Mutation(
        Cluster, "submit", queued_twice, "generations", Weather()
    ),
    "a lost evaluation is not tried again": Mutation(
        Cluster, "_lost", lost_for_good, "cmaes", Weather(dying=0.3)
    ),
    "an idle worker of a lost machine evaluates": Mutation(
        Cluster, "_check_idle", nothing, "random", Weather(nodes=0.05)
    ),
    "a bucket is resumed without those that are done": Mutation(
        Requests, "request", only_the_missing, "buckets in generations", KILLS
    ),
    "checkpoints of a bucket that was trained again stay": Mutation(
        Artifacts, "tidy", nothing, "buckets", KILLS
    ),
    "lost ancestors are trained again from the base": Mutation(
        lineage,
        "_train_again",
        from_scratch,
        "inheritance",
        Weather(kills=2, disk=40, disk_rate=0.2),
    ),
    "temporary folders of dead workers stay": Mutation(
        Artifacts,
        "_delete_abandoned",
        nothing,
        "inheritance",
        Weather(disk=20, disk_rate=0.2, dying=0.5),
    ),
    "unfinished files of killed drivers stay": Mutation(
        run_folder, "tidy", nothing, "clock", KILLS
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_simulation_finds_what_breaks_the_promise(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = MUTATIONS[name]

    def keeps_it(seed: int) -> bool:
        try:
            compared(one.search, one.weather, seed, folder / f"{seed}")
        except Broken:
            return False
        finally:
            shutil.rmtree(folder / f"{seed}")
        return True

    undisturbed(one.search)
    with monkeypatch.context() as mutated:
        mutated.setattr(one.owner, one.name, one.broken)
        failing = next((seed for seed in range(12) if not keeps_it(seed)), None)
    assert failing is not None
    assert keeps_it(failing)
