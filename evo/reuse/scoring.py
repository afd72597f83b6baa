"""Losses and parts, by the objectives of a new search, of what an earlier search measured."""

import math
from collections.abc import Mapping
from dataclasses import replace

from evo.config import Composed, SearchConfig, aggregates, constraints, objectives
from evo.config.composition import Part, composed_parts
from population.individual import Individual

Measured = Mapping[str, float]
UNKNOWN = math.nan


def says_something(config: SearchConfig, measured: Measured, base: Measured) -> bool:
    """True if the first objective, or a part of it, is known."""
    return _first(config, measured, base) is not None


def scored(
    config: SearchConfig, individual: Individual, measured: Measured, base: Measured
) -> Individual:
    """The individual with losses, violation and parts, as far as they were measured.

    Parts that are not known are NaN. A loss is of the known parts of its objective, 0 without any:
    equal for all, so that it says nothing. Constraints that are not known count as met.
    """
    known, of_base = _with_aggregates(config, measured, base), _with_aggregates(config, base, base)
    values = [_objective(config, one.name, known, base) for one in objectives(config)]
    losses = tuple(
        0.0 if value is None else one.sign * value
        for one, value in zip(objectives(config), values, strict=True)
    )
    limits = [one for one in constraints(config, of_base) if one.name in known]
    violation = sum(one.excess(known) for one in limits if not math.isnan(one.limit))
    parts = tuple(_part(part, measured, of_base) for part in composed_parts(config).parts)
    return replace(individual, losses=losses, violation=violation, parts=parts)


def _first(config: SearchConfig, measured: Measured, base: Measured) -> float | None:
    first = next(iter(config.objectives))
    return _objective(config, first, _with_aggregates(config, measured, base), base)


def _objective(config: SearchConfig, name: str, known: Measured, base: Measured) -> float | None:
    """Value of an objective, of its known parts if some are missing; None without any."""
    if name in known:
        return known[name]
    composed = {one.name: one for one in aggregates(config)}.get(name)
    if composed is None:
        return None
    weights = {n: w for n, w in composed.weights.items() if _is_known(composed, n, known, base)}
    return replace(composed, weights=weights).value(known, base) if weights else None


def _with_aggregates(config: SearchConfig, measured: Measured, base: Measured) -> dict[str, float]:
    """The measurements, and those aggregates of which every part is known."""
    whole = [
        one
        for one in aggregates(config)
        if all(_is_known(one, name, measured, base) for name in one.weights)
    ]
    return {**measured, **{one.name: one.value(measured, base) for one in whole}}


def _is_known(composed: Composed, name: str, measured: Measured, base: Measured) -> bool:
    return name in measured and (not composed.relative or base.get(name, 0.0) > 0)


def _part(part: Part, measured: Measured, base: Measured) -> float:
    """Value of a part; NaN if it, or what it is relative to, was not measured."""
    if part.measurement not in measured:
        return UNKNOWN
    if part.relative and not base.get(part.measurement, 0.0) > 0:
        return UNKNOWN
    return part.value(measured, base)
