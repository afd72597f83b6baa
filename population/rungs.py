"""Promotion between fidelities: successive halving (ASHA), or stopping of hopeless learning curves.

Asynchronous successive halving: Li et al. 2020, A system for massively parallel hyperparameter
tuning (ASHA, arXiv:1810.05934), decided from the scores so far. The alternative saves less and
misses the best more rarely: promote every individual unless its learning curve is hopeless. All
decisions are deterministic in the arguments: no clock, no random numbers.

`scored` holds, by fidelity, the individuals with their scores there. Losses: lower is better.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from population.individual import Individual
from population.selection import front, rank, survivors

Array = npt.NDArray[np.float64]
Scored = Mapping[float, Sequence[Individual]]

SHARE = 0.25  # the paper's eta is 4
BOUND = 0.05
SMALLEST = 1e-12  # a spread in units of the losses, for finals that lie on a line
LEAST = 12  # finished individuals before a learning curve is judged


def promote(
    scored: Scored,
    rungs: Sequence[float],
    left: Collection[tuple[int, float]],
    *,
    share: float = SHARE,
) -> Individual | None:
    """The next individual to promote, from the highest rung that has one; None: breed a new one.

    An individual may be promoted if it is among the best `share` of all that were scored on its
    rung; best first, the older of equals. `left` holds (id, fidelity) of individuals that left a
    rung, promoted or dropped as hopeless. A share of 1 promotes all in that order.
    """
    for fidelity in sorted(rungs, reverse=True)[1:]:
        individuals = scored.get(fidelity, ())
        waiting = [one for one in individuals if not one.failed and (one.id, fidelity) not in left]
        if not waiting:
            continue
        ranks = {one.id: level for one, level in zip(individuals, rank(individuals), strict=True)}
        best = _best(individuals, ranks, int(share * len(individuals)))
        worth = [one for one in waiting if one.id in best]
        if worth:
            return min(worth, key=lambda one: (ranks[one.id], one.id))
    return None


def within_reach(individuals: Sequence[Individual], most: int, *, share: float = SHARE) -> set[int]:
    """Ids on a rung that `promote` may still choose if at most `most` individuals will reach it.

    The saved states of the others can be deleted. Exact for one objective, where new individuals
    can only lower the ranks of those there; with several, an excluded one may qualify again.
    """
    ranks = {one.id: level for one, level in zip(individuals, rank(individuals), strict=True)}
    best = _best(individuals, ranks, min(int(share * most), len(individuals)))
    return best - {one.id for one in individuals if one.failed}


def _best(individuals: Sequence[Individual], ranks: Mapping[int, Any], n: int) -> set[int]:
    """Ids of the n best; of the last rank, where not all fit, those in the less crowded regions."""
    if not n:
        return set()
    last = sorted(ranks.values())[n - 1]
    better = {one.id for one in individuals if ranks[one.id] < last}
    tied = [one for one in individuals if ranks[one.id] == last]
    return better | {one.id for one in survivors(tied, n - len(better))}


def hopeless(
    individual: Individual, scored: Scored, rungs: Sequence[float], *, bound: float = BOUND
) -> bool:
    """True where the learning curve predicts, below full fidelity, a result not among the best.

    From the individuals with a final loss, linear regression predicts the final loss from the loss
    on the individual's rung; the residual spread gives every individual on the rung a probability
    to end on the front (for one objective: to beat the best). The individual is hopeless if it and
    all with no higher probability together hold at most `bound`, divided among the rungs, of the
    total: `bound` is then the probability of dropping an eventual best. None is hopeless before
    `LEAST` individuals have final losses, nor where a worse loss on the rung does not predict a
    worse final one.
    """
    if individual.failed:
        return True
    final = {one.id: one for one in scored.get(max(rungs), ()) if not one.failed}
    mates = [one for one in scored[individual.fidelity] if not one.failed]
    pairs = [(one, final[one.id]) for one in mates if one.id in final]
    best = _losses(front([ended for _, ended in pairs]))
    if len(pairs) < LEAST or not len(best):
        return False
    known, ended = (_losses(ones) for ones in zip(*pairs, strict=True))
    chances = chance(_losses(mates), known, ended, best)
    own = chances[[one.id for one in mates].index(individual.id)]
    return float(chances[chances <= own].sum()) <= bound / (len(rungs) - 1) * float(chances.sum())


def chance(losses: Array, known: Array, ended: Array, best: Array) -> Array:
    """Probability (n,) that individuals of `losses` (n, m) end undominated by `best` (b, m).

    `known` (k, m) are losses on the rung of those whose final losses are `ended` (k, m). Objective
    by objective least squares and Student's t for one new observation (k - 2 degrees of freedom);
    a slope below 0 counts as 0.
    """
    worse = np.ones((len(losses), len(best)))  # probability to end dominated by each of the best
    for x, a, b, target in zip(losses.T, known.T, ended.T, best.T, strict=True):
        centred, away, freedom = a - a.mean(), x - a.mean(), len(a) - 2
        squares = float(centred @ centred)
        slope = max(0.0, float(centred @ b) / squares) if squares else 0.0
        residuals = b - b.mean() - slope * centred
        leverage = 1 + 1 / len(a) + (away**2 / squares if slope else 0 * away)
        spread = np.sqrt(float(residuals @ residuals) / freedom * leverage)
        behind = (b.mean() + slope * away)[:, None] - target
        worse *= stdtr(freedom, behind / np.maximum(spread, SMALLEST)[:, None])
    return 1.0 - worse.max(axis=1)


def _losses(individuals: Sequence[Individual]) -> Array:
    return np.array([one.losses for one in individuals], dtype=np.float64)
