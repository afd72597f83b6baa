"""A search as an Optuna study, for optuna-dashboard and Optuna's own plots and importances.

An individual is a trial, with its number as the attribute `individual` since a trial's own number
has no gaps; a mixture is a parameter for each source. Values are means over an individual's seeds
on the selection split, in the unit and the direction of the spec.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evo.history.tables import (
    FULL,
    Columns,
    bred_in,
    constraints,
    objectives,
    scores,
    search_rows,
    spec,
)
from evo.places import check_room_for
from evo.record.facts import Facts, Individual
from evo.record.state import state
from fitness.errors import InputError
from population.space import Choice, Float, Int
from population.strategies.optuna import quiet

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


def write_study(facts: Facts, name: str, file: Path) -> int:
    """Write a study `name` to a new journal file of Optuna; the number of its trials.

    Whole fine-tunes are complete, those that ended on a rung or are experts pruned; one without a
    result is running, or waiting if the run was stopped. Intermediate values are of the first
    objective, by tokens. Raises InputError if the file exists.
    """
    from optuna import create_study
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if file.exists():
        raise InputError(f"{file} exists; name a new file")
    check_room_for(file)
    names = objectives(facts)
    file.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), tempfile.TemporaryDirectory(dir=file.parent) as room:
        partial = Path(room) / file.name
        study = create_study(
            storage=JournalStorage(JournalFileBackend(str(partial))),
            study_name=name,
            directions=["minimize" if sign > 0 else "maximize" for sign in names.values()],
        )
        study.set_metric_names(list(names))
        study.add_trials(trials := list(_trials(facts)))
        partial.rename(file)
    return len(trials)


def _trials(facts: Facts) -> "Iterator[FrozenTrial]":
    from optuna.trial import TrialState, create_trial

    columns, rows = Columns.of(facts).measurements, search_rows(facts)
    whole = {int(row["individual"]): row for _, row in scores(facts).iterrows()}
    tried = {int(str(number)): some for number, some in rows.groupby("individual")}
    unfinished = TrialState.RUNNING if state(facts) == "running" else TrialState.WAITING
    bred = (one for one in bred_in(facts).values() if one["fact"] == "individual")
    for one in sorted(bred, key=lambda fact: fact["id"]):
        some, scored = tried.get(one["id"], rows.iloc[:0]), whole.get(one["id"])
        partial = some[(some["status"] == "ok") & (some["fidelity"] < FULL)]
        ended = TrialState.FAIL if partial.empty else TrialState.PRUNED
        outcome = TrialState.COMPLETE if scored is not None else ended
        distributions, params = _parameters(facts, one)
        measured: Mapping[str, float] = (
            {name: float(scored[column]) for name, column in columns.items()}
            if scored is not None
            else {}
        )
        trial = create_trial(
            state=outcome if len(some) else unfinished,
            values=[measured[name] for name in objectives(facts)] if measured else None,
            params=params,
            distributions=distributions,
            user_attrs=_attributes(one, measured, some),
            intermediate_values=_intermediate(facts, some),
            constraints=_violations(facts, measured) or None,
        )
        if len(some):
            trial.datetime_start = datetime.fromtimestamp(some["started"].min())
            trial.datetime_complete = datetime.fromtimestamp(some["finished"].max())
        yield trial


def _parameters(
    facts: Facts, one: Individual
) -> "tuple[dict[str, BaseDistribution], dict[str, Any]]":
    """Distributions and values of an individual's active genes, `<mixture>.<source>` for shares."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    distributions: dict[str, BaseDistribution] = {}
    params: dict[str, Any] = {}
    for name, value in one["genome"].items():
        gene = spec(facts).genome.get(name)
        if isinstance(value, dict):
            for flat in Columns.of(facts).genes:
                group, _, source = flat.partition(".")
                if group == name:
                    params[flat] = min(1.0, value.get(source, 0.0))
                    distributions[flat] = FloatDistribution(0.0, 1.0)
        elif isinstance(gene, Choice):
            options = [*gene.options, *([] if value in gene.options else [value])]
            params[name], distributions[name] = value, CategoricalDistribution(options)
        elif isinstance(gene, Int | Float) and isinstance(value, int | float):
            # A baseline or a known genome may lie outside of the range.
            low, high = min(gene.low, value), max(gene.high, value)
            kind: Any = IntDistribution if isinstance(gene, Int) else FloatDistribution
            params[name], distributions[name] = value, kind(low, high, log=gene.log and low > 0)
    return distributions, params


def _attributes(
    one: Individual, measured: Mapping[str, float], some: pd.DataFrame
) -> dict[str, Any]:
    """How it was bred, what else was measured, and why it failed."""
    bred = {name: one[name] for name in ("operator", "parents", "generation")}
    failed = some[some["status"] != "ok"]
    told = {
        "status": sorted({*failed["status"]}),
        "message": str(failed["message"].iloc[-1])[-500:] if len(failed) else "",
    }
    found = {name: value for name, value in measured.items() if math.isfinite(value)}
    bred["individual"] = one["id"]
    return {**bred, "seeds": len(some), **found, **{k: v for k, v in told.items() if v}}


def _intermediate(facts: Facts, some: pd.DataFrame) -> dict[int, float]:
    """The first objective by tokens, where an individual was scored before its end."""
    first = next(iter(objectives(facts)))
    column, tokens = Columns.of(facts).measurements[first], spec(facts).budget.tokens
    sound = some[(some["status"] == "ok") & some[column].notna()]
    if (sound["fidelity"] == FULL).all():
        return {}
    means = sound.groupby("fidelity")[column].mean()
    return {round(float(str(share)) * tokens): float(value) for share, value in means.items()}


def _violations(facts: Facts, measured: Mapping[str, float]) -> dict[str, float]:
    """Excess over each limit, in the measurement's unit: at most 0 where it is met."""
    found = {}
    for constraint in constraints(facts):
        value = measured.get(constraint.name, math.nan)
        if math.isfinite(value):
            away = constraint.sign * (value - constraint.limit)
            found[f"{constraint.name} {'<=' if constraint.sign > 0 else '>='} limit"] = away
    return found
