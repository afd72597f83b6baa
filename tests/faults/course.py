"""One course of events: a search launched, disturbed and resumed until it is done, then judged."""

import json
import math
import os
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evo import history, run
from evo.cluster.connection import ClusterError
from evo.config import SearchConfig
from evo.record import ledger
from evo.record.facts import Facts
from evo.reuse.earlier import Earlier, read_for
from fitness.errors import InputError
from tests.faults.driver import Watch, Watching, configured, installed, rooms, with_resources
from tests.faults.fake_ray import FakeRay
from tests.faults.searches import SEARCHES
from tests.faults.world import Died, Weather, World

CALM = Weather()
MOST_DRIVERS = 40  # of one course, before it counts as never ending; half of them disturbed
EVENTS = 300  # the last ones of a course, that a failure prints
READ = 0.03  # share of the interrupted ledgers from which tables are made
TIMES = ("time", "started", "finished", "worker", "cost")
FOUND = ("individual", "repeat", "evaluation", "simulation", "winner", "control", "imported")
LEFT = ("*.partial", "retrained-*", "state-*", "now.json", "launch.*")
MACHINES = ((12,), (4, 4), (4, 2, 4))  # places for workers on each


class Broken(AssertionError):
    """A course of events that broke a promise."""


def weather_of(rng: random.Random) -> Weather:
    """Faults of a course: each kind is absent in about half of them, so that none hides another."""

    def perhaps(*most: float) -> float:
        return rng.choice((0.0, 0.0, *most))

    return Weather(
        kills=rng.choice((0, 1, 2, 4, 6)),
        crashes=rng.choice((0.0, 0.5, 1.0)),
        disk=rng.choice((0, 0, 1, 3)),
        disk_rate=rng.choice((0.002, 0.02, 0.2)),
        clock=perhaps(0.02, 0.2),
        stops=perhaps(0.001, 0.005),
        dying=perhaps(0.1, 0.4),
        failing=perhaps(0.02, 0.1),
        nodes=perhaps(0.001, 0.01),
        broken=perhaps(0.001),
        orphans=perhaps(0.5),
        slowest=rng.choice((1.0, 3.0, 20.0)),
    )


@dataclass(frozen=True)
class Result:
    """A finished course: findings without times, checkpoints by individual, steps of drivers."""

    found: list[str]
    checkpoints: Mapping[str, float]
    steps: int


class Course:
    """A course of events of one search, in a folder of its own."""

    def __init__(
        self,
        name: str,
        folder: Path,
        seed: object,
        weather: Weather,
        lifetimes: Sequence[float] = (),
    ) -> None:
        self._search, self._weather = SEARCHES[name], weather
        after = self._search.after
        self._config = configured(name)
        self._before = [undisturbed(after)[0]] if after else []
        self.run = folder / "run"
        self.world = World(seed, self.run, weather)
        self._rng = self.world.rng
        self._watch = Watch()
        self._whole = b""  # of the ledger, that no power cut may change any more
        self._drivers = 0
        self._lifetimes = list(lifetimes)  # of the first drivers, in steps
        self._orphans: list[Callable[[], object]] = []

    def complete(self, expected_steps: int = 0) -> Result:
        """Launch, and resume until the search is done. Raises Broken."""
        finished = False
        while not finished:
            self._drivers += 1
            if self._drivers > MOST_DRIVERS:
                raise Broken(f"not finished after {MOST_DRIVERS} drivers")
            finished = self._driven(self._lifetime(expected_steps))
            self._check_ledger()
        return self._result()

    def counts(self) -> dict[str, int]:
        """Number of drivers, and of the other faults that happened."""
        return {"drivers": self._drivers, **self.world.happened}

    def _lifetime(self, expected: int) -> float:
        """Steps of the next driver, of `expected` if it is undisturbed; half of them few."""
        if self._lifetimes:
            return self._lifetimes.pop(0)
        if self._drivers > self._weather.kills:
            return math.inf
        if self._rng.random() < 0.5:
            return self._rng.randrange(max(1, expected))
        return float(round(math.exp(self._rng.uniform(0, math.log(max(2, expected))))))

    def _driven(self, steps: float) -> bool:
        """Run one driver to its end, whichever that is; True if the search is done."""
        world = self.world
        world.weather = self._weather if self._drivers <= MOST_DRIVERS / 2 else CALM
        world.start_driver(steps)
        ray = FakeRay(world, self._rng.choice(MACHINES))
        for orphan in self._orphans:
            ray.at(self._rng.uniform(0, 5), orphan)
        self._orphans, finished = [], False
        harsh = self._search.harsh
        with world.installed(), ray.installed(), installed(world, self._watch, harsh=harsh):
            try:
                finished = self._launched_or_resumed(len(ray.machines))
            except Died:
                self._orphans = ray.orphans()
            except (ClusterError, OSError) as error:
                world.note(f"ended: {error}")
            except InputError as error:
                if not str(error).startswith("cannot make the run folder"):
                    raise
                world.note(f"ended: {error}")
        if world.driver.dead:
            world.bury(power_cut=world.chance(self._weather.crashes))
        return finished

    def _launched_or_resumed(self, machines: int) -> bool:
        resumes = (self.run / ledger.FILE).exists()
        workers = self._rng.randint(1, 4) if resumes else 2
        where = "local" if machines == 1 else "auto"
        more = [f"resources.workers={workers}", f"resources.address={where}"]
        self.world.note(f"{'resumed' if resumes else 'launched'} with {', '.join(more)}")
        config = with_resources(self._config, more)
        with self._watching(config) as watch:
            if resumes:
                resumed = run.reloaded(self.run, ledger.read(self.run), more)
                return run.continue_search(self.run, resumed, watch)
            return run.launch(config, self.run, watch, earlier=self._earlier(config))

    def _watching(self, config: SearchConfig) -> Watching:
        watching = Watching(config, self.run, "plain")
        watching.watch = self._watch
        return watching

    def _earlier(self, config: SearchConfig) -> list[Earlier]:
        return read_for(config, self._before)

    def _check_ledger(self) -> None:
        """Check that the ledger has all that it had before, and what its driver had written."""
        path = self.run / ledger.FILE
        content = path.read_bytes() if path.exists() else b""
        self._check(content.startswith(self._whole), "lines of the ledger have changed")
        self._whole = content[: min(content.rfind(b"\n") + 1, self.world.synced(path))]
        self._check(not self._watch.again, "; ".join(self._watch.again))
        if not content:
            self._check(not self._watch.written, "the ledger is gone")
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                facts = ledger.read(self.run)
            except InputError as error:
                raise Broken(f"the ledger cannot be read: {error}") from None
            if self.world.chance(READ):
                history.status(facts)
                history.table(facts)
        self._check(len(facts) >= self._watch.written, "facts that were written are not there")
        self._watch.done.clear()
        self._watch.rest.clear()
        for fact in facts:
            self._watch.records(fact)
        self._watch.written = self._whole.count(b"\n")

    def _check_complete(self, facts: Facts) -> None:
        """Check that all that was decided has a result, and a finished search evaluates no more."""
        decided = {fact["id"] for fact in facts if fact["fact"] == "individual"}
        evaluated = {fact["individual"] for fact in facts if fact["fact"] == "evaluation"}
        self._check(decided <= evaluated, f"without a result: {decided - evaluated}")
        self._check(facts[-1]["fact"] == "finished", "it does not end as finished")
        self._check("winner" in {fact["fact"] for fact in facts}, "it has no winner")
        before, self._weather = self._watch.calls, CALM
        self._check(self._driven(math.inf), "a finished search does not resume as finished")
        self._check(self._watch.calls == before, "a finished search evaluates")

    def _check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Broken(otherwise)

    def _result(self) -> Result:
        facts = ledger.read(self.run)
        found = [
            {name: value for name, value in fact.items() if name not in TIMES}
            for fact in facts
            if fact["fact"] in FOUND
        ]
        self._check_complete(facts)
        left = [path.name for name in LEFT for path in self.run.rglob(name)]
        self._check(not left, f"left behind: {', '.join(left)}")
        checkpoints = {
            folder.name: float(json.loads((folder / "config.json").read_text())["weight"])
            for folder in (self.run / "artifacts").glob("individual-*")
        }
        return Result(
            sorted(json.dumps(one, sort_keys=True) for one in found),
            checkpoints,
            self.world.steps,
        )


@cache
def undisturbed(name: str) -> tuple[Path, Result]:
    """Run folder and result of a search without faults, once for this process."""
    folder = rooms() / f"{os.getpid()}-{name}"
    course = Course(name, folder, "calm", CALM)
    return course.run, course.complete()


def judged(seed: int, folder: Path) -> Course:
    """Run the course of a seed, which picks a search and its faults; see `compared`."""
    rng = random.Random(seed)
    [name] = rng.choices(list(SEARCHES), [search.weight for search in SEARCHES.values()])
    return compared(name, weather_of(rng), seed, folder)


def compared(name: str, weather: Weather, seed: int, folder: Path, *lifetimes: float) -> Course:
    """Run a course, whose first drivers may have given lifetimes, and compare it with none.

    Raises Broken, with the events, if they differ or anything fails on the way.
    """
    _, wanted = undisturbed(name)
    course = Course(name, folder, seed, weather, lifetimes)
    try:
        _compare(course, course.complete(wanted.steps), wanted, ordered=SEARCHES[name].ordered)
    except Exception as error:
        events = "\n".join(course.world.events[-EVENTS:])
        raise Broken(f"seed {seed}, {name}: {error!r}\n{events}") from error
    return course


def _compare(course: Course, result: Result, wanted: Result, *, ordered: bool) -> None:
    if not ordered:
        return
    missing = sorted(set(wanted.found) - set(result.found))
    more = sorted(set(result.found) - set(wanted.found))
    if missing or more:
        raise Broken(f"another search: without {missing[:2]}, but with {more[:2]}")
    lost = course.world.checkpoint_errors > 0
    for name in sorted({*wanted.checkpoints, *result.checkpoints}):
        there, expected = result.checkpoints.get(name), wanted.checkpoints.get(name)
        if there != expected and not (there is None and lost):
            raise Broken(f"checkpoint {name}: {there} in place of {expected}")
