"""Runs beside one another: what each had found by then, and how soon it had what another found.

Best so far counts what meets the run's own constraints at the full token budget, on the selection
split. A *budget* is the token budget of one full fine-tune: what an evaluation trained on, divided
by it, adds up to the third way of counting, beside evaluations and hours in which a driver lived.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evo import history
from evo.history.comparison import WINNER
from evo.history.tables import FULL
from evo.ledger import read
from fitness.errors import InputError
from population.front import volumes, worst

Array = npt.NDArray[np.float64]
CHECKPOINTS = 6


@dataclass(frozen=True)
class Trace:
    """One run by evaluation; arrays are (n,), a value each, NaN before there is one."""

    name: str
    objectives: dict[str, int]  # sign by name: 1 is minimised
    best: dict[str, Array]
    points: Array  # (n, m) losses of what counts, NaN elsewhere, in the order of `objectives`
    budgets: Array  # trained on so far
    hours: Array
    tests: dict[str, tuple[float, float, int]]  # the winner: mean, standard error, seeds
    conditions: dict[str, Any]  # that differ where runs cannot quite be compared


@dataclass(frozen=True)
class Overlay:
    """Runs that share objectives; every value is as measured, not as a loss."""

    objectives: dict[str, int]
    runs: tuple[Trace, ...]

    @cached_property
    def evaluations(self) -> list[int]:
        """Numbers of evaluations at which to look, the last the longest run's."""
        return [int(n) for n in _checkpoints(max(len(run.hours) for run in self.runs))]

    @cached_property
    def budgets(self) -> list[float]:
        """Numbers of full fine-tunes at which to look."""
        return _checkpoints(max(run.budgets.max(initial=0.0) for run in self.runs))

    @cached_property
    def hypervolume(self) -> list[Array] | None:
        """By run and evaluation, a share of what all runs together dominate; None for one loss.

        The reference is the worst that counts in any run plus a tenth of the range.
        """
        if len(self.objectives) < 2:
            return None
        columns = [[list(run.objectives).index(n) for n in self.objectives] for run in self.runs]
        points = [run.points[:, chosen] for run, chosen in zip(self.runs, columns, strict=True)]
        counted = [np.isfinite(each).all(axis=1) for each in points]
        together = np.concatenate([p[c] for p, c in zip(points, counted, strict=True)])
        if not len(together):
            return None
        reference = worst(together)
        whole = list(volumes(together, reference))[-1]
        found = []
        for each, chosen in zip(points, counted, strict=True):
            grown = np.zeros(len(each))
            grown[chosen] = list(volumes(each[chosen], reference))
            found.append(np.maximum.accumulate(grown) / whole)
        return found

    def reached(self, objective: str, run: Trace, value: float) -> int | None:
        """Evaluations until a run's best so far was as good as a value, or None."""
        sign = self.objectives[objective]
        there = np.flatnonzero(sign * run.best[objective] <= sign * value)
        return int(there[0]) + 1 if len(there) else None

    def notes(self) -> list[str]:
        """What makes the runs less than comparable, in plain words."""
        return [
            f"The runs differ in their {what}."
            for what in self.runs[0].conditions
            if any(run.conditions[what] != self.runs[0].conditions[what] for run in self.runs)
        ]


def overlay(runs: Sequence[Path]) -> Overlay:
    """Read runs and lay them over one another; InputError where they share no objective."""
    traces = tuple(_trace(name, read(run)) for name, run in zip(_names(runs), runs, strict=True))
    first, *others = traces
    shared = {
        name: sign
        for name, sign in first.objectives.items()
        if all(other.objectives.get(name) == sign for other in others)
    }
    if not shared:
        told = [
            f"{run.name} has "
            + ", ".join(f"{n}: {how}" for n, how in _told(run.objectives).items())
            for run in traces
        ]
        raise InputError(
            f"no objective is common to these runs: {'; '.join(told)}; compare runs that share one"
        )
    return Overlay(shared, traces)


def at(counted: Array, values: Array, checkpoint: float) -> float:
    """The value when so much had been counted, (n,) each; NaN beyond the run's end."""
    if not len(counted) or checkpoint > counted[-1] * (1 + 1e-9):
        return np.nan
    place = int(np.searchsorted(counted, checkpoint * (1 + 1e-9), side="right")) - 1
    return float(values[place]) if place >= 0 else np.nan


def to_json(found: Overlay) -> dict[str, Any]:
    """Everything, with null for what is not known."""
    told = []
    for number, run in enumerate(found.runs):
        count = np.arange(1, len(run.hours) + 1, dtype=float)
        volume = found.hypervolume and found.hypervolume[number]
        told.append(
            {
                "run": run.name,
                "evaluations": len(run.hours),
                "budgets": _listed(run.budgets),
                "hours": _listed(run.hours),
                "best": {name: _listed(run.best[name]) for name in found.objectives},
                "best_at_evaluations": _at(found, run, count, found.evaluations),
                "best_at_budgets": _at(found, run, run.budgets, found.budgets),
                "hypervolume": None if volume is None else _listed(volume),
                "test": {
                    name: dict(zip(("mean", "standard_error", "seeds"), _listed(test), strict=True))
                    for name, test in run.tests.items()
                    if name in found.objectives
                },
                "evaluations_to_reach": {
                    name: {
                        other.name: found.reached(name, run, final(other, name))
                        for other in found.runs
                    }
                    for name in found.objectives
                },
            }
        )
    return {
        "objectives": _told(found.objectives),
        "checkpoints": {"evaluations": found.evaluations, "budgets": found.budgets},
        "notes": found.notes(),
        "runs": told,
    }


def final(run: Trace, objective: str) -> float:
    """The best that a run found; NaN if it found nothing."""
    return float(run.best[objective][-1]) if len(run.best[objective]) else np.nan


def _told(objectives: Mapping[str, int]) -> dict[str, str]:
    return {name: "maximize" if sign < 0 else "minimize" for name, sign in objectives.items()}


def _at(
    found: Overlay, run: Trace, counted: Array, checkpoints: Sequence[float]
) -> dict[str, list[float | None]]:
    return {
        name: _listed(at(counted, run.best[name], point) for point in checkpoints)
        for name in found.objectives
    }


def _listed(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _trace(name: str, facts: history.Facts) -> Trace:
    rows = history.search_rows(facts)
    objectives = history.objectives(facts)
    spec = history.spec(facts)
    full = float((spec.get("budget") or {}).get("tokens") or 0)
    tokens = history.Columns.of(facts).costs.get("tokens")
    trained = rows["fidelity"].where(rows["same_as"].isna(), 0.0).to_numpy(float)
    if tokens and full:
        trained = rows[tokens].fillna(0.0).to_numpy(float) / full
    counts = (rows["violation"] == 0) & (rows["fidelity"] == FULL)
    closing = history.comparison(facts)
    won = closing[(closing["contender"] == WINNER) & (closing["n"] > 0)].set_index("measurement")
    fingerprints: Mapping[str, Any] = facts[0].get("fingerprints") or {}
    return Trace(
        name,
        objectives,
        {n: history.best_so_far(facts, n).to_numpy(float) for n in objectives},
        rows[history.loss_columns(facts)].where(counts).to_numpy(float),
        trained.cumsum(),
        np.maximum.accumulate(history.hours(facts, rows["finished"].to_numpy(float))),
        {
            str(n): (float(row["mean"]), float(row["standard_error"]), int(row["n"]))
            for n, row in won.iterrows()
        },
        {
            "base model": fingerprints.get("model"),
            "held-out data": fingerprints.get("domains"),
            "constraints": list(spec.get("constraints") or ()),
            "token budget of a fine-tune": full,
        },
    )


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names, or the paths as given where two are alike."""
    names = [run.resolve().name for run in runs]
    return [str(run) if names.count(n) > 1 else n for run, n in zip(runs, names, strict=True)]


def _checkpoints(most: float) -> list[float]:
    """The last few of 1, 2, 5, 10, 20, ... below `most`, and `most` itself."""
    series = [digit * 10.0**power for power in range(9) for digit in (1, 2, 5)]
    below = [value for value in series if value < 0.95 * most]
    return [*below[1 - CHECKPOINTS :], float(most)]
