"""Searches of the benchmarks' tasks: made once, kept in a file, in as many processes as wanted.

A store is a file of JSON lines, a `Search` and what it `Found` each; a torn line is passed over.
What is in it is not searched again, so that a bench that is run again only adds what is missing.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evo.replay import POPULATION, Table, replay
from population.strategies import PLANNED, check
from tests.benchmarks.tasks import TASKS


@dataclass(frozen=True)
class Search:
    """Key of a search: all that decides it. `version` labels the strategy's code, set by hand."""

    task: str
    strategy: str
    seed: int
    budget: int
    version: str = ""
    parallel: int = 1  # proposals that are answered together


@dataclass(frozen=True)
class Found:
    """Lists have an entry per evaluation; the figure is lower-is-better, 0 the table's best.

    It is the best regret so far, or for two objectives what is missing of the hypervolume
    (1 - normalised).
    """

    figure: list[float]
    rows: list[int]  # the answers, in order
    ask_seconds: float  # of the whole search
    tell_seconds: float


@cache
def table_of(task: str, tables: Path) -> Table:
    return TASKS[task].read(tables)


def search(wanted: Search, tables: Path) -> Found:
    table = table_of(wanted.task, tables)
    outcome = replay(
        table, wanted.strategy, budget=wanted.budget, seed=wanted.seed, parallel=wanted.parallel
    )
    return Found(
        figure=[1 - volume for volume in outcome.hypervolume] or outcome.regret,
        rows=outcome.rows,
        ask_seconds=outcome.ask_seconds,
        tell_seconds=outcome.tell_seconds,
    )


def able(strategy: str, task: str) -> bool:
    """True where it can search the task: some strategies take one objective only."""
    try:
        objectives = TASKS[task].objectives
        check(strategy, population=POPULATION, objectives=objectives, anchors=0)
    except ValueError:
        return False
    return True


def plan(
    cells: Mapping[str, Sequence[int]],
    strategies: Sequence[str],
    seeds: int,
    versions: Mapping[str, str],
    parallel: int = 1,
) -> list[Search]:
    """The searches for the figures of all cells (budgets by task), seed after seed.

    A search of the largest budget has those of the smaller ones, unless it was planned for it.
    """
    return [
        Search(task, strategy, seed, budget, versions.get(strategy, ""), parallel)
        for seed in range(seeds)
        for task, budgets in cells.items()
        for strategy in strategies
        if able(strategy, task)
        for budget in (budgets if strategy in PLANNED else [max(budgets)])
    ]


def run(
    wanted: Sequence[Search],
    tables: Path,
    *,
    register: Callable[[], object],
    store: Path | None = None,
    jobs: int = 1,
) -> dict[Search, Found]:
    """All that is wanted: what the store has, and the rest searched in the order given.

    `register` adds the strategies that are not the product's, in every process.
    """
    have = read_store(store)
    missing = [one for one in wanted if one not in have]
    # One thread a process: more cost time, and sums in another order change the last digit.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    if missing:
        with multiprocessing.get_context("spawn").Pool(jobs, initializer=register) as pool:
            for one, found in pool.imap_unordered(_pair, [(one, tables) for one in missing]):
                have[one] = found
                _append(store, one, found)
    return {one: have[one] for one in wanted}


def _pair(pair: tuple[Search, Path]) -> tuple[Search, Found]:
    return pair[0], search(*pair)


def read_store(store: Path | None) -> dict[Search, Found]:
    found = {}
    for record in _records(store):
        fields = Search.__dataclass_fields__.keys() & record.keys()  # an old one may lack some
        key = Search(**{name: record.pop(name) for name in fields})
        found[key] = Found(**record)
    return found


def _records(store: Path | None) -> Iterator[dict[str, Any]]:
    if store is None or not store.exists():
        return
    for line in store.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue  # a process was stopped while it wrote


def _append(store: Path | None, one: Search, found: Found) -> None:
    if store is not None:
        with store.open("a") as file:
            file.write(json.dumps(asdict(one) | asdict(found)) + "\n")
