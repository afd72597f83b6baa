"""Checks of the section `aggregates` against what the spec measures."""

from collections.abc import Iterator, Mapping, Sequence

from evo.config.aggregates import Aggregate, is_glob, measurable
from evo.config.checks.genomes import Problems
from evo.config.file import Key, Problem, nearest
from evo.config.sections import SearchConfig
from fitness.errors import InputError
from fitness.metrics import measurement


def aggregates(config: SearchConfig) -> Problems:
    """Aggregates of what is not measured, is given twice, or improves in unlike directions."""
    known = None
    if config.form.reads_recipe and config.aggregates:
        try:
            known = measurable(config)
        except InputError as error:
            yield Problem(("prompts",), str(error))
            return
    for name, aggregate in config.aggregates.items():
        faults = dict(reversed([*_faults(config, aggregate, known)]))
        yield from (Problem(("aggregates", name, *key), text) for key, text in faults.items())
        if not faults and (text := _unlike(aggregate.weights(known or ()))):
            yield Problem(("aggregates", name, aggregate.kind), text)


def _faults(
    config: SearchConfig, aggregate: Aggregate, known: Sequence[str] | None
) -> Iterator[tuple[Key, str]]:
    """Key and message for each pattern that cannot be used; `known`: measurements, if known."""
    patterns = aggregate.patterns
    for key, (pattern, _) in patterns.items():
        if pattern in config.aggregates:
            yield key, f"{pattern} is an aggregate; name the measurements themselves"
        elif known is None and is_glob(pattern):
            message = f"{pattern!r} is a glob, and what this evaluator measures is not known before"
            yield key, f"{message}; name each measurement"

    def missing(pattern: str) -> str:
        if is_glob(pattern):
            return f"{pattern!r} matches no measurement; there are {', '.join(known or ())}"
        close = nearest(pattern, known or ())
        remedy = f"did you mean {close}?" if close else f"there are {', '.join(known or ())}"
        return f"unknown measurement {pattern}; {remedy}"

    names = [pattern for pattern, _ in patterns.values()] if known is None else known
    yield from aggregate.faults(names, missing)


def _unlike(members: Mapping[str, float]) -> str:
    """Message for measurements of which some are better low and some high; empty if all agree."""
    directions = {name: measurement(name).direction for name in members}
    low = [name for name, direction in directions.items() if direction == "minimize"]
    high = [name for name, direction in directions.items() if direction == "maximize"]
    if not (low and high):
        return ""
    return (
        f"{low[0]} is better low and {high[0]} is better high, so that neither direction improves "
        "both; make an aggregate of each"
    )
