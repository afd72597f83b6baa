"""Gaussian process regression: a length scale per coordinate, and noise, estimated under priors.

Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, ch. 2 and 5; Matern 5/2 kernel
(eq. 4.17). The prior on the length scales grows with the dimension, so that few points in many
coordinates give a smooth, cautious fit (Hvarfner, Hellsten and Nardi 2024, arXiv:2402.02229).
Not scikit-learn's: that has no priors, and with 25 points in 17 coordinates they decide.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular

Array = npt.NDArray[np.float64]

LENGTH_PRIOR = (np.sqrt(2.0), np.sqrt(3.0))  # mean and deviation of log length, + log(d) / 2
SIGNAL_PRIOR = (0.0, 1.0)  # of the log variance; outcomes are expected to be standardised
NOISE_PRIOR = (-4.0, 1.5)  # of the log variance
NOISE_FLOOR = 1e-4
STEPS = 40  # of L-BFGS: enough, the priors make the optimum a sharp one


@dataclass(frozen=True)
class Kernel:
    """Matern 5/2: length scales (d,), signal variance, and the noise variance of one evaluation."""

    lengths: Array
    signal: float
    noise: float

    def __call__(self, a: Array, b: Array) -> Array:
        """Covariances (len(a), len(b)) between points (n, d), without noise."""
        root = np.sqrt(5 * _squared_distances(a / self.lengths, b / self.lengths))
        return np.asarray(self.signal * (1 + root + root**2 / 3) * np.exp(-root))


class GaussianProcess:
    """The posterior given outcomes (n,) at points (n, d), each the mean of `seeds` (n,) draws."""

    def __init__(self, points: Array, outcomes: Array, seeds: Array, kernel: Kernel) -> None:
        self.kernel = kernel
        self._points = points
        self._mean = float(outcomes.mean())
        covariance = kernel(points, points)
        covariance[np.diag_indices_from(covariance)] += kernel.noise / seeds
        self._root = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._root, True), outcomes - self._mean, check_finite=False)

    def predict(self, at: Array) -> tuple[Array, Array]:
        """Mean and variance (m,) of the outcome without noise at points (m, d)."""
        cross = self.kernel(at, self._points)
        explained = solve_triangular(self._root, cross.T, lower=True, check_finite=False)
        variance = np.maximum(self.kernel.signal - (explained**2).sum(axis=0), 1e-10)
        return self._mean + cross @ self._weights, variance


def fit(points: Array, outcomes: Array, seeds: Array) -> Kernel:
    """The kernel of greatest posterior density; costs O(n^3) a step, for a few hundred points."""
    from scipy.optimize import minimize  # importing it takes a tenth of a second

    d = points.shape[1]
    found = minimize(
        negative_log_posterior,
        np.array([0.5 * np.log(d) - 0.7] * d + [0.0, np.log(0.02)]),
        (points, outcomes - outcomes.mean(), seeds),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-4.0, 6.0)] * d + [(-4.0, 4.0), (-12.0, 1.0)],
        options={"maxiter": STEPS},
    )
    *lengths, signal, noise = np.exp(found.x)
    return Kernel(np.array(lengths), float(signal), float(noise) + NOISE_FLOOR)


def negative_log_posterior(
    logs: Array, points: Array, outcomes: Array, seeds: Array
) -> tuple[float, Array]:
    """Minus the log posterior density up to a constant, and its gradient (RW eq. 5.8, 5.9).

    `logs` (d + 2,) are of the length scales, the signal and the noise variance; `outcomes` (n,) are
    centred.
    """
    n, d = points.shape
    lengths, signal, noise = np.exp(logs[:d]), np.exp(logs[d]), np.exp(logs[d + 1])
    scaled = points / lengths
    root = np.sqrt(5 * _squared_distances(scaled, scaled))
    decay = signal * np.exp(-root)
    smooth = decay * (1 + root + root**2 / 3)
    covariance = smooth.copy()
    covariance[np.diag_indices(n)] += (noise + NOISE_FLOOR) / seeds
    try:
        factor = cholesky(covariance, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(logs)
    weights = cho_solve((factor, True), outcomes, check_finite=False)
    inner = cho_solve((factor, True), np.eye(n), check_finite=False) - np.outer(weights, weights)
    pull = inner * (5 / 3 * decay * (1 + root))  # times squared distances: d smooth / d log length
    location, scale = LENGTH_PRIOR
    means = np.array([location + 0.5 * np.log(d)] * d + [SIGNAL_PRIOR[0], NOISE_PRIOR[0]])
    scales = np.array([scale] * d + [SIGNAL_PRIOR[1], NOISE_PRIOR[1]])
    away = (logs - means) / scales
    value = 0.5 * outcomes @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
    gradient = away / scales
    gradient[:d] += pull.sum(axis=1) @ scaled**2 - ((pull @ scaled) * scaled).sum(axis=0)
    gradient[d] += 0.5 * (inner * smooth).sum()
    gradient[d + 1] += 0.5 * noise * (np.diag(inner) / seeds).sum()
    return float(value), gradient


def _squared_distances(a: Array, b: Array) -> Array:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0.0)
