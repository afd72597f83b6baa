"""Comparison of runs: best so far by effort, and effort until a run is as good as another.

Best so far is over individuals that meet the run's own constraints at the full token budget, on the
selection split. Effort is counted in evaluations, in running hours, and in *budgets*: the tokens
trained on, divided by the token budget of one full fine-tune.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evo import history
from evo.config import Composed, Objective, aggregates
from evo.history.comparison import WINNER, listed, result
from evo.history.tables import FULL
from evo.record.facts import launch_of
from evo.record.ledger import read
from evo.significance import Difference, Result, difference
from fitness.errors import InputError
from fitness.metrics import measurement
from population.front import volumes, worst

Array = npt.NDArray[np.float64]
CHECKPOINTS = 6
IDS = 12  # individuals named for each reason
HELD_OUT = "held-out data"  # one of the conditions


@dataclass(frozen=True)
class Trace:
    """A run by evaluation; arrays are (n,), a value for each, NaN before there is one."""

    name: str
    objectives: dict[str, int]  # sign by name: 1 is minimised
    aggregates: dict[str, Composed]
    best: dict[str, Array]
    points: Array  # (n, m) losses of what counts, NaN elsewhere, in the order of `objectives`
    budgets: Array  # trained on so far
    hours: Array
    tests: dict[str, Result]  # of the winner, on the test split
    conditions: dict[str, object]  # that differ where runs cannot quite be compared
    uncounted: dict[str, list[int]]  # individuals that cannot be the best so far, by the reason


@dataclass(frozen=True)
class Overlay:
    """Compared runs with common objectives; values are as measured, not losses."""

    objectives: dict[str, int]
    runs: tuple[Trace, ...]

    @cached_property
    def evaluations(self) -> list[int]:
        """Numbers of evaluations at which runs are compared; the last is the longest run's."""
        return [int(n) for n in _checkpoints(max(len(run.hours) for run in self.runs))]

    @cached_property
    def budgets(self) -> list[float]:
        """Numbers of full fine-tunes at which runs are compared."""
        return _checkpoints(max(run.budgets.max(initial=0.0) for run in self.runs))

    @cached_property
    def hypervolume(self) -> list[Array] | None:
        """Hypervolume by run and evaluation, as a share of all runs'; None for one objective.

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

    def unit(self, objective: str) -> str:
        """Unit of a common objective; empty if it has none."""
        composed = self.runs[0].aggregates.get(objective)
        return (measurement(objective) if composed is None else composed.meaning).unit

    def lead(self, objective: str, run: Trace, over: Trace) -> Difference | None:
        """Difference of two runs' winners on the test split; None if one has no result.

        The held-out items are paired where the fingerprints say that they are the same.
        """
        both = (run.tests.get(objective), over.tests.get(objective))
        if both[0] is None or both[1] is None:
            return None
        better, other = both[0], both[1]
        if run.conditions[HELD_OUT] != over.conditions[HELD_OUT]:
            better, other = replace(better, sample=None), replace(other, sample=None)
        return difference(better, other, self.objectives[objective])

    def notes(self) -> list[str]:
        """Notes on differing conditions, which make the runs less comparable."""
        first, *others = self.runs
        notes = [
            f"The runs differ in their {what}."
            for what in first.conditions
            if any(run.conditions[what] != first.conditions[what] for run in others)
        ]
        return notes + [
            f"{name} is not compared: the runs aggregate other measurements under this name."
            for name in first.objectives
            if name not in self.objectives and all(name in run.objectives for run in others)
            if any(run.aggregates.get(name) != first.aggregates.get(name) for run in others)
        ]

    def left_out(self) -> list[str]:
        """Sentences on objectives and individuals that are not compared, with the reason."""
        sentences = []
        for name in dict.fromkeys(name for run in self.runs for name in run.objectives):
            signs = {run.objectives.get(name) for run in self.runs}
            if name not in self.objectives and len(signs) > 1:  # else the notes say why
                having = listed(run.name for run in self.runs if name in run.objectives)
                sentences.append(
                    f"{name} is left out: it is not an objective of all these runs in the same "
                    f"direction, but of {having}."
                )
        for run in self.runs:
            reasons = [f"{why} ({_ids(ids)})" for why, ids in run.uncounted.items() if ids]
            if reasons:
                sentences.append(
                    f"Individuals of {run.name} that are left out of the best so far: "
                    f"{', '.join(reasons)}."
                )
        return sentences


def overlay(runs: Sequence[Path]) -> Overlay:
    """Read runs and compare them; InputError if they have no objective in common."""
    traces = tuple(_trace(name, read(run)) for name, run in zip(_names(runs), runs, strict=True))
    first, *others = traces
    shared = {
        name: sign
        for name, sign in first.objectives.items()
        if all(
            (other.objectives.get(name), other.aggregates.get(name))
            == (sign, first.aggregates.get(name))
            for other in others
        )
    }
    if not shared:
        listed = [f"{run.name} has {_listed_objectives(run)}" for run in traces]
        raise InputError(
            f"no objective is common to these runs: {'; '.join(listed)}; name runs that share one"
        )
    return Overlay(shared, traces)


def at(counted: Array, values: Array, checkpoint: float) -> float:
    """Value at a checkpoint of `counted` (n,), of `values` (n,); NaN beyond the run's end."""
    if not len(counted) or checkpoint > counted[-1] * (1 + 1e-9):
        return np.nan
    place = int(np.searchsorted(counted, checkpoint * (1 + 1e-9), side="right")) - 1
    return float(values[place]) if place >= 0 else np.nan


def to_json(found: Overlay) -> dict[str, Any]:
    """The comparison as JSON values, with null for unknown values."""
    runs_as_json = []
    for number, run in enumerate(found.runs):
        count = np.arange(1, len(run.hours) + 1, dtype=float)
        volume = found.hypervolume and found.hypervolume[number]
        runs_as_json.append(
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
                    name: _test(found, name, run, test)
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
        "objectives": _directions(found.objectives),
        "checkpoints": {"evaluations": found.evaluations, "budgets": found.budgets},
        "notes": found.notes(),
        "left_out": found.left_out(),
        "runs": runs_as_json,
    }


def _test(found: Overlay, objective: str, run: Trace, test: Result) -> dict[str, object]:
    """Result of a winner on the test split, and its differences from the other runs' winners."""
    leads = {
        other.name: lead
        for other in found.runs
        if other is not run and (lead := found.lead(objective, run, other)) is not None
    }
    numbers = (test.mean, test.seed_error, test.error)
    return {
        **dict(zip(("mean", "standard_error", "total_error"), _listed(numbers), strict=True)),
        "seeds": len(test.values),
        "items": 0 if test.sample is None else test.sample.count,
        "better_than": {
            name: {
                **dict(zip(("margin", "p"), _listed((lead.margin, lead.p)), strict=True)),
                "clear": lead.clear,
            }
            for name, lead in leads.items()
        },
    }


def final(run: Trace, objective: str) -> float:
    """Best value of a run; NaN if it has none."""
    return float(run.best[objective][-1]) if len(run.best[objective]) else np.nan


def _directions(objectives: Mapping[str, int]) -> dict[str, str]:
    return {name: Objective(name, sign).direction for name, sign in objectives.items()}


def _listed_objectives(run: Trace) -> str:
    """Objectives with their directions, aggregates with what they are made of."""
    made = {name: f" ({one.meaning.description})" for name, one in run.aggregates.items()}
    directions = _directions(run.objectives).items()
    return ", ".join(f"{name}: {how}{made.get(name, '')}" for name, how in directions)


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
    full = float(spec.budget.tokens)
    tokens = history.Columns.of(facts).costs.get("tokens")
    trained = rows["fidelity"].where(rows["same_as"].isna(), 0.0).to_numpy(float)
    if tokens and full:
        trained = rows[tokens].fillna(0.0).to_numpy(float) / full
    counts = (rows["violation"] == 0) & (rows["fidelity"] == FULL)
    tested = {name: result(facts, WINNER, name) for name in objectives}
    fingerprints = launch_of(facts).get("fingerprints") or {}
    return Trace(
        name,
        objectives,
        {one.name: one for one in aggregates(spec)},
        {n: history.best_so_far(facts, n).to_numpy(float) for n in objectives},
        rows[history.loss_columns(facts)].where(counts).to_numpy(float),
        trained.cumsum(),
        np.maximum.accumulate(history.hours(facts, rows["finished"].to_numpy(float))),
        {name: test for name, test in tested.items() if test.values},
        {
            "base model": fingerprints.get("model"),
            HELD_OUT: fingerprints.get("domains"),
            "constraints": list(spec.constraints),
            "token budget of a fine-tune": full,
        },
        _uncounted(rows),
    )


def _uncounted(rows: pd.DataFrame) -> dict[str, list[int]]:
    """Individuals of which no evaluation counts, by the first reason that holds for them all."""
    reasons = {
        "failed": rows["status"] != "ok",
        "not trained on the full token budget": rows["fidelity"] < FULL,
        "break a constraint": rows["violation"] > 0,
    }
    ids, left = rows["individual"], np.ones(len(rows), bool)
    uncounted = {}
    for why, fails in reasons.items():
        passing = left & ~fails.to_numpy(bool)
        uncounted[why] = sorted(map(int, {*ids[left]} - {*ids[passing]}))
        left = passing
    return uncounted


def _ids(individuals: Sequence[int]) -> str:
    """The first few numbers, and how many more there are."""
    more = len(individuals) - IDS
    shown = ", ".join(map(str, individuals[:IDS]))
    return f"{shown} and {more} more" if more > 0 else shown


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names, or the paths as given where two are alike."""
    names = [run.resolve().name for run in runs]
    return [str(run) if names.count(n) > 1 else n for run, n in zip(runs, names, strict=True)]


def _checkpoints(most: float) -> list[float]:
    """The last few of 1, 2, 5, 10, 20, ... below `most`, and `most` itself."""
    series = [digit * 10.0**power for power in range(9) for digit in (1, 2, 5)]
    below = [value for value in series if value < 0.95 * most]
    return [*below[1 - CHECKPOINTS :], float(most)]
