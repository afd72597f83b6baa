"""Aggregates: the weighted mean, the maximum or the minimum of several measurements.

They are recorded beside the measurements, so that an objective, a constraint or a table names them
as it names any other. `evo.replay.roles` has the same over columns of a table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import fsum, inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from evo.config.base_section import Section
from evo.config.file import Key
from fitness.benchmarks.catalogue import measured_names as names_of_benchmarks
from fitness.metrics import Direction, Measurement, measured_names, measurement

if TYPE_CHECKING:
    from evo.config.sections import SearchConfig

Kind = Literal["mean", "max", "min"]
KINDS: tuple[Kind, ...] = ("mean", "max", "min")
NOTHING: Mapping[str, float] = MappingProxyType({})


def one_is_a_list(value: Any) -> Any:
    """`w_*` is short for `[w_*]`."""
    return [value] if isinstance(value, str) else value


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """The names that a name or a glob stands for, in their order; a name stands for itself."""
    if pattern in names:
        return [pattern]
    return [name for name in names if fnmatchcase(name, pattern)]


def is_glob(pattern: str) -> bool:
    """True for a pattern such as `*/loss`, which may stand for several names."""
    return any(sign in pattern for sign in "*?[")


Names = Annotated[tuple[str, ...], Field(min_length=1)]
Weights = Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]
NamesOrWeights = Annotated[
    Annotated[Names, Tag("names")] | Annotated[Weights, Tag("weights")],
    Discriminator(lambda value: "weights" if isinstance(value, Mapping) else "names"),
    BeforeValidator(one_is_a_list),
]
Extreme = Annotated[Names, BeforeValidator(one_is_a_list)]


class Combination(Section):
    """One number made of several: their mean, their maximum or their minimum."""

    mean: NamesOrWeights | None = Field(
        default=None,
        description="The mean of these: names or globs as a list, or a mapping of each to its "
        "weight. Every name that a glob matches has the glob's weight.",
    )
    max: Extreme | None = Field(
        default=None, description="The largest of these: a list of names or globs."
    )
    min: Extreme | None = Field(
        default=None, description="The smallest of these: a list of names or globs."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs one of mean, max and min, got {' and '.join(given) or 'none'}; "
                'write for example `mean: ["*/loss"]`'
            )
        return self

    @property
    def kind(self) -> Kind:
        """How the numbers are composed."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def patterns(self) -> dict[Key, tuple[str, float]]:
        """Names and globs with their weights, by their keys in the section."""
        given = getattr(self, self.kind)
        if isinstance(given, Mapping):
            return {(self.kind, name): (name, weight) for name, weight in given.items()}
        return {(self.kind, place): (name, 1.0) for place, name in enumerate(given)}

    def weights(self, names: Sequence[str]) -> dict[str, float]:
        """Weight by name, as given, with globs replaced by those of `names` that they match."""
        found: dict[str, float] = {}
        for pattern, weight in self.patterns.values():
            for name in matching(pattern, names) or [pattern]:
                found.setdefault(name, weight)
        return found

    def over(self, names: Sequence[str]) -> Self:
        """The same section with globs replaced by those of `names` that they match."""
        weights = self.weights(names)
        by_weight = isinstance(getattr(self, self.kind), Mapping)
        return self.model_copy(update={self.kind: weights if by_weight else tuple(weights)})

    def faults(
        self, names: Sequence[str], missing: Callable[[str], str]
    ) -> Iterator[tuple[Key, str]]:
        """Key and message for each pattern without a match, and each name given twice.

        `missing` words the message for a pattern that matches none of `names`.
        """
        by_pattern: dict[str, str] = {}
        for key, (pattern, _) in self.patterns.items():
            matched = matching(pattern, names)
            if not matched:
                yield key, missing(pattern)
            for name in matched:
                if name in by_pattern:
                    by = [one for one in (by_pattern[name], pattern) if one != name]
                    named = f", by {' and '.join(dict.fromkeys(by))}" if by else ""
                    yield key, f"{name} is given twice{named}; keep one of them"
                by_pattern.setdefault(name, pattern)


class Aggregate(Combination):
    """A mean, maximum or minimum of measurements; give one of the three."""

    relative_to: Literal["base"] | None = Field(
        default=None,
        description="`base`: divide each measurement by the untouched base's on the same split, "
        "so that measurements of unlike size count alike; the base itself has 1.",
    )


@dataclass(frozen=True)
class Composed:
    """An aggregate whose measurements are known by name.

    `weights` sum to 1; a maximum or minimum does not depend on them. If `relative`, each
    measurement is divided by the untouched base's.
    """

    name: str
    kind: Kind
    weights: Mapping[str, float]
    relative: bool = False

    @classmethod
    def of(cls, name: str, given: Combination, names: Sequence[str] = ()) -> Self:
        """The aggregate of a section, whose globs stand for what they match of `names`."""
        weights = given.weights(names)
        largest = max(weights.values())  # divided by it first, since a sum may overflow
        total = fsum(weight / largest for weight in weights.values())
        shares = {member: weight / largest / total for member, weight in weights.items()}
        relative = isinstance(given, Aggregate) and given.relative_to is not None
        return cls(name, given.kind, shares, relative)

    def value(
        self, measurements: Mapping[str, float], base: Mapping[str, float] = NOTHING
    ) -> float:
        """The aggregate of an evaluation, with the untouched base's measurements if relative.

        Infinite if no float is large enough. KeyError if a measurement is missing.
        """
        values = {
            name: measurements[name] / base[name] if self.relative else measurements[name]
            for name in self.weights
        }
        if self.kind == "max":
            return max(values.values())
        if self.kind == "min":
            return min(values.values())
        # In units of the largest weight, so that equal ones are 1, and the base has exactly 1.
        largest = max(self.weights.values())
        weights = {name: weight / largest for name, weight in self.weights.items()}
        try:
            weighted = fsum(weight * values[name] for name, weight in weights.items())
        except OverflowError:
            return inf
        return weighted / fsum(weights.values())

    def slopes(self, base: Mapping[str, float] = NOTHING) -> dict[str, float]:
        """Factors of the measurements whose sum is a mean; `base` as for `value`."""
        return {n: w / base[n] if self.relative else w for n, w in self.weights.items()}

    @property
    def meaning(self) -> Measurement:
        """Unit and direction: those of its measurements where these agree, else none."""
        members = [measurement(name) for name in self.weights]
        directions = {one.direction for one in members if one.direction is not None}
        units = {one.unit for one in members}
        unit = "times the base" if self.relative else units.pop() if len(units) == 1 else ""
        direction: Direction | None = directions.pop() if len(directions) == 1 else None
        described = f"{self.kind} of {', '.join(self.weights)}"
        described += ", each relative to the base" if self.relative else ""
        return Measurement(self.name, unit, direction, described)


def measurable(config: "SearchConfig") -> list[str]:
    """Names of all measurements of domains, prompts and benchmarks. Raises InputError."""
    kinds = {name: domain.kind for name, domain in config.domains.items()}
    return [*measured_names(kinds, config.prompts), *names_of_benchmarks(config.benchmarks)]


def aggregates(config: "SearchConfig") -> tuple[Composed, ...]:
    """The aggregates of a spec, in its order, with globs replaced by what they match."""
    names = _names(config)
    return tuple(Composed.of(name, one, names) for name, one in config.aggregates.items())


def with_names(config: "SearchConfig") -> dict[str, Aggregate]:
    """The section `aggregates` of a spec, with globs replaced by what they match."""
    names = _names(config)
    return {name: one.over(names) for name, one in config.aggregates.items()}


def _names(config: "SearchConfig") -> list[str]:
    """Names that globs may match; none if there is no glob, as in a resolved spec."""
    patterns = [p for one in config.aggregates.values() for p, _ in one.patterns.values()]
    return measurable(config) if any(map(is_glob, patterns)) else []


def meaning(config: "SearchConfig", name: str) -> Measurement:
    """Unit and direction of a measurement or an aggregate."""
    composed = {one.name: one for one in aggregates(config)}
    return composed[name].meaning if name in composed else measurement(name)


def measured_by(config: "SearchConfig", name: str) -> tuple[str, ...]:
    """The measurements behind a name: those of an aggregate, or itself."""
    composed = {one.name: one for one in aggregates(config)}
    return tuple(composed[name].weights) if name in composed else (name,)
