"""How good a reward model is by how many judgements it has, and how many more it needs."""

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
    """With so many judgements: how often texts not learned from are put in the order in which
    people put them, by preferences, corrections and one annotator's ratings; .5 is chance.

    The error is the standard error that so many held-out judgements leave.
    """

    judgements: int
    accuracy: float
    error: float


def curve(
    reward: Reward, items: Mapping[str, Item], judgements: Sequence[Judgement], *, seed: int
) -> list[Step]:
    """Quality against judgements, learned from shares of them and told by those of another fold.

    Empty where no fold holds two texts that people put in an order.
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
    """The share of how the drafts of items differ in reward that the model knows, 0 to 1.

    Reliability: the variance of the means, of it and the mean variance together.
    """
    drafts = dict.fromkeys((one.prompt, d.text) for one in items.values() for d in one.drafts)
    means, deviations = reward.scores(*zip(*drafts, strict=True))
    spread, doubt = float(np.var(means)), float(np.mean(deviations**2))
    return spread / (spread + doubt) if spread else 0.0


def more(judgements: int, known: float, wanted: float = WANTED) -> int | None:
    """How many more judgements are needed until so much is known; None where nothing is.

    By the formula of Spearman and Brown (1910): what is not known shrinks with the judgements. Of
    people who never err it promises too many: the surer each answer, the less it tells.
    """
    if not known:
        return None
    odds = (wanted / (1 - wanted)) / (known / (1 - known)) if known < 1 else 0.0
    return max(0, round(judgements * (odds - 1)))
