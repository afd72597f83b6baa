"""Judgements as comparisons of texts, and the weights of traits that explain them.

Bradley and Terry 1952: the log-odds that one text is preferred to another are the difference of
their rewards, here linear in `traits`. Preferences are such comparisons, and so are corrections,
which are preferred to what they correct. A rating is compared with other ratings, each annotator
having an offset of their own, so that leniency has no effect. Skips, labels and critiques say
nothing about how good a text is. The weights have a normal prior, whose variances maximise the
evidence (MacKay 1992), and a normal posterior around their mode (Laplace), which gives the
uncertainty: large for texts unlike all that was judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fitness.feedback.items import Item
from fitness.feedback.judgements import Judgement
from fitness.reward.traits import Traits

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
    """A comparison: the degree, 0 to 1, to which a text is preferred to another; or a rating.

    A rating has no other text.
    """

    text: Text
    other: Text | None
    value: float
    annotator: str


@dataclass(frozen=True, slots=True)
class Posterior:
    """Posterior of the weights of traits: mode, (d,), and covariance, (d, d)."""

    mode: np.ndarray
    covariance: np.ndarray

    def of(self, traits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of linear functions of the weights, (n, d) -> (n,) each."""
        variance = np.einsum("ij,jk,ik->i", traits, self.covariance, traits)
        return traits @ self.mode, np.sqrt(np.maximum(variance, 0.0))


def said(items: Mapping[str, Item], judgements: Sequence[Judgement]) -> list[Said]:
    """The judgements that say how good a text is."""
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
        elif judgement.value != "neither":  # which says nothing about which is better
            value = {"first": 1.0, "second": 0.0, "tie": TIE}[judgement.value]
            found.append(Said(first, second[0], value, by))
    return found


def texts_of(every: Sequence[Said]) -> list[Text]:
    """Texts of the judgements, without repeats."""
    both = (text for one in every for text in (one.text, one.other) if text is not None)
    return list(dict.fromkeys(both))


def vectors_of(every: Sequence[Said], traits: Traits) -> dict[Text, np.ndarray]:
    """The traits, (d,), of each judged text."""
    texts = texts_of(every)
    return dict(zip(texts, traits.of(*zip(*texts, strict=True)), strict=True))


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


def likeliest_prior(
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
    """Comparisons as arrays, for the regression.

    Differences of traits and annotators' offsets, (m, d + a); degree of preference, 0 to 1, (m,);
    weight as a share of a judgement, (m,).
    """
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
