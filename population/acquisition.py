"""Acquisition functions: expected improvement of points not yet evaluated. Lower loss is better."""

import moocore
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]

DIRECTIONS = 64
DRAWS = 32


def log_expected_improvement(best: float, mean: Array, deviation: Array) -> Array:
    """(m,) log of E[max(0, best - loss)] for normal losses.

    Jones, Schonlau and Welch 1998, eq. 15, in logarithms, which still order points whose expected
    improvement would underflow (Ament et al. 2023, arXiv:2310.20708).
    """
    ahead = (best - mean) / deviation
    density = np.exp(-0.5 * ahead**2) / np.sqrt(2 * np.pi)
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.log(density + ahead * ndtr(ahead))
    # Far behind, where that difference loses all digits: density / u^2 (1 - 3 / u^2).
    behind = np.minimum(ahead, -5.0)
    far = -0.5 * behind**2 - 0.5 * np.log(2 * np.pi) + np.log1p(-3 / behind**2) - np.log(behind**2)
    return np.asarray(np.log(deviation) + np.where(ahead > -5, near, far))


def log_expected_hypervolume_improvement(
    known: Array,
    mean: Array,
    variance: Array,
    rng: np.random.Generator,
    seen: Array | None = None,
) -> Array:
    """(m,) log of the expected gain over losses `known` (n, k) of independent normal ones (m, k).

    `seen`, by default the same, are losses that show how far the front may reach, those of points
    that break a constraint too. The hypervolume is the mean over directions of a scalarised loss
    (Golovin and Zhang 2020, arXiv:2006.04655, lemma 5), so its expected gain is that of the
    scalarisations, by Monte Carlo.
    """
    k = known.shape[1]
    seen = known if seen is None else seen
    reference = _reference(seen)
    span = reference - seen.min(axis=0)
    directions = np.abs(rng.normal(size=(DIRECTIONS, 1, k)))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)

    def scalarised(losses: Array) -> Array:
        """(directions, n) of losses (n, k)."""
        return np.asarray((np.maximum(reference - losses, 0) / span / directions).min(axis=2) ** k)

    reached = scalarised(known).max(axis=1)[:, None]
    gain = np.zeros(len(mean))
    for draw in rng.normal(size=(DRAWS, k)):
        gain += np.maximum(scalarised(mean + draw * np.sqrt(variance)) - reached, 0).mean(axis=0)
    return np.asarray(np.log(gain / DRAWS + 1e-12))


def _reference(known: Array) -> Array:
    """Reference point (k,): by loss the worse of the front's worst and the median, plus a tenth."""
    front = known[moocore.is_nondominated(known, keep_weakly=True)]
    ideal = known.min(axis=0)
    reach = np.maximum(front.max(axis=0), np.median(known, axis=0)) - ideal
    return np.asarray(ideal + 1.1 * np.where(reach > 0, reach, 1.0))
