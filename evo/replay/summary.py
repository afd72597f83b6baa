"""Summary of a replay for the terminal: best value and regret by number of evaluations."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evo.replay import Outcome, Scale, by_chance
from evo.replay.table import Array, Table
from population.space import Simplex

if TYPE_CHECKING:
    from rich.console import RenderableType

LINES = 20  # of the table, at most about so many


def summary(table: Table, strategy: str, outcomes: Sequence[Outcome]) -> "RenderableType":
    """Table and notes of a replay, for a terminal of 80 columns."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    budget, seeds = len(outcomes[0].best), len(outcomes)
    best = np.array([outcome.best for outcome in outcomes])
    regret = np.array([outcome.regret for outcome in outcomes])
    volume = np.array([outcome.hypervolume for outcome in outcomes])
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    several = ["mean", "worst"] if seeds > 1 else []
    volumes = ["hypervolume"] if volume.size else []
    for name in (
        "evaluations",
        "best",
        "regret",
        *several,
        "by chance",
        *volumes,
    ):
        grid.add_column(Text(name), justify="right")
    chance = by_chance(table, budget)
    for done in checkpoints(budget):
        at = done - 1
        cells = [str(done), f"{np.median(best[:, at]):.6g}", f"{np.median(regret[:, at]):.4f}"]
        cells += [f"{regret[:, at].mean():.4f}", f"{regret[:, at].max():.4f}"] if several else []
        cells.append(f"{chance[at]:.4f}")
        cells += [f"{np.median(volume[:, at]):.4f}"] if volumes else []
        grid.add_row(*cells)
    numbers = f"seeds 0 to {seeds - 1}" if several else "seed 0"
    head = (
        f"{strategy} on {Path(table.name).name}: {len(table.genomes)} rows, {_genes(table)}; "
        f"{_objectives(table)}; {numbers}"
    )
    over = f", medians over {seeds} seeds" if several else ""
    notes = [
        f"Best and regret are of {table.objectives[0].name}{over}. By chance: the mean regret of "
        "rows drawn blindly.",
        "Regret is (found - best) / (median - best): 0 is the table's best row, 1 its median row.",
        _arrival(regret),
        f"ask {_milliseconds(outcomes, 'ask_seconds')}, tell "
        f"{_milliseconds(outcomes, 'tell_seconds')} an evaluation",
    ]
    if volume.size:
        notes.insert(2, _about_volume(table))
    return Group(Text(head, "bold"), Text(), grid, Text(), *(Text(note) for note in notes))


def checkpoints(budget: int) -> list[int]:
    """Numbers of the evaluations to show: the first, every so many, the last."""
    step = max(1, math.ceil(budget / LINES))
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50, 100, 10 ** len(str(budget))) if s >= step)
    return sorted({1, *range(step, budget + 1, step), budget})


def _objectives(table: Table) -> str:
    return ", ".join(f"{objective.direction} {objective.name}" for objective in table.objectives)


def _genes(table: Table) -> str:
    names = [
        f"{name} of {gene.size} sources" if isinstance(gene, Simplex) else name
        for name, gene in table.space.genes.items()
    ]
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def _arrival(regret: Array) -> str:
    """Sentence on how many searches found the best row, and after how many evaluations."""
    arrived = (regret == 0).any(axis=1)
    if not arrived.any():
        return f"No search of {len(regret)} found the best row."
    after = np.median((regret[arrived] == 0).argmax(axis=1) + 1)
    return f"{arrived.sum()} of {len(regret)} found the best row, after {after:g} (median)."


def _about_volume(table: Table) -> str:
    scale = Scale.of(table.losses)
    point = ", ".join(
        f"{objective.name} {objective.sign * loss:.4g}"
        for objective, loss in zip(table.objectives, scale.reference, strict=True)
    )
    return f"Hypervolume is below the reference point {point}; 1 is that of all rows together."


def _milliseconds(outcomes: Sequence[Outcome], name: str) -> str:
    seconds = sum(getattr(outcome, name) for outcome in outcomes)
    return f"{1000 * seconds / sum(len(outcome.best) for outcome in outcomes):.2f} ms"
