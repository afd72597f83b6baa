"""Predicted losses and constraints, composed of a model of each part.

A loss that is one part is modelled by a Gaussian process and trees together. Where a loss is made
of several parts, each has a process of its own: a part depends on fewer genes than the whole
does, so that it is learned from fewer evaluations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from population.acquisition import log_expected_hypervolume_improvement, log_expected_improvement
from population.composition import Composition, Term
from population.predictor import Predictor, standardised, tempered

Array = npt.NDArray[np.float64]
Moments = tuple[Array, Array]  # mean and variance
Role = Literal["loss", "limit", "member"]

# Of the errors of parts. A process that errs on one part tends to err on others at the same place;
# with 0 less was found on all of three tasks that were not decided by chance.
CORRELATION = 0.5
DRAWS = 64  # of the parts of a maximum or minimum
LEAST_LOG_ODDS = float(np.log(0.01))  # of being feasible, that a candidate is given at least
TAIL = 3.0  # bad values further from the median are compressed; in units of median - best tenth
REACH = 1e6  # largest ratio of the values of a part that is modelled by its logarithm
ENOUGH = 4  # records at a fidelity to know the scale of a part at it


@dataclass(frozen=True)
class Target:
    """A part to be modelled, signed so that lower is better.

    It is a whole `loss`, of which only the order matters, the whole of a `limit`, or a `member`:
    one of several parts.
    """

    part: int
    sign: float
    role: Role


@dataclass(frozen=True)
class Outcomes:
    """Modelled values (n,) of a target, and how they become values of the part.

    value = middle + width * modelled, or the exponential of that if `logarithmic`.
    """

    modelled: Array
    middle: float = 0.0
    width: float = 1.0
    logarithmic: bool = False

    def values(self, modelled: Array) -> Array:
        """Values of the part, from modelled ones."""
        linear = self.middle + self.width * modelled
        return np.exp(linear) if self.logarithmic else linear

    def moments(self, mean: Array, variance: Array) -> Moments:
        """Mean and variance of the part, from those of the modelled value."""
        mean, variance = self.middle + self.width * mean, self.width**2 * variance
        if not self.logarithmic:
            return mean, variance
        raised = np.exp(mean + variance / 2)  # moments of the log-normal distribution
        return raised, np.expm1(variance) * raised**2


def targets_of(composition: Composition) -> tuple[Target, ...]:
    """The parts to be modelled, each once."""
    groups = [targets(term, "loss") for term in composition.losses]
    groups += [targets(limit.term, "limit") for limit in composition.limits]
    return tuple(dict.fromkeys(target for group in groups for target in group))


def targets(term: Term, whole: Role) -> list[Target]:
    """The targets that a term is made of, in the order of its weights."""
    role = whole if len(term.weights) == 1 else "member"
    return [Target(part, float(np.sign(weight)), role) for part, weight in term.weights.items()]


def outcomes(target: Target, parts: Array, levels: Array, *, temper: bool = True) -> Outcomes:
    """Modelled values of parts (n, m) measured at fidelities `levels` (n,); missing ones are worst.

    Values at different fidelities are made comparable by transforming each fidelity's on their own.
    """
    values = target.sign * parts[:, target.part]
    values = np.where(np.isfinite(values), values, values[np.isfinite(values)].max())
    if target.role == "loss":
        return Outcomes(_by_level(tempered if temper else standardised, values, levels))
    logarithmic = bool(0 < values.max() <= REACH * values.min())
    values = _by_level(_tamed, np.log(values) if logarithmic else values, levels)
    known, counts = np.unique(levels, return_counts=True)
    enough = counts >= ENOUGH
    reference = values[levels == (known[enough].max() if enough.any() else known[counts.argmax()])]
    middle, width = float(reference.mean()), float(reference.std())
    return Outcomes(_by_level(standardised, values, levels), middle, width or 1.0, logarithmic)


def _by_level(shape: Callable[[Array], Array], values: Array, levels: Array) -> Array:
    shaped = np.empty(len(values))
    for level in np.unique(levels):
        shaped[levels == level] = shape(values[levels == level])
    return shaped


def _tamed(values: Array) -> Array:
    """Values (n,) with the bad tail compressed by a logarithm, so that a collapse is no outlier."""
    middle, good = np.quantile(values, [0.5, 0.1])
    unit = middle - good
    if unit <= 0:
        return values
    beyond = np.maximum(values - middle - TAIL * unit, 0.0)
    return np.asarray(values - beyond + unit * np.log1p(beyond / unit))


@dataclass(frozen=True)
class Modelled:
    """Models of the targets of a composition, fitted to `outcomes`."""

    composition: Composition
    models: Mapping[Target, Predictor]
    outcomes: Mapping[Target, Outcomes]

    def promise(
        self, at: Mapping[Target, Array], leading: Sequence[int], rng: np.random.Generator
    ) -> Array:
        """Log of the expected improvement on the records `leading` at points, (m,).

        `at` has the points (m, d) as each target is modelled in. Weighed by the probability that
        all limits are met, as if these were independent.
        """
        found = [self._moments(term, "loss", at, rng) for term in self.composition.losses]
        mean, variance = (np.stack(each, axis=1) for each in zip(*found, strict=True))
        seen = self.known_losses()
        best = seen[leading]
        if len(found) == 1:
            lowest = float(best.min())
            gain = log_expected_improvement(lowest, mean[:, 0], np.sqrt(variance[:, 0]))
        else:
            gain = log_expected_hypervolume_improvement(best, mean, variance, rng, seen)
        for limit in self.composition.limits:
            mean_of, variance_of = self._moments(limit.term, "limit", at, rng)
            log_odds = log_ndtr((limit.most - mean_of) / np.sqrt(variance_of))
            gain = gain + np.maximum(log_odds, LEAST_LOG_ODDS)
        return gain

    def known_losses(self) -> Array:
        """Modelled losses (n, losses) of the records."""
        columns = []
        for term in self.composition.losses:
            found = [self.outcomes[target] for target in targets(term, "loss")]
            if len(found) == 1:
                columns.append(found[0].modelled)
            else:
                columns.append(term(np.stack([one.values(one.modelled) for one in found], axis=1)))
        return np.stack(columns, axis=1)

    def _moments(
        self, term: Term, whole: Role, at: Mapping[Target, Array], rng: np.random.Generator
    ) -> Moments:
        """Mean and variance of a term at points, each (m,)."""
        group = targets(term, whole)
        predicted = [self.models[target].predict(at[target]) for target in group]
        if group[0].role == "loss":
            return predicted[0]
        found = [self.outcomes[target] for target in group]
        if term.kind == "sum":
            moments = [one.moments(*each) for one, each in zip(found, predicted, strict=True)]
            mean, variance = (np.stack(each) for each in zip(*moments, strict=True))
            sizes = np.abs(list(term.weights.values()))
            alike = (sizes @ np.sqrt(variance)) ** 2
            apart = sizes**2 @ variance
            return sizes @ mean, CORRELATION * alike + (1 - CORRELATION) * apart
        # No closed form. The same draws at every point, so that points are compared alike.
        normal = rng.standard_normal((DRAWS, 1, len(group)))
        mean, variance = (np.stack(each, axis=1) for each in zip(*predicted, strict=True))
        drawn = np.moveaxis(mean + normal * np.sqrt(variance), 2, 0)
        values = [one.values(each) for one, each in zip(found, drawn, strict=True)]
        composed = term(np.stack(values, axis=2))
        return composed.mean(axis=0), composed.var(axis=0) + 1e-12
