"""Predict outcomes of points not yet evaluated, by a Gaussian process and a tree ensemble together.

The process is better on smooth surfaces, trees on steps. They are weighted by their errors in
cross-validation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from population.gaussian_process import GaussianProcess, Kernel, fit

Array = npt.NDArray[np.float64]

TREES = 40
FOLDS = 5
KERNEL_POINTS = 200  # the latest ones, from which the kernel is estimated


@dataclass(frozen=True)
class Setting:
    """Settings that are re-estimated rarely: the kernel, and the weight of the process (0 to 1)."""

    kernel: Kernel
    trust: float


class Predictor:
    """Outcomes (n,) at points (n, d), each the mean of `seeds` (n,) evaluations."""

    def __init__(self, points: Array, outcomes: Array, seeds: Array, setting: Setting) -> None:
        self._data = points, outcomes, seeds
        self._setting = setting
        self._process = self._trees = None
        if setting.trust > 0:
            self._process = GaussianProcess(points, outcomes, seeds, setting.kernel)
        if setting.trust < 1:
            self._trees = _grown(points, outcomes, seeds)

    def predict(self, at: Array) -> tuple[Array, Array]:
        """Mean and variance (m,) at points (m, d), of the mixture of both models by `trust`."""
        trust = self._setting.trust
        means, variances = np.zeros((2, len(at))), np.zeros((2, len(at)))
        if self._process is not None:
            means[0], variances[0] = self._process.predict(at)
        if self._trees is not None:
            single = at.astype(np.float32)
            grown = np.array([tree.tree_.predict(single)[:, 0] for tree in self._trees])
            means[1], variances[1] = grown.mean(axis=0), grown.var(axis=0) + 1e-6
        share = np.array([[trust], [1 - trust]])
        mean = (share * means).sum(axis=0)
        return mean, (share * (variances + (means - mean) ** 2)).sum(axis=0)

    def with_pending(self, at: Array) -> "Predictor":
        """A predictor that treats pending points (m, d) as evaluated, with the predicted outcomes.

        The Kriging believer of Ginsbourger, Le Riche and Carraro 2010, sec. 4.2.
        """
        points, outcomes, seeds = self._data
        expected, _ = self.predict(at)
        return Predictor(
            np.vstack([points, at]),
            np.concatenate([outcomes, expected]),
            np.concatenate([seeds, np.ones(len(at))]),
            self._setting,
        )


def estimate(
    points: Array, outcomes: Array, seeds: Array, *, trust: float | None = None, guides: int = 0
) -> Setting:
    """Estimate the kernel from the latest points and, unless given, the trust by their errors.

    The last `guides` coordinates of the points are guides, see `population.guides`.
    """
    latest = slice(-KERNEL_POINTS, None)
    points, outcomes, seeds = points[latest], outcomes[latest], seeds[latest]
    kernel = fit(points, outcomes, seeds, guides)
    if trust is not None:
        return Setting(kernel, trust)
    folds = np.arange(len(outcomes)) % FOLDS
    errors = np.full(2, 1e-9)
    for fold in range(FOLDS):
        shown, hidden = folds != fold, folds == fold
        for one, trust in enumerate((1.0, 0.0)):
            known = points[shown], outcomes[shown], seeds[shown]
            mean, _ = Predictor(*known, Setting(kernel, trust)).predict(points[hidden])
            errors[one] += (seeds[hidden] * (outcomes[hidden] - mean) ** 2).sum()
    return Setting(kernel, float(errors[1] / errors.sum()))


def _grown(points: Array, outcomes: Array, seeds: Array) -> list[Any]:
    """Extremely randomized trees (Geurts, Ernst and Wehenkel 2006).

    One by one: ExtraTreesRegressor grows the same at twice the time, most of it book-keeping.
    """
    from sklearn import config_context  # importing it takes most of a second
    from sklearn.tree import ExtraTreeRegressor

    with config_context(skip_parameter_validation=True, assume_finite=True):
        single = points.astype(np.float32)
        return [
            ExtraTreeRegressor(random_state=tree).fit(single, outcomes, seeds, check_input=False)
            for tree in range(TREES)
        ]


def tempered(outcomes: Array) -> Array:
    """Transform outcomes (n,), lower is better, to near normal: good half linear, rest by rank.

    So differences among good outcomes keep their size, and a collapse is no outlier.
    """
    from scipy.stats import rankdata

    scores = ndtri((rankdata(outcomes) - 0.5) / len(outcomes))
    middle, good = np.quantile(outcomes, [0.5, 0.1])
    if good < middle:
        kept = outcomes <= middle
        scores[kept] = (outcomes[kept] - middle) / (middle - good) * -ndtri(0.1)
    return np.asarray(scores)


def standardised(outcomes: Array) -> Array:
    """Standardise outcomes (n,) to mean 0 and deviation 1, or all 0 if they are equal."""
    deviation = outcomes.std()
    return (outcomes - outcomes.mean()) / (deviation if deviation > 0 else 1.0)
