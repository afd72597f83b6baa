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

MESSAGE = 500  # characters of why an individual failed

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
    means = {int(row["individual"]): row for _, row in scores(facts).iterrows()}
    unfinished = TrialState.RUNNING if state(facts) == "running" else TrialState.WAITING
    for individual in sorted(_individuals(facts), key=lambda fact: fact["id"]):
        number = individual["id"]
        evaluations = rows[rows["individual"] == number]
        scored = means.get(number)
        measured: dict[str, float] = {}
        if scored is not None:
            measured = {name: float(scored[column]) for name, column in columns.items()}
            outcome = TrialState.COMPLETE
        elif evaluations.empty:
            outcome = unfinished
        else:
            ended_early = (evaluations["status"] == "ok").any()
            outcome = TrialState.PRUNED if ended_early else TrialState.FAIL
        distributions, params = _parameters(facts, individual)
        trial = create_trial(
            state=outcome,
            values=[measured[name] for name in objectives(facts)] if measured else None,
            params=params,
            distributions=distributions,
            user_attrs=_attributes(individual, measured, evaluations),
            intermediate_values=_intermediate(facts, evaluations),
            constraints=_violations(facts, measured) or None,
        )
        if not evaluations.empty:
            trial.datetime_start = datetime.fromtimestamp(evaluations["started"].min())
            trial.datetime_complete = datetime.fromtimestamp(evaluations["finished"].max())
        yield trial


def _individuals(facts: Facts) -> Iterator[Individual]:
    return (fact for fact in bred_in(facts).values() if fact["fact"] == "individual")


def _parameters(
    facts: Facts, individual: Individual
) -> "tuple[dict[str, BaseDistribution], dict[str, Any]]":
    """Distributions and values of an individual's active genes, `<mixture>.<source>` for shares."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    distributions: dict[str, BaseDistribution] = {}
    params: dict[str, Any] = {}
    for name, value in individual["genome"].items():
        gene = spec(facts).genome.get(name)
        if isinstance(value, dict):
            for column in Columns.of(facts).genes:
                mixture, _, source = column.partition(".")
                if mixture == name:
                    params[column] = min(1.0, value.get(source, 0.0))
                    distributions[column] = FloatDistribution(0.0, 1.0)
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
    individual: Individual, measured: Mapping[str, float], evaluations: pd.DataFrame
) -> dict[str, Any]:
    """How an individual was bred, all that was measured, and why it failed."""
    attributes: dict[str, Any] = {
        "individual": individual["id"],
        **{name: individual[name] for name in ("operator", "parents", "generation")},
        "seeds": len(evaluations),
        **{name: value for name, value in measured.items() if math.isfinite(value)},
    }
    failed = evaluations[evaluations["status"] != "ok"]
    if not failed.empty:
        attributes["status"] = str(failed["status"].iloc[-1])
        attributes["message"] = str(failed["message"].iloc[-1])[-MESSAGE:]
    return attributes


def _intermediate(facts: Facts, evaluations: pd.DataFrame) -> dict[int, float]:
    """The first objective by tokens, where an individual was scored before its end."""
    first = next(iter(objectives(facts)))
    column, tokens = Columns.of(facts).measurements[first], spec(facts).budget.tokens
    scored = evaluations[(evaluations["status"] == "ok") & evaluations[column].notna()]
    if (scored["fidelity"] == FULL).all():
        return {}
    means = scored.groupby("fidelity")[column].mean()
    return {round(float(str(share)) * tokens): float(value) for share, value in means.items()}


def _violations(facts: Facts, measured: Mapping[str, float]) -> dict[str, float]:
    """Excess over each limit, in the measurement's unit: at most 0 where it is met."""
    excess = {}
    for constraint in constraints(facts):
        value = measured.get(constraint.name, math.nan)
        if math.isfinite(value):
            name = f"{constraint.name} {'<=' if constraint.sign > 0 else '>='} limit"
            excess[name] = constraint.sign * (value - constraint.limit)
    return excess
