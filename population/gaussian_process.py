"""Gaussian process regression: a length scale per coordinate, and noise, estimated under priors.

Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, ch. 2 and 5; Matern 5/2 kernel
(eq. 4.17). The prior on the length scales grows with the dimension, so that few points in many
coordinates give a smooth, cautious fit (Hvarfner, Hellsten and Nardi 2024, arXiv:2402.02229).
Not scikit-learn's: that has no priors, and with 25 points in 17 coordinates they decide.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular

Array = npt.NDArray[np.float64]

LENGTH_PRIOR = (np.sqrt(2.0), np.sqrt(3.0))  # mean and deviation of log length, + log(d) / 2
SIGNAL_PRIOR = (0.0, 1.0)  # of the log variance; outcomes are expected to be standardised
NOISE_PRIOR = (-4.0, 1.5)  # of the log variance
SLOPE = 0.5  # of a guide, before anything is known; shared by several
WORTH_PRIOR = (-1.0, 1.5)  # of the log variance of a guide's slope
NOISE_FLOOR = 1e-4
STEPS = 40  # of L-BFGS: enough, the priors make the optimum a sharp one


@dataclass(frozen=True)
class Kernel:
    """Matern 5/2 and a slope for each guide.

    It has length scales (d,), a signal variance, the noise variance of one evaluation, and worths
    (g,): the prior variances of the slopes along the last g coordinates, which are guides.
    """

    lengths: Array
    signal: float
    noise: float
    worths: Array = field(default_factory=lambda: np.empty(0))

    def __call__(self, a: Array, b: Array) -> Array:
        """Covariances (len(a), len(b)) between points (n, d + g), without noise."""
        d = len(self.lengths)
        root = np.sqrt(5 * _squared_distances(a[:, :d] / self.lengths, b[:, :d] / self.lengths))
        near = np.asarray(self.signal * (1 + root + root**2 / 3) * np.exp(-root))
        return near + (a[:, d:] * self.worths) @ b[:, d:].T if len(self.worths) else near

    def variances(self, at: Array) -> Array:
        """Prior variances (m,) at points (m, d + g), without noise."""
        return self.signal + at[:, len(self.lengths) :] ** 2 @ self.worths

    def means(self, at: Array) -> Array:
        """Prior means (m,) at points (m, d + g): by the guides alone."""
        return guided_means(at, len(self.worths))


class GaussianProcess:
    """The posterior given outcomes (n,) at points (n, d + g), means of `seeds` (n,) draws each."""

    def __init__(self, points: Array, outcomes: Array, seeds: Array, kernel: Kernel) -> None:
        self.kernel = kernel
        self._points = points
        outcomes = outcomes - kernel.means(points)
        self._mean = float(outcomes.mean())
        covariance = kernel(points, points)
        covariance[np.diag_indices_from(covariance)] += kernel.noise / seeds
        self._root = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._root, True), outcomes - self._mean, check_finite=False)

    def predict(self, at: Array) -> tuple[Array, Array]:
        """Mean and variance (m,) of the outcome without noise at points (m, d + g)."""
        cross = self.kernel(at, self._points)
        explained = solve_triangular(self._root, cross.T, lower=True, check_finite=False)
        variance = np.maximum(self.kernel.variances(at) - (explained**2).sum(axis=0), 1e-10)
        return self._mean + self.kernel.means(at) + cross @ self._weights, variance


def guided_means(points: Array, guides: int) -> Array:
    """Means (n,) of a slope along each of the last `guides` coordinates of points (n, d)."""
    if not guides:
        return np.zeros(len(points))
    return SLOPE / guides * points[:, -guides:].sum(axis=1)


def fit(points: Array, outcomes: Array, seeds: Array, guides: int = 0) -> Kernel:
    """The kernel of greatest posterior density; costs O(n^3) a step, for a few hundred points.

    The last `guides` coordinates of the points (n, d + guides) are guides.
    """
    from scipy.optimize import minimize  # importing it takes a tenth of a second

    d = points.shape[1] - guides
    outcomes = outcomes - guided_means(points, guides)
    found = minimize(
        negative_log_posterior,
        np.array([0.5 * np.log(d) - 0.7] * d + [0.0, np.log(0.02)] + [WORTH_PRIOR[0]] * guides),
        (points, outcomes - outcomes.mean(), seeds, guides),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-4.0, 6.0)] * d + [(-4.0, 4.0), (-12.0, 1.0)] + [(-8.0, 4.0)] * guides,
        options={"maxiter": STEPS},
    )
    lengths, (signal, noise), worths = np.split(np.exp(found.x), [d, d + 2])
    return Kernel(lengths, float(signal), float(noise) + NOISE_FLOOR, worths)


def negative_log_posterior(
    logs: Array, points: Array, outcomes: Array, seeds: Array, guides: int = 0
) -> tuple[float, Array]:
    """Minus the log posterior density up to a constant, and its gradient (RW eq. 5.8, 5.9).

    `logs` (d + 2 + guides,) are of the length scales, the signal and the noise variance, and the
    worths of the guides; `outcomes` (n,) are centred.
    """
    n, d = len(points), points.shape[1] - guides
    lengths, signal, noise = np.exp(logs[:d]), np.exp(logs[d]), np.exp(logs[d + 1])
    points, guided, worths = points[:, :d], points[:, d:], np.exp(logs[d + 2 :])
    scaled = points / lengths
    root = np.sqrt(5 * _squared_distances(scaled, scaled))
    decay = signal * np.exp(-root)
    smooth = decay * (1 + root + root**2 / 3)
    covariance = smooth + (guided * worths) @ guided.T if guides else smooth.copy()
    covariance[np.diag_indices(n)] += (noise + NOISE_FLOOR) / seeds
    try:
        factor = cholesky(covariance, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(logs)
    weights = cho_solve((factor, True), outcomes, check_finite=False)
    inner = cho_solve((factor, True), np.eye(n), check_finite=False) - np.outer(weights, weights)
    pull = inner * (5 / 3 * decay * (1 + root))  # times squared distances: d smooth / d log length
    location, scale = LENGTH_PRIOR
    others = [SIGNAL_PRIOR, NOISE_PRIOR] + [WORTH_PRIOR] * guides
    means = np.array([location + 0.5 * np.log(d)] * d + [mean for mean, _ in others])
    scales = np.array([scale] * d + [deviation for _, deviation in others])
    away = (logs - means) / scales
    value = 0.5 * outcomes @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
    gradient = away / scales
    gradient[:d] += pull.sum(axis=1) @ scaled**2 - ((pull @ scaled) * scaled).sum(axis=0)
    gradient[d] += 0.5 * (inner * smooth).sum()
    gradient[d + 1] += 0.5 * noise * (np.diag(inner) / seeds).sum()
    gradient[d + 2 :] += 0.5 * worths * (guided * (inner @ guided)).sum(axis=0)
    return float(value), gradient


def _squared_distances(a: Array, b: Array) -> Array:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0.0)
