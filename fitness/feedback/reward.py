"""A reward model: what people would say of a text, learned from what they said of others.

Bradley and Terry 1952: the log-odds that one text is preferred to another are the difference of
their rewards, here linear in `traits`. Preferences are such comparisons, and so are corrections,
which are preferred to what they correct. A rating is compared with other ratings, each annotator
having an offset of their own, so that nobody's leniency counts. Skips, labels and critiques say
nothing of how good a text is. The weights have a normal prior, whose variances maximise the
evidence (MacKay 1992), and a normal posterior around their mode (Laplace), which gives the
uncertainty: large for texts unlike all that was judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fitness.feedback.items import Item
from fitness.feedback.judgements import Judgement
from fitness.feedback.traits import Traits, learned

if TYPE_CHECKING:
    from fitness.models import Base

LEAST = 20  # judgements; of fewer nothing is learned
FOLDS = 5
PARTNERS = 8  # other ratings that each one is compared with
PRIORS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # variances of a weight
TOPICS = (1.0, 16.0, 256.0)  # times that for those of topics
TIE = 0.5
OFFSET = 4.0  # variance of how lenient an annotator is
USED = ("rating", "preference", "correction")


class Text(NamedTuple):
    prompt: str
    completion: str


class Said(NamedTuple):
    """A text and another one, the first of which is preferred so far, 0 to 1; or a text's rating,
    where there is no other one."""

    text: Text
    other: Text | None
    value: float
    annotator: str


@dataclass(frozen=True, slots=True)
class Posterior:
    """Of the weights of traits: mode, (d,), and covariance, (d, d)."""

    mode: np.ndarray
    covariance: np.ndarray

    def of(self, traits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of what is linear in traits, (n, d) -> (n,) each."""
        variance = np.einsum("ij,jk,ik->i", traits, self.covariance, traits)
        return traits @ self.mode, np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How the rewards of texts not learned from agree with people; None where nothing tells.

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


def said(items: Mapping[str, Item], judgements: Sequence[Judgement]) -> list[Said]:
    """The judgements that tell how good a text is."""
    found = []
    for judgement in judgements:
        if judgement.kind not in USED:
            continue
        item, by = items[judgement.item], judgement.annotator
        first, *second = (Text(item.prompt, draft.text) for draft in item.drafts)
        if judgement.kind == "rating":
            found.append(Said(first, None, float(judgement.value), by))
        elif judgement.kind == "correction":
            found.append(Said(Text(item.prompt, judgement.value), first, 1.0, by))
        else:
            value = {"first": 1.0, "second": 0.0, "tie": TIE}[judgement.value]
            found.append(Said(first, second[0], value, by))
    return found


def enough(items: Mapping[str, Item], judgements: Sequence[Judgement]) -> bool:
    """Whether a reward model can be learned: from LEAST judgements that tell texts apart."""
    every = said(items, judgements)
    ratings = {one.value for one in every if one.other is None}
    pairs = any(one.value != TIE for one in every if one.other is not None)
    return len(every) >= LEAST and (pairs or len(ratings) > 1)


def fitted(
    items: Mapping[str, Item],
    judgements: Sequence[Judgement],
    *,
    seed: int,
    base: "Base | None" = None,
) -> Reward | None:
    """The reward model of these judgements, or None where there is too little to learn from.

    With `base`, how likely that finds a text is one more trait. The same for the same arguments.
    """
    if not enough(items, judgements):
        return None
    every = said(items, judgements)
    shown = [Text(one.prompt, draft.text) for one in items.values() for draft in one.drafts]
    texts = dict.fromkeys([*shown, *_texts(every)])
    traits = learned(*zip(*texts, strict=True), seed=seed, base=base)
    vectors = vectors_of(every, traits)
    prior = _prior(every, vectors, traits.measures, np.random.default_rng(seed))
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


def vectors_of(every: Sequence[Said], traits: Traits) -> dict[Text, np.ndarray]:
    """The traits, (d,), of each text that something was said of."""
    texts = _texts(every)
    return dict(zip(texts, traits.of(*zip(*texts, strict=True)), strict=True))


def fold_of(one: Said, folds: Mapping[str, int]) -> int:
    """The fold of what was said, that of its texts."""
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


def posterior(
    every: Sequence[Said],
    vectors: Mapping[Text, np.ndarray],
    prior: np.ndarray,
    rng: np.random.Generator,
) -> Posterior:
    """The weights of traits by these judgements, under prior variances of them, (d,)."""
    rows, values, amounts = compared(every, vectors, rng)
    _, mode, covariance = _mode(rows, values, amounts, prior)
    size = len(prior)
    return Posterior(mode[:size], covariance[:size, :size])


def _prior(
    every: Sequence[Said],
    vectors: Mapping[Text, np.ndarray],
    measures: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """The likeliest prior variances, (d,).

    Chosen once for all folds, so that their rewards are on one scale.
    """
    rows, values, amounts = compared(every, vectors, rng)
    size = len(next(iter(vectors.values())))
    priors = [
        np.repeat([prior, prior * topics], [measures, size - measures])
        for prior in PRIORS
        for topics in TOPICS
    ]
    return max(priors, key=lambda prior: _mode(rows, values, amounts, prior)[0])


def compared(
    every: Sequence[Said], vectors: Mapping[Text, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Comparisons: differences of traits and annotators' offsets, (m, d + a); which is preferred,
    0 to 1, (m,); how much of a judgement each is, (m,)."""
    annotators = {name: place for place, name in enumerate(sorted({o.annotator for o in every}))}
    offsets = np.eye(len(annotators))
    rated = [one for one in every if one.other is None]
    full = [np.concatenate([vectors[o.text], offsets[annotators[o.annotator]]]) for o in rated]
    rows, values, amounts = [], [], []
    for one in every:
        if one.other is not None:
            difference = vectors[one.text] - vectors[one.other]
            rows.append(np.concatenate([difference, np.zeros(len(annotators))]))
            values.append(one.value)
            amounts.append(1.0)
    ratings = np.array([one.value for one in rated])
    for place, value in enumerate(ratings):
        unlike = np.flatnonzero(ratings != value)
        partners = rng.permutation(unlike)[:PARTNERS]
        for other in partners:
            rows.append(full[place] - full[other])
            values.append(float(value > ratings[other]))
            amounts.append(1 / len(partners))
    width = len(next(iter(vectors.values()))) + len(annotators)
    return np.array(rows).reshape(-1, width), np.array(values), np.array(amounts)


def _mode(
    rows: np.ndarray, values: np.ndarray, amounts: np.ndarray, prior: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log evidence, mode and covariance of the weights under their prior variances, (d,).

    Those of annotators' offsets are OFFSET. The log evidence, with H the negative Hessian of the
    log-posterior and w in prior deviations, is log-likelihood - |w|^2 / 2 - log det H / 2.
    """
    from scipy.special import expit, log_expit
    from sklearn.linear_model import LogisticRegression

    offsets = np.full(rows.shape[1] - len(prior), OFFSET)
    deviation = np.sqrt(np.concatenate([prior, offsets]))
    if not len(rows):
        return 0.0, np.zeros(len(deviation)), np.diag(deviation**2)
    rows = rows * deviation
    amounts = np.concatenate([amounts * values, amounts * (1 - values)])
    rows = np.vstack([rows, -rows])[amounts > 0]  # the first text of each is preferred
    amounts = amounts[amounts > 0]
    # Each twice, once turned round, which says the same: a classifier wants two classes.
    model = LogisticRegression(C=0.5, fit_intercept=False, max_iter=1000).fit(
        np.vstack([rows, -rows]), np.repeat([1, 0], len(rows)), np.tile(amounts, 2)
    )
    mode = model.coef_[0]
    odds = rows @ mode
    chance = expit(odds)
    hessian = (rows.T * (amounts * chance * (1 - chance))) @ rows + np.eye(len(mode))
    likelihood = float(amounts @ log_expit(odds))
    evidence = likelihood - mode @ mode / 2 - np.linalg.slogdet(hessian)[1] / 2
    covariance = np.linalg.inv(hessian) * np.outer(deviation, deviation)
    return evidence, mode * deviation, covariance


def _held_out(
    every: Sequence[Said],
    away: Sequence[int],
    vectors: Mapping[Text, np.ndarray],
    parts: Sequence[Posterior],
) -> HeldOut:
    """By the model that left each judgement's fold out, `away`."""
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


def _texts(every: Sequence[Said]) -> list[Text]:
    """Each once."""
    both = (text for one in every for text in (one.text, one.other) if text is not None)
    return list(dict.fromkeys(both))


def _key(completion: str) -> str:
    return completion.strip()
