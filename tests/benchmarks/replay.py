"""Strategies on tables of finished runs: `make bench NAME=replay`, about a minute.

A cell is a task at a budget; its figure is the regret, or for two objectives what is missing of the
hypervolume (1 - normalised), over the seeds: lower is better and 0 is the table's best. `--full`
takes every task and strategy with 20 seeds and budgets to 100, which takes hours with the slow
ones: keep what is found with `--store FILE`, and print it again with `--stored`. `--held-out` takes
other tasks, to check what was chosen on these, and `--aggregates` objectives that are means of
losses. The tables are not part of the project: name their
folder with `--tables` or EVOMIX_TABLES; the default is ../shared/tables.
"""

import argparse
import json
import os
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from evo.replay import POPULATION, by_chance
from population.strategies import STRATEGIES, check
from tests.benchmarks import outside, searches
from tests.benchmarks.comparison import (
    Cell,
    Comparison,
    cells_of,
    one_objective,
    print_cells,
    print_summary,
)
from tests.benchmarks.tasks import AGGREGATED, HELD_OUT, PUBLIC, SHORT, TASKS

FOCUS = "surrogate"
CHEAP = ("nsga2", "random", "regression", "deap", "pymoo")
SLOW = ("optuna:nsga2", "optuna:tpe", "optuna:cmaes", "optuna:gp")


def main() -> None:
    outside.register()
    parser = options("replay", __doc__ or "")
    parser.add_argument("--strategies", nargs="+", help="default: all, without --full cheap ones")
    parsed = parse(parser)
    every = [FOCUS, *CHEAP, *(SLOW if parsed.full else ())]
    if "pymoo" not in STRATEGIES:
        print("pymoo is left out, since it is not installed: pip install pymoo")
    names = parsed.strategies or [name for name in every if name in STRATEGIES]
    for name in names:
        try:
            check(name, population=POPULATION, objectives=1, anchors=0)
        except ValueError as error:
            parser.error(str(error))
    comparison = compare(parsed, names, outside.register)
    bench = print_summary(comparison, FOCUS)
    cells = {
        str(cell): {name: statistics.median(values) for name, values in row.items()}
        for cell, row in comparison.cells.items()
    }
    print("BENCH " + json.dumps({"name": "replay", "seeds": parsed.seeds, **bench, "cells": cells}))


def compare(
    parsed: argparse.Namespace, strategies: Sequence[str], register: Callable[[], object]
) -> Comparison:
    """Makes or reads the searches, and prints the cells."""
    wanted_cells = cells_of(parsed.tasks, parsed.tables, largest=parsed.largest)
    wanted = searches.plan(wanted_cells, strategies, parsed.seeds, parsed.version, parsed.parallel)
    if parsed.stored:
        have = searches.read_store(parsed.store)
        found = {one: have[one] for one in wanted if one in have}
    else:
        found = searches.run(
            wanted, parsed.tables, register=register, store=parsed.store, jobs=parsed.jobs
        )
    counts = Counter(one.strategy for one in found)
    searched = ", ".join(f"{name} {counts[name]}" for name in strategies)
    print(f"{parsed.seeds} seeds; searches, of {len(wanted)} in all: {searched}")

    def chance(cell: Cell) -> float | None:
        table = searches.table_of(cell.task, parsed.tables)
        return by_chance(table, cell.budget)[-1] if one_objective(cell) else None

    comparison = Comparison.of(found, wanted_cells, strategies)
    print_cells(comparison, "Median over the seeds", statistics.median, chance)
    print_cells(comparison, "Mean over the seeds", statistics.mean, chance)
    return comparison


def options(name: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"make bench NAME={name}", description=about)
    default = Path(os.environ.get("EVOMIX_TABLES", "../shared/tables"))
    parser.add_argument("--tables", type=Path, default=default, help=f"default: {default}")
    parser.add_argument("--full", action="store_true", help="every task, 20 seeds, budgets to 100")
    parser.add_argument("--held-out", action="store_true", help="the tasks kept for checking")
    parser.add_argument(
        "--aggregates", action="store_true", help="tasks whose objectives are means of losses"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--seeds", type=int, help="default: 2, or 20 with --full")
    parser.add_argument("--largest", type=int, help="budget; default: 50, or 100 with --full")
    parser.add_argument(
        "--parallel", type=int, default=1, help="proposals that are answered together; default: 1"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes; default: 1")
    parser.add_argument("--store", type=Path, help="a file that keeps what was found")
    parser.add_argument("--stored", action="store_true", help="print the store, search nothing")
    parser.add_argument(
        "--version",
        action="append",
        default=[],
        metavar="STRATEGY=LABEL",
        help="of the code, for the store: what is stored under another label is not taken",
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    parsed = parser.parse_args()
    if not parsed.tables.is_dir():
        parser.error(f"no folder {parsed.tables}; name it with --tables or EVOMIX_TABLES")
    if parsed.stored and (parsed.store is None or not parsed.store.exists()):
        parser.error(f"no store {parsed.store} to print; name it with --store")
    for one in parsed.version:
        if "=" not in one:
            parser.error(f"--version {one}: write STRATEGY=LABEL")
    parsed.version = dict(one.split("=", 1) for one in parsed.version)
    parsed.seeds = parsed.seeds or (20 if parsed.full else 2)
    parsed.largest = parsed.largest or (100 if parsed.full else 50)
    tasks = AGGREGATED if parsed.aggregates else HELD_OUT if parsed.held_out else PUBLIC
    group = [task.name for task in tasks]
    short = not (parsed.full or parsed.held_out or parsed.aggregates)
    parsed.tasks = parsed.tasks or [name for name in group if not short or name in SHORT]
    return parsed


if __name__ == "__main__":
    main()
