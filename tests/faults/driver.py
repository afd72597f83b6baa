"""A driver without models and data: synthetic evaluations, and specs that are quick to read."""

import atexit
import contextlib
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from evo import config as configuration
from evo.config import SearchConfig
from evo.planning.experts import settled
from evo.prepare.outlook import Outlook
from evo.prepare.task import Prepared, versions
from evo.progress.live import Progress
from evo.record.facts import Line
from evo.search.jobs import Key, key_of
from fitness.evaluation import EvaluationSpec
from fitness.training.ranks import Ranks
from tests.faults.fake_ray import ORPHAN
from tests.faults.searches import SEARCHES, task_of, written
from tests.faults.synthetic import Synthetic
from tests.faults.world import World

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # to write to, in place of a disk
VERSIONS = cache(versions)


@dataclass
class Watch:
    """Evaluations as they happen: those that have a result may not be evaluated again."""

    done: set[Key] = field(default_factory=set)
    again: list[str] = field(default_factory=list)
    rest: set[Key] = field(default_factory=set)  # begun in a bucket, by this driver
    calls: int = 0
    written: int = 0  # facts that the ledger has taken, as its driver believes

    def begins(self, specs: Sequence[EvaluationSpec]) -> None:
        self.calls += len(specs)
        keys = [key_of(spec) for spec in specs]
        if self.done.issuperset(keys) and not self.rest.issuperset(keys):
            self.again.append(f"evaluated again: {keys}")
        elif len(keys) > 1:  # all of a bucket, for the sake of one; or one by one later
            self.rest.update(keys)

    def records(self, fact: Line) -> None:
        self.written += 1
        if fact["fact"] == "evaluation":
            self.done.add((fact["individual"], fact["seed"], fact["fidelity"], fact["split"]))
        elif fact["fact"] == "simulation":
            self.done.add((fact["number"], fact["seed"], 1.0, "simulated"))


class Watching(Progress):
    """A display that nobody sees; it tells `watch` of each fact that was written."""

    watch: Watch

    def __call__(self, line: Line) -> None:
        super().__call__(line)
        self.watch.records(line)


@contextmanager
def installed(world: World, watch: Watch, *, harsh: bool) -> Iterator[None]:
    """Let drivers use synthetic evaluations, which `watch` sees, in place of models and data."""

    def begins(specs: Sequence[EvaluationSpec]) -> None:
        if world.process.name != ORPHAN:
            watch.begins(specs)

    replaced: dict[str, Any] = {
        "evo.run.prepare": _prepared,
        "evo.run.outlook": lambda config, _: Outlook(settled(config, cost)),
        "evo.run.cost_of": lambda task: cost,
        "evo.run.gauges": lambda address, run: None,
        "evo.run.versions": VERSIONS,
        "evo.config.load": loaded,
        "evo.config.as_yaml": json.dumps,  # which is YAML, and much faster to read and write
        "fitness.evaluate.evaluator.Evaluator": partial(Synthetic, harsh, begins, world.room),
        "fitness.training.ranks.meeting_place": lambda where: "",
        "fitness.training.ranks.meet": lambda _, rank, size, **more: Ranks(rank, size),
    }
    with ExitStack() as stack:
        for name, own in replaced.items():
            stack.enter_context(patch(name, own))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def _prepared(config: SearchConfig) -> Prepared:
    task = task_of(config, _spec().parent)
    sources = {name: file.fingerprint for name, file in task.sources.items()}
    return Prepared(task, {"model": "", "sources": sources, "domains": {}, "prompts": {}})


def cost(recipe: Mapping[str, Any], fidelity: float) -> float:
    """Virtual duration of an evaluation; it differs between recipes, for the clock's sake."""
    return 0.1 + fidelity * (1 + 100 * float(recipe["learning_rate"]))


@cache
def configured(name: str) -> SearchConfig:
    """The config of a search, read once for this process: that takes longer than a search."""
    return configuration.load(_spec(), SEARCHES[name].changes)


def loaded(path: Path, overrides: Sequence[str] = ()) -> SearchConfig:
    """In place of `evo.config.load`: the config of a run, which is written as JSON here."""
    config = configuration.from_plain(json.loads(path.read_text()))
    return with_resources(config, overrides)


def with_resources(config: SearchConfig, overrides: Sequence[str]) -> SearchConfig:
    """The config with other workers or another address, as `--set` has it."""
    given = dict(one.removeprefix("resources.").split("=") for one in overrides)
    values = {name: int(text) if text.isdigit() else text for name, text in given.items()}
    return config.model_copy(update={"resources": config.resources.model_copy(update=values)})


@cache
def _spec() -> Path:
    return written(rooms())


@cache
def rooms() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=MEMORY))
    atexit.register(shutil.rmtree, folder)
    return folder
