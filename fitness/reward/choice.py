"""Active learning: the choice of items to judge by their expected information.

A judgement is more informative about the weights the less certain its outcome is, and the less
certain the weights of its texts' differences are. The expected information of a comparison with the
difference of traits d, under a normal posterior of covariance S and the probability p that its
first text is preferred, is log(1 + p (1 - p) d'Sd) / 2 nats. Items are taken one by one, S being
updated as after a judgement of each, so that no two give the same information. (Houlsby et al.
2011, "Bayesian active learning for classification and preference learning", in its Gaussian
approximation.)
"""

from collections.abc import Mapping, Sequence, Set

import numpy as np

from fitness.feedback.items import Item
from fitness.feedback.judgements import Judgement
from fitness.filters import CONTAMINATION, filter_of
from fitness.reward.model import Reward, fitted
from fitness.text import Gram, likeness, shingles, words

RANDOM = 0.2  # the share of items drawn blindly, so that what the model overlooks is asked too
ALIKE = 0.7  # likeness from which on two items are nearly the same


def chosen(
    candidates: Sequence[Item],
    count: int,
    *,
    items: Mapping[str, Item],
    judgements: Sequence[Judgement],
    rng: np.random.Generator,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    reward: Reward | None = None,
) -> list[Item]:
    """Choose at most `count` candidates, the most informative first, every fifth at random.

    None that was judged already, and no two that are nearly the same. `scores` are those of
    filters, by item: disagreement of filters multiplies an item's value, at most by two. With too
    few judgements to fit a reward model all are random. `reward` may be given if it is fitted.
    """
    judged = {judgement.item for judgement in judgements}
    open_items = list({one.id: one for one in candidates if one.id not in judged}.values())
    if not open_items or count < 1:
        return []
    reward = reward or fitted(items, judgements, seed=int(rng.integers(2**31)))
    blind = [int(place) for place in rng.permutation(len(open_items))]
    telling = None if reward is None else _Telling(open_items, reward, scores or {})
    taken: list[int] = []
    grams = [_grams(one) for one in open_items]
    every = round(1 / RANDOM)
    while len(taken) < count and blind:
        if telling is not None and (len(taken) + 1) % every:
            place = telling.most(blind)
        else:
            place = blind[0]
        blind.remove(place)
        if any(likeness(grams[place], grams[other]) >= ALIKE for other in taken):
            continue
        taken.append(place)
        if telling is not None:
            telling.ask(place)
    return [open_items[place] for place in taken]


def information(items: Sequence[Item], reward: Reward) -> np.ndarray:
    """Expected information of a judgement of each item, nats, (n,)."""
    return _Telling(items, reward, {}).information()


class _Telling:
    """Expected information of items, given those that were chosen already."""

    def __init__(
        self, items: Sequence[Item], reward: Reward, scores: Mapping[str, Mapping[str, float]]
    ) -> None:
        self._rows = compared(items, reward)
        odds = self._rows @ reward.whole.mode
        self._doubt = 1 / (2 + 2 * np.cosh(odds))  # p (1 - p)
        self._known = self._rows @ reward.whole.covariance
        self._variance = np.einsum("ij,ij->i", self._known, self._rows)
        self._worth = 1 + disagreement([scores.get(one.id, {}) for one in items])

    def information(self) -> np.ndarray:
        return np.asarray(np.log1p(self._doubt * self._variance) / 2)

    def most(self, places: Sequence[int]) -> int:
        """The item of some that has most expected information."""
        worth = (self.information() * self._worth)[list(places)]
        return places[int(np.argmax(worth))]

    def ask(self, place: int) -> None:
        """Update S for a judgement of an item: S - S d d'S p (1 - p) / (1 + p (1 - p) d'Sd)."""
        row, doubt = self._rows[place], self._doubt[place]
        across = self._known @ row
        scale = doubt / (1 + doubt * self._variance[place])
        self._known = self._known - scale * np.outer(across, self._known[place])
        self._variance = np.maximum(self._variance - scale * across**2, 0)


def compared(items: Sequence[Item], reward: Reward) -> np.ndarray:
    """Differences of traits that a judgement of each item compares, (n, d).

    Of its two drafts, or of its one draft and the average text.
    """
    firsts = reward.traits.of([i.prompt for i in items], [i.drafts[0].text for i in items])
    pairs = [place for place, one in enumerate(items) if one.pair]
    if pairs:
        firsts[pairs] -= reward.traits.of(
            [items[place].prompt for place in pairs],
            [items[place].drafts[1].text for place in pairs],
        )
    return firsts


def disagreement(scores: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Disagreement of filters on each text, 0 to 1, (n,).

    The range of the ranks, from 0 worst to 1 best, that a text has by scores of which one side is
    better; 0 with fewer than two.
    """
    from scipy.stats import rankdata

    every = {name for one in scores for name in one} - {CONTAMINATION}
    names = sorted(name for name in every if filter_of(name).keeps != "band")
    ranks = np.full((len(names), len(scores)), np.nan)
    for line, name in enumerate(names):
        sign = -1 if filter_of(name).keeps == "lowest" else 1
        values = np.array([sign * one.get(name, np.nan) for one in scores])
        told = ~np.isnan(values)
        if np.ptp(values[told]) > 0:
            ranks[line, told] = (rankdata(values[told]) - 1) / (told.sum() - 1)
    known = ~np.isnan(ranks)
    highest = ranks.max(axis=0, where=known, initial=0.0)
    lowest = ranks.min(axis=0, where=known, initial=1.0)
    return np.where(known.any(axis=0), highest - lowest, 0.0)


def _grams(item: Item) -> Set[Gram]:
    prompt = words(item.prompt)
    return frozenset().union(*(shingles(words(one.text), prompt) for one in item.drafts))
