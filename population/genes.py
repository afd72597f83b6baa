"""Genes, the parameters that can be evolved: `Float`, `Int`, `Choice` and `Simplex`, validated."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Discriminator, Field, field_validator
from pydantic.dataclasses import dataclass

from population.simplex import TOLERANCE, dirichlet_spread, hellinger, project

Array = npt.NDArray[np.float64]
Scalar = str | int | float | bool
Value = Scalar | dict[str, float]
When = dict[str, Scalar | tuple[Scalar, ...]]

_CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)
_FIXED = "for a fixed value set it under `recipe` instead"


@dataclass(frozen=True, config=_CLOSED)
class Prior:
    """Where the best value of a number is likely: near `at`; `strong` is nearer than `weak`.

    Nine of ten draws are normal around it on the gene's scale, with a deviation of a quarter of
    the range (`weak`) or a tenth (`strong`); the tenth is uniform, since a belief may be wrong.
    """

    at: Annotated[float, Field(description="The likely value, in the gene's unit.")]
    strength: Annotated[
        Literal["weak", "strong"],
        Field(description="Deviation of the draws: a quarter of the range, or a tenth."),
    ] = "weak"


DEVIATIONS = {"weak": 0.25, "strong": 0.1}  # of the coordinate, from 0 to 1
ELSEWHERE = 0.1  # share of the draws that ignore the prior


@dataclass(frozen=True, config=_CLOSED)
class Float:
    """A real number in [low, high]; `log` searches its logarithm, so low must then be positive."""

    low: float
    high: float
    log: bool = False
    prior: Prior | None = None
    when: When | None = None
    type: Literal["float"] = "float"

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=self.log)
        _check_prior(self.prior, self.low, self.high)

    @property
    def size(self) -> int:
        return 1

    def draw(self, rng: np.random.Generator) -> float:
        return self.decode([rng.random() if self.prior is None else _likely(self, rng)])

    def middle(self) -> float:
        """The middle of the range, or where the prior is."""
        return self.decode([0.5]) if self.prior is None else self.repair(self.prior.at)

    def repair(self, value: Any) -> float:
        return min(max(_number(value), self.low), self.high)

    def encode(self, value: Any) -> list[float]:
        return [_scaled(value, self.low, self.high, log=self.log)]

    def decode(self, coordinates: Sequence[float] | Array) -> float:
        return self.repair(_unscaled(coordinates[0], self.low, self.high, log=self.log))

    def squared_distance(self, a: Any, b: Any) -> float:
        return (self.encode(a)[0] - self.encode(b)[0]) ** 2


@dataclass(frozen=True, config=_CLOSED)
class Int:
    """A whole number from low to high, both included; `log` searches its logarithm (low >= 1)."""

    low: int
    high: int
    log: bool = False
    prior: Prior | None = None
    when: When | None = None
    type: Literal["int"] = "int"

    @field_validator("low", "high", mode="before")
    @classmethod
    def _bounds_are_whole(cls, bound: Any) -> Any:
        if isinstance(bound, float) and not bound.is_integer():
            raise ValueError(
                f"bounds of an int gene must be whole, got {bound}; round it or use a float gene"
            )
        return bound

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=self.log)
        _check_prior(self.prior, self.low, self.high)

    @property
    def size(self) -> int:
        return 1

    def draw(self, rng: np.random.Generator) -> int:
        if self.prior is not None:
            return self.decode([_likely(self, rng)])
        if not self.log:
            return int(rng.integers(self.low, self.high, endpoint=True))
        # Half a unit beyond each bound, so that rounding gives the bounds their fair share.
        return self.repair(
            math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        )

    def middle(self) -> int:
        """The middle of the range, or where the prior is."""
        return self.decode([0.5]) if self.prior is None else self.repair(self.prior.at)

    def repair(self, value: Any) -> int:
        return min(max(round(_number(value)), self.low), self.high)

    def encode(self, value: Any) -> list[float]:
        return [_scaled(value, self.low, self.high, log=self.log)]

    def decode(self, coordinates: Sequence[float] | Array) -> int:
        return self.repair(_unscaled(coordinates[0], self.low, self.high, log=self.log))

    def squared_distance(self, a: Any, b: Any) -> float:
        return (self.encode(a)[0] - self.encode(b)[0]) ** 2


@dataclass(frozen=True, config=_CLOSED)
class Choice:
    """One of a few unordered options; any two options are equally far apart."""

    options: tuple[Scalar, ...]
    when: When | None = None
    type: Literal["choice"] = "choice"

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError("options must name at least one value, got none; list what to try")
        for index, option in enumerate(self.options):
            if option in self.options[:index]:
                raise ValueError(f"options must differ, {option!r} is there twice; remove one")

    @property
    def size(self) -> int:
        return len(self.options)

    def draw(self, rng: np.random.Generator) -> Scalar:
        return self.options[int(rng.integers(len(self.options)))]

    def middle(self) -> Scalar:
        """Options have no middle: the first."""
        return self.options[0]

    def repair(self, value: Any) -> Scalar:
        return self.options[self.options.index(value)] if value in self.options else self.middle()

    def encode(self, value: Any) -> list[float]:
        return [float(option == value) for option in self.options]

    def decode(self, coordinates: Sequence[float] | Array) -> Scalar:
        return self.options[int(np.argmax(coordinates))]

    def squared_distance(self, a: Any, b: Any) -> float:
        return float(a != b)


@dataclass(frozen=True, config=_CLOSED)
class Simplex:
    """A mixture: shares of the sources in `over`, which sum to 1, each from its floor to its cap.

    One number as `floor` or `cap` holds for every source, a mapping for those that it names. With
    `over` left out the mixture is over all sources.
    """

    over: tuple[str, ...] = ()  # if empty, to be filled in before the gene is used
    floor: float | dict[str, float] = 0.0
    cap: float | dict[str, float] = 1.0
    when: When | None = None
    type: Literal["simplex"] = "simplex"

    def __post_init__(self) -> None:
        for index, name in enumerate(self.over):
            if name in self.over[:index]:
                raise ValueError(f"over must name each source once, {name!r} is there twice")
        for label, bound in (("floor", self.floor), ("cap", self.cap)):
            for name, share in bound.items() if isinstance(bound, dict) else [("", bound)]:
                of = f" of {name!r}" if name else ""
                if self.over and name and name not in self.over:
                    raise ValueError(
                        f"{label}{of}: no such source; the mixture is over {', '.join(self.over)}"
                    )
                if not 0 <= share <= 1:
                    raise ValueError(f"{label}{of} must be a share from 0 to 1, got {share}")
        if self.over:
            self._check_shares()

    def _check_shares(self) -> None:
        floor, cap = self.bounds
        for name, low, high in zip(self.over, floor, cap, strict=True):
            if low > high:
                raise ValueError(
                    f"source {name!r}: floor {low:g} is above cap {high:g};"
                    " lower the floor or raise the cap"
                )
        if floor.sum() > 1 + TOLERANCE:
            raise ValueError(f"floors must sum to at most 1, got {floor.sum():.6g}; lower some")
        if cap.sum() < 1 - TOLERANCE:
            raise ValueError(f"caps must sum to at least 1, got {cap.sum():.6g}; raise some")

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Floor and cap of every source in the order of `over`, each (k,)."""
        return self._per_source(self.floor, 0.0), self._per_source(self.cap, 1.0)

    def _per_source(self, bound: float | dict[str, float], default: float) -> Array:
        named = bound if isinstance(bound, dict) else dict.fromkeys(self.over, bound)
        return np.array([named.get(name, default) for name in self.over], dtype=np.float64)

    @property
    def size(self) -> int:
        return len(self.over)

    def shares(self, weights: Array) -> dict[str, float]:
        """Weights (k,) -> the nearest mixture within floor and cap, by source."""
        return dict(zip(self.over, project(weights, *self.bounds).tolist(), strict=True))

    def weights(self, mixture: Any) -> Array:
        """Mixture by source -> (k,) in the order of `over`, negative shares as 0."""
        return np.array([max(_number(mixture.get(name, 0.0)), 0.0) for name in self.over])

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        floor, _ = self.bounds
        return self.shares(floor + (1 - floor.sum()) * dirichlet_spread(self.size, rng))

    def middle(self) -> dict[str, float]:
        return self.shares(np.full(self.size, 1 / self.size))

    def repair(self, value: Any) -> dict[str, float]:
        weights = self.weights(value)
        total = weights.sum()
        if total <= 0:
            return self.middle()
        return self.shares(weights if abs(total - 1) <= TOLERANCE else weights / total)

    def encode(self, value: Any) -> list[float]:
        return [math.sqrt(value[name]) for name in self.over]

    def decode(self, coordinates: Sequence[float] | Array) -> dict[str, float]:
        squares = np.maximum(np.asarray(coordinates, dtype=np.float64), 0.0) ** 2
        return self.repair(dict(zip(self.over, squares.tolist(), strict=True)))

    def squared_distance(self, a: Any, b: Any) -> float:
        return hellinger(self.weights(a), self.weights(b)) ** 2


Gene = Annotated[Float | Int | Choice | Simplex, Discriminator("type")]


def _check_bounds(low: float, high: float, *, log: bool) -> None:
    if low == high:
        raise ValueError(f"low must be below high, both are {low}; {_FIXED}")
    if low > high:
        raise ValueError(f"low must be below high, got low={low}, high={high}; swap them")
    if log and low <= 0:
        raise ValueError(f"a log scale needs a low above 0, got low={low}; raise it or drop log")


def _check_prior(prior: Prior | None, low: float, high: float) -> None:
    if prior is not None and not low <= prior.at <= high:
        raise ValueError(
            f"prior at {prior.at:g} is outside {low:g} to {high:g}; move it or the bounds"
        )


def _likely(gene: Float | Int, rng: np.random.Generator) -> float:
    """A coordinate from 0 to 1, drawn by the gene's prior."""
    if gene.prior is None or rng.random() < ELSEWHERE:
        return rng.random()
    [middle] = gene.encode(gene.prior.at)
    while not 0 <= (drawn := rng.normal(middle, DEVIATIONS[gene.prior.strength])) <= 1:
        pass  # at most about half are outside
    return drawn


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a gene's value must be finite, got {value}")
    return number


def _scaled(value: float, low: float, high: float, *, log: bool) -> float:
    """Value in [low, high] -> coordinate in [0, 1]."""
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _unscaled(coordinate: float, low: float, high: float, *, log: bool) -> float:
    share = min(max(float(coordinate), 0.0), 1.0)
    return float(low * (high / low) ** share) if log else float(low + share * (high - low))
