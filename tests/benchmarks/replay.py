"""Strategies on tables of finished runs: `make bench NAME=replay`, seconds for cheap strategies.

`ARGS=--full` takes every task with 20 seeds instead of four tasks with five. A cell is a task at a
budget; its figure is the median over the seeds of the regret, or of the missing hypervolume
(1 - normalised) for two objectives, so that lower is better everywhere and 0 is the table's best.
The tables are not part of the project: name their folder with `--tables` or EVOMIX_TABLES; the
default is ../shared/tables.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.replay import Outcome, Table, by_chance, read_table, replay
from population.strategies import STRATEGIES

BUDGETS = (25, 50, 100)
PILE = "pile_1m_train.csv"
PILE_LOSSES = (
    *("arxiv", "freelaw", "pubmed_central", "wikipedia_en", "dm_mathematics", "github"),
    *("stackexchange", "gutenberg_pg_19", "pile_cc", "ubuntu_irc", "hackernews"),
    *("pubmed_abstracts", "uspto_backgrounds", "mean13"),
)
# Rank correlations of -.15, -.18 and .00 over the rows: fronts with two real ends.
PILE_PAIRS = (("github", "pile_cc"), ("arxiv", "pile_cc"), ("wikipedia_en", "pubmed_central"))
DEBERTA = {
    "float": {"learning_rate": {"log": True}, "cls_drop_out": {}},
    "int": ["num_train_epochs", "train_batch_size", "warmup_steps"],
    "objectives": {"final_acc_matched": "maximize"},
}
SHORT = ("mean13", "pile_cc", "github+pile_cc", "deberta")


@dataclass(frozen=True)
class Task:
    name: str
    table: str
    roles: dict[str, Any]

    def read(self, tables: Path) -> Table:
        with tempfile.TemporaryDirectory() as folder:
            roles = Path(folder) / f"{self.name}.yaml"
            roles.write_text(json.dumps(self.roles))
            return read_table(tables / self.table, roles)


def tasks() -> list[Task]:
    groups = [(name,) for name in PILE_LOSSES] + list(PILE_PAIRS)
    found = []
    for names in groups:
        objectives = {f"loss_{name}": "minimize" for name in names}
        roles = {"simplex": {"mixture": "w_*"}, "objectives": objectives}
        found.append(Task("+".join(names), PILE, roles))
    return [*found, Task("deberta", "deberta-base.csv", DEBERTA)]


def main() -> None:
    options = _options()
    seeds = options.seeds or (20 if options.full else 5)
    strategies = options.strategies or list(STRATEGIES)
    chosen = [task for task in tasks() if options.full or task.name in SHORT]
    width = max(len(task.name) for task in chosen)
    print(f"{'task':{width}} budget", *(f"{name:>14}" for name in [*strategies, "by chance"]))
    cells: dict[str, dict[str, float]] = {}
    cost: dict[str, list[float]] = {name: [] for name in strategies}
    for task in chosen:
        table = task.read(options.tables)
        budgets = [budget for budget in BUDGETS if budget <= len(table.genomes)]
        curves = {name: _curve(table, name, max(budgets), seeds, cost[name]) for name in strategies}
        chance = by_chance(table, max(budgets)) if len(table.objectives) == 1 else None
        for budget in budgets:
            row = {name: curve[budget - 1] for name, curve in curves.items()}
            cells[f"{task.name}@{budget}"] = row
            figures = [f"{figure:14.4f}" for figure in row.values()]
            figures += [f"{chance[budget - 1]:14.4f}"] if chance else []
            print(f"{task.name:{width}} {budget:6}", *figures, flush=True)
    means = {name: statistics.mean(row[name] for row in cells.values()) for name in strategies}
    won = {name: _share_won(cells, name) for name in strategies}
    milliseconds = {name: 1000 * statistics.mean(seconds) for name, seconds in cost.items()}
    for label, figures in (
        ("mean over cells", means),
        ("at most the best other, share of cells", won),
        ("ask + tell, ms an evaluation", milliseconds),
    ):
        print(f"{label}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    bench = {"name": "replay", "seeds": seeds, "mean": means, "share_won": won}
    print("BENCH " + json.dumps({**bench, "milliseconds": milliseconds, "cells": cells}))


def _curve(table: Table, strategy: str, budget: int, seeds: int, cost: list[float]) -> list[float]:
    """The figure after each evaluation; `cost` gains seconds an evaluation.

    A strategy does not know its budget, so that one search of the largest budget has them all.
    """
    outcomes = [replay(table, strategy, budget=budget, seed=seed) for seed in range(seeds)]
    cost += [(one.ask_seconds + one.tell_seconds) / budget for one in outcomes]
    curves = [_figure(one) for one in outcomes]
    return [statistics.median(values) for values in zip(*curves, strict=True)]


def _figure(outcome: Outcome) -> Sequence[float]:
    return [1 - volume for volume in outcome.hypervolume] or outcome.regret


def _share_won(cells: dict[str, dict[str, float]], name: str) -> float:
    """The share of cells in which a strategy is at most the best of the others."""
    others = [
        min([figure for other, figure in row.items() if other != name], default=float("inf"))
        for row in cells.values()
    ]
    pairs = zip(cells.values(), others, strict=True)
    return statistics.mean(row[name] <= best for row, best in pairs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=replay", description=__doc__)
    default = Path(os.environ.get("EVOMIX_TABLES", "../shared/tables"))
    parser.add_argument("--tables", type=Path, default=default, help=f"default: {default}")
    parser.add_argument("--full", action="store_true", help="every task, 20 seeds")
    parser.add_argument("--seeds", type=int, help="default: 5, or 20 with --full")
    parser.add_argument("--strategies", nargs="+", help="default: all there are")
    options = parser.parse_args()
    if not options.tables.is_dir():
        parser.error(f"no folder {options.tables}; name it with --tables or EVOMIX_TABLES")
    return options


if __name__ == "__main__":
    main()
