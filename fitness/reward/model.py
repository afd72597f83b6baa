"""Reward model: predicts people's judgement of a text from their judgements of others.

Fitted as described in `comparisons`, to the features of texts in `traits`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fitness.errors import InputError
from fitness.feedback.items import Item
from fitness.feedback.judgements import Judgement
from fitness.reward.comparisons import (
    TIE,
    Posterior,
    Said,
    Text,
    likeliest_prior,
    posterior,
    said,
    texts_of,
    vectors_of,
)
from fitness.reward.traits import Traits, learned

if TYPE_CHECKING:
    from fitness.models.base import Base

LEAST = 20  # judgements; of fewer nothing is learned
FOLDS = 5


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Agreement of rewards with people on held-out texts; None if there are no such judgements.

    Accuracy is over preferences (but ties) and corrections; the correlation (Spearman) is with
    ratings less the mean of each annotator's.
    """

    pairs: int
    accuracy: float | None
    ratings: int
    correlation: float | None


@dataclass(frozen=True, slots=True)
class Reward:
    """Rewards in log-odds of being preferred to the average text that people were shown."""

    traits: Traits
    prior: np.ndarray = field(repr=False)  # variances of the weights, (d,)
    whole: Posterior
    parts: tuple[Posterior, ...] = field(repr=False)  # each without the texts of its fold
    folds: Mapping[str, int] = field(repr=False)  # by completion
    judgements: int  # that it was learned from
    held_out: HeldOut

    def scores(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each text's reward, (n,) each.

        A text that was judged itself is scored by a model that did not learn from that.
        """
        if not len(completions):
            return np.zeros(0), np.zeros(0)
        traits = self.traits.of(prompts, completions)
        means, deviations = self.whole.of(traits)
        fold = np.array([self.folds.get(_key(text), -1) for text in completions])
        for number, part in enumerate(self.parts):
            mine = fold == number
            if mine.any():
                means[mine], deviations[mine] = part.of(traits[mine])
        return means, deviations


def enough(items: Mapping[str, Item], judgements: Sequence[Judgement]) -> bool:
    """True if a reward model can be fitted: from LEAST judgements that distinguish texts."""
    every = said(items, judgements)
    ratings = {one.value for one in every if one.other is None}
    pairs = any(one.value != TIE for one in every if one.other is not None)
    return len(every) >= LEAST and (pairs or len(ratings) > 1)


def check_enough(items: Mapping[str, Item], judgements: Sequence[Judgement]) -> None:
    """Raise InputError if there are too few judgements to fit a reward model."""
    if not enough(items, judgements):
        raise InputError(
            f"filter 'reward': there is too little to learn from; it takes {LEAST} ratings, "
            "preferences and corrections that do not all say the same: judge more with `evo "
            "feedback`, or leave the filter out"
        )


def fitted(
    items: Mapping[str, Item],
    judgements: Sequence[Judgement],
    *,
    seed: int,
    base: "Base | None" = None,
) -> Reward | None:
    """Fit a reward model to judgements; None if there are too few.

    With `base`, a text's likelihood under it is one more trait. Deterministic in its arguments.
    """
    if not enough(items, judgements):
        return None
    every = said(items, judgements)
    shown = [Text(one.prompt, draft.text) for one in items.values() for draft in one.drafts]
    texts = dict.fromkeys([*shown, *texts_of(every)])
    traits = learned(*zip(*texts, strict=True), seed=seed, base=base)
    vectors = vectors_of(every, traits)
    prior = likeliest_prior(every, vectors, traits.measures, np.random.default_rng(seed))
    whole = posterior(every, vectors, prior, np.random.default_rng(seed))
    folds = folds_of(every, np.random.default_rng(seed))
    away = [fold_of(one, folds) for one in every]
    parts = [
        posterior(
            [one for one, fold in zip(every, away, strict=True) if fold != number],
            vectors,
            prior,
            np.random.default_rng([seed, number]),
        )
        for number in range(max(away) + 1)
    ]
    held_out = _held_out(every, away, vectors, parts)
    return Reward(traits, prior, whole, tuple(parts), folds, len(every), held_out)


def fold_of(one: Said, folds: Mapping[str, int]) -> int:
    """Fold of a judgement, which is that of its texts."""
    return folds[_key(one.text.completion)]


def folds_of(every: Sequence[Said], rng: np.random.Generator) -> dict[str, int]:
    """A fold, 0 to FOLDS - 1, by completion: equal ones and those compared share theirs.

    So do all after the same prompt, unless there are too few prompts for that.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    prompts: dict[str, int] = {}
    keys: dict[str, int] = {}
    for one in every:
        for text in (one.text, one.other):
            if text is not None:
                prompts.setdefault(text.prompt, len(prompts))
                keys.setdefault(_key(text.completion), len(keys))
    by_prompt = len(prompts) >= 2 * FOLDS
    edges = []
    for one in every:
        here = keys[_key(one.text.completion)]
        if one.other is not None:
            edges.append((here, keys[_key(one.other.completion)]))
        if by_prompt:
            edges.append((here, len(keys) + prompts[one.text.prompt]))
    size = len(keys) + len(prompts)
    ends = np.array(edges, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges)), (ends[0], ends[1])), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(keys)]
    distinct = rng.permutation(np.unique(component))
    fold = {int(one): place % FOLDS for place, one in enumerate(distinct)}
    return {key: fold[int(component[place])] for key, place in keys.items()}


def _held_out(
    every: Sequence[Said],
    away: Sequence[int],
    vectors: Mapping[Text, np.ndarray],
    parts: Sequence[Posterior],
) -> HeldOut:
    """Agreement on held-out judgements, each by the model fitted without its fold, `away`."""
    from scipy.stats import spearmanr

    right, rated = [], []
    for one, number in zip(every, away, strict=True):
        mode = parts[number].mode
        reward = float(vectors[one.text] @ mode)
        if one.other is None:
            rated.append((one.annotator, one.value, reward))
        elif one.value != TIE:
            margin = reward - float(vectors[one.other] @ mode)
            right.append(0.5 if margin == 0 else float((margin > 0) == (one.value > TIE)))
    means = {
        name: np.mean([value for by, value, _ in rated if by == name])
        for name in {by for by, _, _ in rated}
    }
    ratings = [value - means[by] for by, value, _ in rated]
    rewards = [reward for _, _, reward in rated]
    told = len(set(ratings)) > 1 and len(set(rewards)) > 1
    return HeldOut(
        len(right),
        float(np.mean(right)) if right else None,
        len(rated),
        float(spearmanr(ratings, rewards).statistic) if told else None,
    )


def _key(completion: str) -> str:
    return completion.strip()
