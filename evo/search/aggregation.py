"""Aggregates of an evaluation, added to what was measured before it is recorded."""

import math
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from evo.config import Composed, SearchConfig, aggregates
from evo.config.aggregates import NOTHING
from evo.config.file import nearest
from evo.significance import Sample
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status


def is_relative(config: SearchConfig) -> bool:
    """True if an aggregate is relative to the untouched base."""
    return any(one.relative for one in aggregates(config))


def aggregated(
    config: SearchConfig, evaluation: Evaluation, base: Mapping[str, float] = NOTHING
) -> Evaluation:
    """The evaluation with its aggregates as measurements too, and their scores by held-out item.

    Those of domains and prompt sets that were not to be scored are left out. It is marked as failed
    if another has no finite value. `base` has the measurements of the untouched
    base on the same split, for those that are relative to it; InputError if one is not above 0.
    """
    if evaluation.status is not Status.OK or not evaluation.spec.scores_split:
        return evaluation
    added: dict[str, float] = {}
    by_item: dict[str, Any] = {}
    for one in aggregates(config):
        if not _is_scored(one, evaluation.spec):
            continue
        if one.relative:
            _check_divisors(one, evaluation.spec.split, base)
        try:
            added[one.name] = _value(one, evaluation.measurements, base)
        except ValueError as error:
            why = f"aggregate {one.name}: {error}"
            return replace(evaluation, status=Status.ERROR, message=why)
        if sample := _sample(one, evaluation.details, base):
            by_item[one.name] = sample.recorded()
    details = dict(evaluation.details)
    if by_item:
        details["items"] = {**details["items"], **by_item}
    measurements = {**evaluation.measurements, **added}
    return replace(evaluation, measurements=measurements, details=details)


def aggregated_scores(
    config: SearchConfig, simulated: Evaluation, base: Mapping[str, float]
) -> Evaluation:
    """Simulated mixtures with their aggregates; none of the scores where one has no value."""
    asked = simulated.spec
    scored = EvaluationSpec(asked.individual, {}, asked.seed, scored=asked.scored)
    scores = []
    for measurements in simulated.details.get("scores", ()):
        one = aggregated(config, Evaluation(scored, Status.OK, measurements), base)
        whole = bool(measurements) and one.status is Status.OK
        scores.append(dict(one.measurements) if whole else {})
    return replace(simulated, details={**simulated.details, "scores": scores})


def unaggregated(config: SearchConfig, evaluation: Evaluation) -> Evaluation:
    """The evaluation as it was measured, such as one that an earlier round has recorded."""
    details = dict(evaluation.details)
    if "items" in details:
        details["items"] = _without(details["items"], config.aggregates)
    measurements = _without(evaluation.measurements, config.aggregates)
    return replace(evaluation, measurements=measurements, details=details)


def _is_scored(one: Composed, spec: EvaluationSpec) -> bool:
    """True where all domains and prompt sets that an aggregate is made of are scored."""
    return spec.scored is None or all(name.split("/")[0] in spec.scored for name in one.weights)


def _without(values: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _check_divisors(one: Composed, split: str, base: Mapping[str, float]) -> None:
    """Raise InputError if nothing can be divided by a measurement of the untouched base."""
    for name in one.weights:
        if name in base and not base[name] > 0:
            raise InputError(
                f"aggregates.{one.name}: relative_to divides by what the untouched base has, which "
                f"must be above 0, but its {name} on the {split} split is {base[name]:g}; leave "
                f"out relative_to, or {name}"
            )


def _value(one: Composed, measured: Mapping[str, float], base: Mapping[str, float]) -> float:
    """Value of an aggregate. ValueError, with the reason, if it has none."""
    if one.name in measured:
        raise ValueError("a measurement has this name already; rename the aggregate")
    absent = [name for name in one.weights if name not in measured]
    if absent:
        close = nearest(absent[0], measured)
        hint = f"; did you mean {close}?" if close else ""
        had = ", ".join(measured) or "nothing"
        raise ValueError(f"{absent[0]} was not measured, only {had}{hint}")
    value = one.value(measured, base)
    if not math.isfinite(value):
        raise ValueError(f"is {value}, which is not finite")
    return value


def _sample(
    composed: Composed, details: Mapping[str, Any], base: Mapping[str, float]
) -> Sample | None:
    """Scores of a mean by held-out item; None if one of its measurements has none."""
    if composed.kind != "mean":
        return None
    samples = {name: Sample.of(details, name) for name in composed.weights}
    return Sample.of_mean(samples, composed.slopes(base))
