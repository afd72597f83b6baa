"""Mixtures: distance, projection, crossover and mutation; pure functions on weights (k,).

Square-root (Hellinger) coordinates turn the simplex into an orthant of the unit sphere, where
sparse mixtures are well spread (Amari 2016, Information Geometry and Its Applications, ch. 2). A
step's size means the same in all three mutations: roughly the length of the move on that sphere.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TOLERANCE = 1e-12
# A share below this part of the uniform share 1/k becomes exactly 0: good mixtures are sparse, and
# without this no multiplicative step would ever take a source out.
NEGLIGIBLE = 0.02
# Concentration per source of a spread draw, log-uniform from near a vertex to near uniform.
SPREAD = (0.1, 5.0)


def hellinger(a: Array, b: Array) -> float:
    """Distance between mixtures (k,), from 0 (equal) to 1 (no common source)."""
    return float(np.linalg.norm(np.sqrt(a) - np.sqrt(b)) / np.sqrt(2))


def project(weights: Array, floor: Array, cap: Array) -> Array:
    """The point of {floor <= w <= cap, sum w = 1} nearest to weights (k,); valid ones stay.

    It is clip(weights - shift, floor, cap), whose sum falls piecewise linearly in the shift; so the
    right shift lies between two neighbouring breakpoints (Wang and Lu 2015, arXiv:1503.01002).
    Raises ValueError when the weights are not finite or no mixture fits the bounds.
    """
    if not np.isfinite(weights).all():
        raise ValueError(f"a mixture's weights must be finite, got {weights}")
    if floor.sum() > 1 + TOLERANCE or cap.sum() < 1 - TOLERANCE or (floor > cap).any():
        raise ValueError(f"no mixture lies between floor {floor} and cap {cap}")
    inside = (weights >= floor).all() and (weights <= cap).all()
    if inside and abs(weights.sum() - 1) <= TOLERANCE:
        return weights.copy()
    near = weights - weights.max()  # a common shift changes nothing, and this keeps the digits
    breaks = np.sort(np.concatenate((near - floor, near - cap)))
    totals = np.clip(near - breaks[:, None], floor, cap).sum(axis=1)
    right = int(np.searchsorted(-totals, -1.0))
    if right in (0, len(breaks)):
        shift = breaks[min(right, len(breaks) - 1)]
    else:
        above, below = totals[right - 1], totals[right]
        reach = (above - 1) / (above - below)
        shift = breaks[right - 1] + reach * (breaks[right] - breaks[right - 1])
    projected = np.clip(near - shift, floor, cap)
    gap = 1 - projected.sum()  # rounding error, distributed over the sources that have room
    room = cap - projected if gap > 0 else projected - floor
    if room.sum() > 0:
        projected = np.clip(projected + gap * room / room.sum(), floor, cap)
    return projected


def crossover(a: Array, b: Array, rng: np.random.Generator, *, reach: float) -> Array:
    """A point on the great circle through both mixtures, up to `reach` of their distance beyond."""
    root_a, root_b = np.sqrt(a), np.sqrt(b)
    angle = np.arccos(min(float(root_a @ root_b), 1.0))
    place = rng.uniform(-reach, 1 + reach)
    if angle < 1e-9:
        return a.copy()
    root = np.sin((1 - place) * angle) * root_a + np.sin(place * angle) * root_b
    return _normalised(np.maximum(root, 0.0) ** 2, otherwise=a)


def mutate_sphere(weights: Array, rng: np.random.Generator, *, step: float) -> Array:
    """A normal step in square-root coordinates; negative coordinates become exactly 0."""
    noise = rng.normal(0.0, step / np.sqrt(len(weights)), size=len(weights))
    return _normalised(np.maximum(np.sqrt(weights) + noise, 0.0) ** 2, otherwise=weights)


def mutate_dirichlet(weights: Array, rng: np.random.Generator, *, step: float) -> Array:
    """A Dirichlet draw around the mixture: small shares move little, absent ones seldom enter."""
    # On the sphere each coordinate varies by 1 / (4 concentration).
    concentration = (len(weights) - 1) / (4 * step**2)
    drawn = rng.standard_gamma(concentration * weights + SPREAD[0] / 2)
    return _sparse(_normalised(drawn, otherwise=weights))


def mutate_logit(weights: Array, rng: np.random.Generator, *, step: float) -> Array:
    """A normal step in log shares: each source is multiplied by its own factor."""
    present = weights + NEGLIGIBLE / len(weights)  # so that an absent source can come back
    factors = np.exp(rng.normal(0.0, 2 * step, size=len(weights)))
    return _sparse(_normalised(present * factors, otherwise=weights))


def switch_source(weights: Array, rng: np.random.Generator) -> Array:
    """One source leaves the mixture, or one that was absent enters with a share of up to a half."""
    chosen = int(rng.integers(len(weights)))
    others = weights.copy()
    others[chosen] = 0.0
    share = rng.uniform(0.0, 0.5)
    if weights[chosen] > 0:
        return _normalised(others, otherwise=weights)
    others *= 1 - share
    others[chosen] = share
    return others


def dirichlet_spread(sources: int, rng: np.random.Generator) -> Array:
    """A mixture (sources,) from a Dirichlet of random concentration: from sparse to even."""
    concentration = np.exp(rng.uniform(*np.log(SPREAD)))
    drawn = rng.standard_gamma(concentration, size=sources)
    return _sparse(_normalised(drawn, otherwise=np.eye(sources)[int(rng.integers(sources))]))


def _normalised(weights: Array, *, otherwise: Array) -> Array:
    """Weights divided by their sum, or `otherwise` where that is 0."""
    total = weights.sum()
    return weights / total if total > 1e-300 else otherwise.copy()


def _sparse(weights: Array) -> Array:
    kept = np.where(weights < NEGLIGIBLE / len(weights), 0.0, weights)
    return _normalised(kept, otherwise=weights)
