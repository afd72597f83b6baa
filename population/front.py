"""A front that grows point by point, and the volume it dominates. Losses: lower is better."""

from collections.abc import Iterable, Iterator

import numpy as np

from population.selection import Array, hypervolume


def joined(members: Array, point: Array) -> Array:
    """Add a point (m,) to a front (n, m); the same front where a member dominates the point.

    Members that the point dominates are removed; equal ones stay, as in `selection.front`.
    """
    lower, higher = (members < point).any(axis=1), (members > point).any(axis=1)
    if (lower & ~higher).any():
        return members
    return np.vstack([members[lower | ~higher], point])


def worst(points: Array) -> Array:
    """Reference point (m,): the worst of points (n, m), n >= 1, plus a tenth of their range."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray(high + 0.1 * np.where(high > low, high - low, 1.0))


def volumes(points: Iterable[Array], reference: Array) -> Iterator[float]:
    """The volume below `reference` (m,) that the points (m,) so far dominate, after each.

    A point adds its own box less what the front dominates of it (While, Bradstreet and Barone
    2012, A fast way of calculating exact hypervolumes), so that nothing is added up twice.
    """
    members = np.empty((0, len(reference)))
    volume = 0.0
    for point in points:
        grown = joined(members, point)
        if grown is not members and (point < reference).all():
            shadow = hypervolume(np.maximum(members, point), reference)
            volume += float(np.prod(reference - point)) - shadow
        members = grown
        yield volume
