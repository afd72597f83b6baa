"""Quality of a reward model by its number of judgements, and the number still needed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fitness.feedback.items import Item
from fitness.feedback.judgements import Judgement
from fitness.reward.comparisons import TIE, compared, posterior, said, vectors_of
from fitness.reward.model import Reward, fold_of

SHARES = (0.25, 0.5, 1.0)
DRAWS = 3  # of each share of the judgements that is not all of them
WANTED = 0.8  # of the differences between drafts is to be known


@dataclass(frozen=True, slots=True)
class Step:
    """Accuracy of a reward model with so many judgements; .5 is chance.

    Accuracy is the share of held-out pairs of texts that it orders as people do, by preferences,
    corrections and one annotator's ratings. `error` is its standard error over those pairs.
    """

    judgements: int
    accuracy: float
    error: float


def curve(
    reward: Reward, items: Mapping[str, Item], judgements: Sequence[Judgement], *, seed: int
) -> list[Step]:
    """Learning curve: accuracy on a held-out fold, after fitting to shares of the other judgements.

    Empty if no fold has two texts that people put in an order.
    """
    every = said(items, judgements)
    folds = np.array([fold_of(one, reward.folds) for one in every])
    vectors = vectors_of(every, reward.traits)
    size = len(reward.prior)
    steps = []
    for share in SHARES:
        draws = 1 if share == 1 else DRAWS
        right = amount = 0.0
        learned = []
        for number in np.unique(folds):
            held = [every[place] for place in np.flatnonzero(folds == number)]
            rest = np.flatnonzero(folds != number)
            rng = np.random.default_rng([seed, int(number)])
            rows, values, amounts = compared(held, vectors, rng)
            told = ~rows[:, size:].any(axis=1) & (values != TIE)  # no two annotators' ratings
            for _ in range(draws):
                some = rng.permutation(rest)[: math.ceil(share * len(rest))]
                part = posterior([every[n] for n in some], vectors, reward.prior, rng)
                margin = rows[told, :size] @ part.mode
                agrees = np.where(margin == 0, 0.5, (margin > 0) == (values[told] > TIE))
                right += float(amounts[told] @ agrees)
                amount += float(amounts[told].sum())
                learned.append(len(some))
        if not amount:
            return []
        accuracy = right / amount
        error = math.sqrt(accuracy * (1 - accuracy) * draws / amount)
        steps.append(Step(round(float(np.mean(learned))), accuracy, error))
    return steps


def known(reward: Reward, items: Mapping[str, Item]) -> float:
    """Reliability of the rewards of the items' drafts, 0 to 1.

    The variance of the posterior means over the sum of it and the mean posterior variance.
    """
    drafts = dict.fromkeys((one.prompt, d.text) for one in items.values() for d in one.drafts)
    means, deviations = reward.scores(*zip(*drafts, strict=True))
    spread, doubt = float(np.var(means)), float(np.mean(deviations**2))
    return spread / (spread + doubt) if spread else 0.0


def more(judgements: int, known: float, wanted: float = WANTED) -> int | None:
    """Judgements still needed for a wanted reliability; None if the reliability is 0.

    By the formula of Spearman and Brown (1910), in which the error variance shrinks with the number
    of judgements. For annotators who never err it predicts too many.
    """
    if not known:
        return None
    odds = (wanted / (1 - wanted)) / (known / (1 - known)) if known < 1 else 0.0
    return max(0, round(judgements * (odds - 1)))
