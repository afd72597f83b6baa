"""Parts that a strategy may model on their own: the measurements behind losses and constraints."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evo.config.aggregates import NOTHING, Composed, aggregates
from evo.config.genomes import Constraint, Objective, constraints, objectives
from evo.config.sections import SearchConfig
from population.composition import Composition, Kind, Limit, Term

FLIPPED: Mapping[Kind, Kind] = {"sum": "sum", "max": "min", "min": "max"}


@dataclass(frozen=True)
class Part:
    """A measurement, divided by the untouched base's if `relative`; less a limit if there is one.

    The limit is that of a constraint relative to the base, which no composition can know before
    the base is measured.
    """

    measurement: str
    relative: bool = False
    limit: Constraint | None = None

    def value(self, measurements: Mapping[str, float], base: Mapping[str, float]) -> float:
        """The part of an evaluation. KeyError if it was not measured."""
        value = measurements[self.measurement]
        if self.relative:
            value /= base[self.measurement]
        return value if self.limit is None else value - self.limit.against(base).limit


@dataclass(frozen=True)
class Parts:
    """Losses and constraints in terms of parts, and the parts in their order."""

    composition: Composition
    parts: tuple[Part, ...]

    def of(
        self, measurements: Mapping[str, float], base: Mapping[str, float] = NOTHING
    ) -> tuple[float, ...]:
        """Values of the parts; `base` has the untouched base's measurements, if it is needed."""
        return tuple(part.value(measurements, base) for part in self.parts)


def composed_parts(config: SearchConfig) -> Parts:
    """The parts of a spec's objectives and constraints."""
    known = {one.name: one for one in aggregates(config)}

    def composed(name: str) -> Composed:
        return known.get(name, Composed(name, "mean", {name: 1.0}))

    pairs = [(composed(one.name), one) for one in objectives(config)]
    return parts_of(pairs, [(composed(one.name), one) for one in constraints(config)])


def needed(config: SearchConfig) -> list[str]:
    """Measurements that the objectives and the constraints of a search are made of."""
    return list(dict.fromkeys(part.measurement for part in composed_parts(config).parts))


def scored_sets(config: SearchConfig) -> frozenset[str]:
    """Domains, prompt sets and benchmarks that the objectives and the constraints are made of."""
    return frozenset(name.split("/")[0] for name in needed(config))


def parts_of(
    losses: Iterable[tuple[Composed, Objective]],
    limits: Iterable[tuple[Composed, Constraint]] = (),
) -> Parts:
    """The parts of objectives and constraints, each given with what it is composed of."""
    parts: dict[Part, int] = {}
    terms = tuple(_term(one, objective.sign, None, parts) for one, objective in losses)
    found = []
    for one, constraint in limits:
        relative = constraint.factor is not None
        term = _term(one, constraint.sign, constraint if relative else None, parts)
        found.append(Limit(term, 0.0 if relative else constraint.sign * constraint.limit))
    return Parts(Composition(terms, tuple(found)), tuple(parts))


def _term(composed: Composed, sign: int, limit: Constraint | None, parts: dict[Part, int]) -> Term:
    """The term of an aggregate, oriented so that lower is better; adds its parts to `parts`."""
    shares = composed.weights if composed.kind == "mean" else dict.fromkeys(composed.weights, 1.0)
    kind: Kind = "sum" if composed.kind == "mean" else composed.kind
    weights = {}
    for name, share in shares.items():
        part = Part(name, composed.relative, limit)
        weights[parts.setdefault(part, len(parts))] = sign * share
    return Term(weights, kind if sign > 0 else FLIPPED[kind])
