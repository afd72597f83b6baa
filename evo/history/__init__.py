"""Results derived from the ledger's facts: best, front, lineage, importance, comparison, status.

A *score* is the result of an individual on the selection split at the full token budget, averaged
over its seeds. Everything is computed from the facts, and cached for the last facts used.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evo.history.comparison import Verdict, alike, comparison, verdict
from evo.history.importance import importance
from evo.history.simulation import simulated
from evo.history.tables import (
    FULL,
    Columns,
    Facts,
    baselines,
    constraints,
    loss_columns,
    meaning,
    objectives,
    once,
    scores,
    search_rows,
    sign,
    spec,
    table,
    to_csv,
    to_parquet,
    winner,
)
from evo.planning.lineages import from_fact, portion
from evo.planning.spending import share
from evo.record.elapsed import running_time, sessions, with_present
from evo.record.state import state
from population import selection
from population.front import volumes, worst
from population.individual import Individual

__all__ = [
    "Columns",
    "Facts",
    "Verdict",
    "alike",
    "baselines",
    "best",
    "best_so_far",
    "comparison",
    "constraints",
    "front",
    "hours",
    "hypervolume",
    "importance",
    "lineage",
    "loss_columns",
    "meaning",
    "objectives",
    "scores",
    "search_rows",
    "sign",
    "simulated",
    "spec",
    "status",
    "table",
    "to_csv",
    "to_parquet",
    "usage",
    "verdict",
    "winner",
]


@once
def best(facts: Facts) -> int | None:
    """Id of the best individual so far, as the search would name it; None before there is one."""
    population = _population(scores(facts), loss_columns(facts))
    leader = selection.best(population, seeds=spec(facts).search.replicates)
    return None if leader is None else leader.id


@once
def front(facts: Facts) -> pd.DataFrame:
    """Pareto front: feasible scores that no other dominates, sorted by the first loss."""
    losses = loss_columns(facts)
    feasible = scores(facts).query("violation == 0")
    members = {individual.id for individual in selection.front(_population(feasible, losses))}
    return feasible[feasible["individual"].isin(members)].sort_values(
        [losses[0], "individual"], ignore_index=True
    )


def _population(scored: pd.DataFrame, losses: list[str]) -> list[Individual]:
    """Rows with every loss as individuals, as the search has them."""
    scored = scored[scored[losses].notna().all(axis=1)] if losses else scored.iloc[:0]
    names = ("individual", "violation", "seeds")
    columns = (*(scored[name] for name in names), scored[losses].to_numpy(float))
    return [
        Individual(int(id), {}, losses=tuple(row.tolist()), violation=float(off), seeds=int(seeds))
        for id, off, seeds, row in zip(*columns, strict=True)
    ]


@once
def best_so_far(facts: Facts, objective: str) -> pd.Series:
    """Best feasible value so far for each row of `search_rows`; NaN before there is one."""
    rows = search_rows(facts)
    losses = rows[f"losses.{objective}"].where(
        (rows["violation"] == 0) & (rows["fidelity"] == FULL)
    )
    return losses.cummin().ffill() * objectives(facts)[objective]


@once
def hypervolume(facts: Facts) -> pd.Series:
    """Hypervolume dominated by the front so far, for each row of `search_rows`; 0 before one.

    The reference is the run's own worst feasible loss in each objective plus a tenth of its
    range, so values compare within a run only.
    """
    rows = search_rows(facts)
    points = rows[loss_columns(facts)].to_numpy(float)
    counts = (rows["violation"] == 0) & (rows["fidelity"] == FULL) & np.isfinite(points).all(axis=1)
    values = np.zeros(len(rows))
    if points.shape[1] and counts.any():
        values[counts] = list(volumes(points[counts], worst(points[counts])))
    return pd.Series(np.maximum.accumulate(values), name="hypervolume")


def lineage(facts: Facts, individual: int) -> pd.DataFrame:
    """An individual and its ancestors, nearest first; distance: fewest generations of breeding."""
    known = {f["id"]: f for f in facts if f["fact"] == "individual"}
    distance = {individual: 0} if individual in known else {}
    wave = list(distance)
    while wave:
        parents = dict.fromkeys(parent for child in wave for parent in known[child]["parents"])
        wave = [parent for parent in parents if parent in known and parent not in distance]
        distance.update(dict.fromkeys(wave, 1 + max(distance.values())))
    rows = [
        (id, f["generation"], " ".join(map(str, f["parents"])), f["operator"], distance[id])
        for id, f in ((id, known[id]) for id in distance)
    ]
    names = ["individual", "generation", "parents", "operator", "distance"]
    return pd.DataFrame(rows, columns=names)


@once
def usage(facts: Facts, now: float | None = None, begun: float | None = None) -> dict[str, Any]:
    """Running time (see `evo.record.elapsed`) and use of the workers' time, in seconds.

    `now` and `begun` are Unix times, the end and start of the session of a running driver.

    `workers` is what the last driver started, else the most that were ever busy at once; `ready`
    is the running time from the first evaluation of each launch or resume on. `idle` is what they
    had of it between evaluations: dispatch, ledger, generation barriers, lost attempts.
    """
    rows = table(facts)
    periods = with_present(sessions(facts), now, begun)
    ready = sum(one.end - one.ready for one in periods)
    starts = [f for f in facts if f["fact"] == "search" or f["fact"] == "resumed"]
    configured = next((n for f in starts[::-1] if (n := f.get("workers"))), None)
    events = sorted([(t, 1) for t in rows["started"]] + [(t, -1) for t in rows["finished"]])
    concurrent = max(np.cumsum([step for _, step in events]), default=0)
    workers = int(configured or concurrent)
    worked = rows[rows["duration"] > 0]  # a bucket's evaluations share their time
    busy = float(worked.drop_duplicates(["worker", "started"])["duration"].sum())
    known = Columns.of(facts).costs
    training, scoring = (
        float(rows[known[name]].sum()) if name in known else 0.0
        for name in ("train_seconds", "evaluate_seconds")
    )
    return {
        "workers": workers,
        "elapsed": running_time(periods),
        "ready": ready,
        "busy": busy,
        "training": training,
        "scoring": scoring,
        "other": max(0.0, busy - training - scoring),
        "idle": max(0.0, workers * ready - busy),
        "busy_share": min(1.0, busy / (workers * ready)) if workers and ready > 0 else None,
        "lost": sum(f["fact"] == "lost" for f in facts),
    }


def hours(facts: Facts, times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Running time in hours at Unix times (n,); see `evo.record.elapsed`."""
    gone = np.zeros(len(times))
    for one in sessions(facts):
        gone += np.clip(times, one.begun, one.end) - one.begun
    return gone / 3600


@once
def status(
    facts: Facts, *, alive: bool = True, now: float | None = None, begun: float | None = None
) -> dict[str, Any]:
    """Status of a run, as JSON values; `alive`: whether a driver holds the run's lock.

    All values under `best` are of one individual. `now` is the Unix time for a running driver,
    and `begun` its start, if known.
    """
    rows = search_rows(facts)
    used = usage(facts, now if alive else None, begun)
    failed = rows.loc[rows["status"] != "ok", "status"].value_counts()
    leader, feasible = _leader(facts)
    shown = leader if feasible else None
    closing = table(facts).query("split == 'test'")
    return {
        "name": spec(facts).name or None,
        "state": state(facts, alive=alive),
        "done": _spent(facts, rows),
        "total": spec(facts).budget.evaluations or None,
        "failures": {str(name): int(count) for name, count in failed.items()},
        "lost_and_retried": used["lost"],
        "best": {
            name: None if shown is None else {"value": value, "individual": shown}
            for name, value in _values(facts, shown, list(objectives(facts))).items()
        },
        "constraints": _constraints(facts, leader),
        "front": len(front(facts)),
        "winner": winner(facts),
        "closing_evaluations": len(closing),
        "workers": used["workers"],
        "busy_share": used["busy_share"],
        "elapsed_seconds": used["elapsed"],
    }


def _spent(facts: Facts, rows: pd.DataFrame) -> float:
    """Budget spent by the rows of a search, in full fine-tunes."""
    config = spec(facts)
    portions = {f["id"]: portion(config, from_fact(f)) for f in facts if f["fact"] == "individual"}
    tried = zip(rows["individual"], rows["seed"], rows["fidelity"], strict=True)
    shares = [
        share(config, portions[individual], seed, fidelity, "selection")
        for individual, seed, fidelity in tried
        if individual in portions
    ]
    spent = round(float(np.sum(shares)), 3)
    return int(spent) if spent.is_integer() else spent


def _leader(facts: Facts) -> tuple[int | None, bool]:
    """Best individual, or the one nearest to the constraints if none meets them; and whether so."""
    leader = best(facts)
    if leader is None:
        return None, False
    row = scores(facts).set_index("individual").loc[leader]
    return leader, bool(row["violation"] == 0)


def _values(facts: Facts, individual: int | None, names: Sequence[str]) -> dict[str, float | None]:
    """Means of an individual on the selection split; None for missing measurements."""
    if individual is None:
        return dict.fromkeys(names)
    row, columns = scores(facts).set_index("individual").loc[individual], Columns.of(facts)
    values = {name: row.get(columns.measurements.get(name, "")) for name in names}
    return {n: None if v is None or pd.isna(v) else float(v) for n, v in values.items()}


def _constraints(facts: Facts, leader: int | None) -> list[dict[str, object]]:
    """Each constraint with the value of the leader, which may violate it if no other is nearer."""
    limits = constraints(facts)
    values = _values(facts, leader, [limit.name for limit in limits])
    return [
        {
            "constraint": str(limit),
            "individual": leader,
            "value": value,
            "met": None if value is None else limit.excess({limit.name: value}) == 0,
        }
        for limit in limits
        for value in [values[limit.name]]
    ]
