"""Losses and limits composed of parts, each of which can be modelled on its own.

A part is a measurement that an objective or a constraint is made of, such as one of the losses of
which an objective is the mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Kind = Literal["sum", "max", "min"]
REDUCE: Mapping[Kind, Callable[..., Any]] = {"sum": np.sum, "max": np.max, "min": np.min}


@dataclass(frozen=True)
class Term:
    """A sum, maximum or minimum of weighted parts; `weights` are by the number of the part."""

    weights: Mapping[int, float]
    kind: Kind = "sum"

    def __call__(self, parts: Array) -> Array:
        """The term of its parts, signed so that lower is better: (..., len(weights)) -> (...)."""
        sizes = np.abs(list(self.weights.values()))
        return np.asarray(REDUCE[self.kind](sizes * parts, axis=-1))


@dataclass(frozen=True)
class Limit:
    """A constraint: the term is to be at most `most`."""

    term: Term
    most: float


@dataclass(frozen=True)
class Composition:
    """All losses, lower is better, and all constraints, in terms of the parts of an individual."""

    losses: tuple[Term, ...]
    limits: tuple[Limit, ...] = ()

    @property
    def of_several(self) -> bool:
        """True if every loss is made of several parts."""
        return all(len(term.weights) > 1 for term in self.losses)

    @property
    def size(self) -> int:
        """Number of parts."""
        terms = [*self.losses, *(limit.term for limit in self.limits)]
        return 1 + max(part for term in terms for part in term.weights)


def plain(objectives: int) -> Composition:
    """Each loss a part of its own, and last whether a constraint is missed (1) or none is (0)."""
    losses = tuple(Term({number: 1.0}) for number in range(objectives))
    return Composition(losses, (Limit(Term({objectives: 1.0}), 0.5),))


def plain_parts(losses: Sequence[float], violation: float) -> tuple[float, ...]:
    """The parts of an individual for `plain`."""
    return (*losses, float(violation > 0))
