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
    gene_values,
    objectives,
    scores,
    search_rows,
    spec,
)
from evo.places import check_room_for
from evo.planning.lineages import from_fact, portion
from evo.record.facts import Facts, Individual
from evo.record.state import state
from fitness.errors import InputError
from population.space import Choice, Float, Int
from population.strategies.optuna import quiet

MESSAGE = 500  # characters of why an individual failed
UNKNOWN = 1e9  # excess where the measurement or the base is missing: the limit is not met

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


def write_study(facts: Facts, name: str, file: Path, *, alive: bool = False) -> int:
    """Write a study `name` to a new journal file of Optuna; the number of its trials.

    Whole fine-tunes are complete, those that ended on a rung or are experts pruned; one without a
    result is running while a driver is `alive`, else waiting. Intermediate values are of the first
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
        study.add_trials(trials := list(_trials(facts, alive=alive)))
        partial.rename(file)
    return len(trials)


def _trials(facts: Facts, *, alive: bool) -> "Iterator[FrozenTrial]":
    from optuna.trial import TrialState, create_trial

    columns, rows = Columns.of(facts).measurements, search_rows(facts)
    means = {int(row["individual"]): row for _, row in scores(facts).iterrows()}
    running = state(facts, alive=alive) == "running"
    unfinished = TrialState.RUNNING if running else TrialState.WAITING
    distributions = _distributions(facts)
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
        params = _parameters(facts, individual)
        trial = create_trial(
            state=outcome,
            values=[measured[name] for name in objectives(facts)] if measured else None,
            params=params,
            distributions={name: distributions[name] for name in params},
            user_attrs=_attributes(individual, measured, evaluations),
            intermediate_values=_intermediate(facts, individual, evaluations),
            constraints=_excesses(facts, measured) if measured else None,
        )
        if not evaluations.empty:
            trial.datetime_start = datetime.fromtimestamp(evaluations["started"].min())
            trial.datetime_complete = datetime.fromtimestamp(evaluations["finished"].max())
        yield trial


def _individuals(facts: Facts) -> Iterator[Individual]:
    return (fact for fact in bred_in(facts).values() if fact["fact"] == "individual")


def _parameters(facts: Facts, individual: Individual) -> dict[str, Any]:
    """Values of an individual's active genes; of a mixture the shares, as `<mixture>.<source>`."""
    return gene_values(individual["genome"], {name: name for name in Columns.of(facts).genes})


def _distributions(facts: Facts) -> "dict[str, BaseDistribution]":
    """One for each parameter, which all trials share: else Optuna leaves it out of importances.

    A baseline or a known genome may lie outside of a gene's range, which is widened then.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    values: dict[str, list[Any]] = {}
    for individual in _individuals(facts):
        for name, value in _parameters(facts, individual).items():
            values.setdefault(name, []).append(value)
    distributions: dict[str, BaseDistribution] = {}
    for name, seen in values.items():
        gene = spec(facts).genome.get(name)
        if isinstance(gene, Choice):
            options = [*gene.options, *(value for value in seen if value not in gene.options)]
            distributions[name] = CategoricalDistribution(list(dict.fromkeys(options)))
            continue
        bounds = (gene.low, gene.high) if isinstance(gene, Int | Float) else (0.0, 1.0)
        low, high = min(*bounds, *seen), max(*bounds, *seen)
        logarithmic = isinstance(gene, Int | Float) and gene.log and low > 0
        kind: Any = IntDistribution if isinstance(gene, Int) else FloatDistribution
        distributions[name] = kind(low, high, log=logarithmic)
    return distributions


def _attributes(
    individual: Individual, measured: Mapping[str, float], evaluations: pd.DataFrame
) -> dict[str, Any]:
    """How an individual was bred, all that was measured, and why it failed."""
    attributes: dict[str, Any] = {
        "individual": individual["id"],
        **{name: individual[name] for name in ("operator", "parents", "generation")},
        "seeds": evaluations.loc[evaluations["status"] == "ok", "seed"].nunique(),
        **{name: value for name, value in measured.items() if math.isfinite(value)},
    }
    failed = evaluations[evaluations["status"] != "ok"]
    if not failed.empty:
        attributes["status"] = str(failed["status"].iloc[-1])
        attributes["message"] = str(failed["message"].iloc[-1])[-MESSAGE:]
    return attributes


def _intermediate(
    facts: Facts, individual: Individual, evaluations: pd.DataFrame
) -> dict[int, float]:
    """The first objective by tokens, where an individual was scored before its end."""
    column = Columns.of(facts).measurements[next(iter(objectives(facts)))]
    scored = evaluations[(evaluations["status"] == "ok") & evaluations[column].notna()]
    if (scored["fidelity"] == FULL).all():
        return {}
    tokens = spec(facts).budget.tokens * portion(spec(facts), from_fact(individual))
    means = scored.groupby("fidelity")[column].mean()
    shares = means.index.to_numpy(float)
    return {round(share * tokens): value for share, value in zip(shares, means, strict=True)}


def _excesses(facts: Facts, measured: Mapping[str, float]) -> dict[str, float]:
    """Excess over each limit, in the measurement's unit: at most 0 where it is met."""
    excesses = {}
    for constraint in constraints(facts):
        away = constraint.sign * (measured.get(constraint.name, math.nan) - constraint.limit)
        excesses[str(constraint)] = away if math.isfinite(away) else UNKNOWN
    return excesses
