"""Figures of several strategies beside each other, cell by cell: a cell is a task at a budget."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from population.strategies import PLANNED
from tests.benchmarks.searches import Found, Search, able, table_of
from tests.benchmarks.tasks import TASKS

# Cells to show, and what the tables' README has there: means over 10 to 20 seeds.
REFERENCES = {
    ("mean13", 50): "random .097, one-shot LightGBM .027, plain EA .051, GP-EI .004",
    ("deberta", 40): "random .134, one-shot LightGBM .125, plain EA .064, GP-EI .127",
}
Figures = dict[str, float]  # by strategy


@dataclass(frozen=True, order=True)
class Cell:
    task: str
    budget: int

    def __str__(self) -> str:
        return f"{self.task}@{self.budget}"


@dataclass(frozen=True)
class Comparison:
    """`cells` has the figures of all seeds by strategy; `curves` the median one of a task."""

    strategies: Sequence[str]
    cells: Mapping[Cell, Mapping[str, Sequence[float]]]
    curves: Mapping[str, Mapping[str, Sequence[float]]]
    milliseconds: Figures

    @classmethod
    def of(
        cls,
        found: Mapping[Search, Found],
        cells: Mapping[str, Sequence[int]],
        strategies: Sequence[str],
    ) -> "Comparison":
        """Compare the searches found so far, which may be a part of those wanted."""
        parts: dict[tuple[str, str, int], list[Found]] = {}
        for one, result in sorted(found.items(), key=lambda pair: pair[0].seed):
            parts.setdefault((one.task, one.strategy, one.budget), []).append(result)
        figures: dict[Cell, dict[str, list[float]]] = {}
        curves: dict[str, dict[str, list[float]]] = {}
        for task, budgets in cells.items():
            for name in strategies:
                for budget in budgets:
                    whole = budget if name in PLANNED else max(budgets)
                    values = [one.figure[budget - 1] for one in parts.get((task, name, whole), [])]
                    if values:
                        figures.setdefault(Cell(task, budget), {})[name] = values
                largest = [one.figure for one in parts.get((task, name, max(budgets)), [])]
                if largest:
                    medians = [statistics.median(at) for at in zip(*largest, strict=True)]
                    curves.setdefault(task, {})[name] = medians
        cost: dict[str, list[float]] = {}
        for one, result in found.items():
            seconds = result.ask_seconds + result.tell_seconds
            cost.setdefault(one.strategy, []).append(1000 * seconds / len(result.figure))
        milliseconds = {name: statistics.mean(cost[name]) for name in strategies if name in cost}
        return cls(strategies, figures, curves, milliseconds)

    def complete(self, chosen: Callable[[Cell], bool] = lambda cell: True) -> list[Cell]:
        """The cells at a budget of the task where every strategy that is able to has a figure."""
        return [
            cell
            for cell, row in self.cells.items()
            if cell.budget in TASKS[cell.task].budgets and chosen(cell)
            if all(name in row for name in self.strategies if able(name, cell.task))
        ]

    def over(self, cells: Sequence[Cell], middle: Callable[[Sequence[float]], float]) -> Figures:
        """Mean over cells of the `middle` (median or mean) over seeds, of those that have all."""
        return {
            name: statistics.mean(middle(self.cells[cell][name]) for cell in cells)
            for name in self.in_all(cells)
        }

    def in_all(self, cells: Sequence[Cell]) -> list[str]:
        """The strategies with figures in all of the cells."""
        return [n for n in self.strategies if all(n in self.cells[cell] for cell in cells)]

    def share_won(self, name: str, cells: Sequence[Cell]) -> float:
        """The share of cells in which its median is at most the best of the others'; ties count."""
        return statistics.mean(
            statistics.median(self.cells[cell][name])
            <= min(statistics.median(v) for other, v in self.cells[cell].items() if other != name)
            for cell in cells
        )

    def evaluations_to_reach(self, name: str) -> dict[str, int | None]:
        """Evaluations, by task, until its median is at the best other's final value, or None."""
        found: dict[str, int | None] = {}
        for task, curves in self.curves.items():
            ends = [curve[-1] for other, curve in curves.items() if other != name]
            if name in curves and ends:
                done = (n for n, value in enumerate(curves[name], 1) if value <= min(ends))
                found[task] = next(done, None)
        return found


def cells_of(tasks: Iterable[str], tables: Path, *, largest: int) -> dict[str, list[int]]:
    """The budgets of each task up to the largest and below its rows, the references' as well."""
    return {
        task: sorted(
            budget
            for budget in {*TASKS[task].budgets, *(at for name, at in REFERENCES if name == task)}
            if budget <= largest and budget < len(table_of(task, tables).genomes)
        )
        for task in tasks
    }


def one_objective(cell: Cell) -> bool:
    return TASKS[cell.task].objectives == 1


def print_cells(
    comparison: Comparison,
    label: str,
    middle: Callable[[Sequence[float]], float],
    chance: Callable[[Cell], float | None],
) -> None:
    """A line a cell; `chance(cell)` is the expected regret of blind draws, or None."""
    width = max(len(cell.task) for cell in comparison.cells)
    names = [*comparison.strategies, "by chance"]
    print(f"\n{label}\n{'task':{width}} budget", *(f"{name:>12}" for name in names))
    for cell, row in comparison.cells.items():
        figures = [middle(row[name]) if name in row else None for name in comparison.strategies]
        shown = ["" if f is None else f"{f:.4f}" for f in [*figures, chance(cell)]]
        print(f"{cell.task:{width}} {cell.budget:6}", *(f"{one:>12}" for one in shown))


def print_summary(comparison: Comparison, focus: str) -> dict[str, Any]:
    """Each strategy over all cells, and `focus` against the others; returns what it printed."""
    bench: dict[str, Any] = {}
    everything = comparison.complete()
    wanted = sum(cell.budget in TASKS[cell.task].budgets for cell in comparison.cells)
    partly = wanted - len(everything)
    print(f"\nOver {len(everything)} cells" + f" ({partly} lack a strategy)" * bool(partly))
    groups = {
        "all": everything,
        "one objective": comparison.complete(one_objective),
        "two objectives": comparison.complete(lambda cell: not one_objective(cell)),
    }
    for group, cells in groups.items():
        if not cells:
            continue
        bench[group] = {"cells": len(cells)}
        for label, middle in (("median", statistics.median), ("mean", statistics.mean)):
            figures = comparison.over(cells, middle)
            bench[group][label] = figures
            print(f"{group}, mean over cells of the {label}: {listed(figures)}")
            others = {name: f for name, f in figures.items() if name != focus}
            if focus in figures and others:
                best = min(others, key=others.__getitem__)
                if others[best]:
                    bench[group][f"{label}_ratio"] = figures[focus] / others[best]
                print(
                    f"  {focus} {figures[focus]:.4f}, best single other {best} {others[best]:.4f}"
                    f", ratio {bench[group].get(f'{label}_ratio', math.nan):.3f}"
                )
        if len(comparison.strategies) > 1:
            won = {name: comparison.share_won(name, cells) for name in comparison.in_all(cells)}
            bench[group]["share_won"] = won
            print(f"{group}, share of cells at most the best other: {listed(won)}")
    reached = comparison.evaluations_to_reach(focus)
    if reached:
        bench["evaluations_to_reach"] = reached
        typical = statistics.median(n or math.inf for n in reached.values())
        by_task = ", ".join(f"{task} {n or 'never'}" for task, n in reached.items())
        print(
            f"evaluations of {focus} to reach what the best other ends with, median over tasks: "
            f"{typical:g} ({by_task})"
        )
    for (task, budget), known in REFERENCES.items():
        row = comparison.cells.get(Cell(task, budget), {})
        means = {name: statistics.mean(values) for name, values in row.items()}
        if means:
            print(f"{task}@{budget}, mean: {listed(means)}; the tables' README: {known}")
    print(f"ask + tell, ms an evaluation: {listed(comparison.milliseconds)}")
    return {**bench, "milliseconds": comparison.milliseconds}


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; 0 for a single value."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.mean(values), error


def listed(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
