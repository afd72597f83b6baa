"""Adversarial filtering: a classifier learns to tell samples from real text, fold by fold.

Zellers et al., "SWAG", 2018; logistic regression on hashed n-grams of words and characters.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fitness.data.samples import Sample
from fitness.errors import InputError

FOLDS = 5
FEATURES = 2**18  # of each kind of n-gram
UNKNOWN = 0.5  # where there is nothing to learn from


def realness(
    samples: Sequence[Sample], real: Sequence[str], *, seed: int, folds: int = FOLDS
) -> list[float]:
    """The probability that each completion is real text, by a model that never saw it.

    `real` are documents, of which stretches as long as the completions are drawn: as many, from
    anywhere in them, so that neither length nor a beginning gives a sample away. Equal completions
    are in one fold, and the folds do not follow from the order of the samples. The chance .5 where
    all completions are equal, since no other one is there to learn from.
    """
    texts = [sample.completion.strip() for sample in samples]
    distinct = _distinct(samples, seed)
    if len(distinct) < 2:
        return [UNKNOWN] * len(samples)
    lengths = [len(text) for text in distinct]
    stretches = stretched(real, lengths, np.random.default_rng(seed))
    vectors = _vectors([*distinct, *stretches])
    labels = np.array([0] * len(distinct) + [1] * len(stretches))
    fold = np.arange(len(distinct)) % min(folds, len(distinct))
    scores = np.empty(len(distinct))
    for number in range(fold.max() + 1):
        away = fold == number
        learned = np.concatenate([~away, np.ones(len(stretches), dtype=bool)])
        model = _model().fit(vectors[learned], labels[learned])
        scores[away] = model.predict_proba(vectors[: len(distinct)][away])[:, 1]
    by_text = dict(zip(distinct, scores.tolist(), strict=True))
    return [by_text[text] for text in texts]


def held_out(
    samples: Sequence[Sample], real: Sequence[str], *, seed: int, folds: int = FOLDS
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of being real of distinct samples and of distinct stretches of real text.

    Each is by a model that learned from neither. Stretches are those that `realness` learns from;
    neighbours in a document are in one fold, since they may overlap. Both are empty if there are
    fewer than two of either.
    """
    fake = _distinct(samples, seed)
    rng = np.random.default_rng(seed)
    places = _places(real, [len(text) for text in fake], rng) if len(fake) > 1 else []
    true = list(dict.fromkeys(text for _, _, text in sorted(places)))
    count = min(folds, len(fake), len(true))
    if count < 2:
        return np.empty(0), np.empty(0)
    vectors = _vectors([*fake, *true])
    labels = np.array([0] * len(fake) + [1] * len(true))
    parts = np.arange(len(true)) * count // len(true)  # of neighbours
    fold = np.concatenate([np.arange(len(fake)) % count, parts])
    scores = np.empty(len(labels))
    for number in range(count):
        away = fold == number
        model = _model().fit(vectors[~away], labels[~away])
        scores[away] = model.predict_proba(vectors[away])[:, 1]
    return scores[: len(fake)], scores[len(fake) :]


def _distinct(samples: Sequence[Sample], seed: int) -> list[str]:
    """Different completions, in an order that does not follow from that of the samples."""
    texts = {sample.completion.strip() for sample in samples}
    return sorted(texts, key=lambda text: _digest(seed, text))


def stretched(real: Sequence[str], lengths: Sequence[int], rng: np.random.Generator) -> list[str]:
    """A stretch of real text for each length, in characters, that begins with a word.

    From documents long enough, each by how much of it there is; from the longest where none is.
    """
    return [text for _, _, text in _places(real, lengths, rng)]


def _places(
    real: Sequence[str], lengths: Sequence[int], rng: np.random.Generator
) -> list[tuple[int, int, str]]:
    """Stretches as `stretched` draws them, each with its document's number and where it begins."""
    texts = sorted({text.strip() for text in real} - {""}, key=lambda text: (len(text), text))
    if not texts:
        raise InputError("realness: there is no real text to compare with; give text sources")
    sizes = np.array([len(text) for text in texts])
    found = []
    for length in lengths:
        first = min(int(np.searchsorted(sizes, length)), len(texts) - 1)
        room = np.maximum(sizes[first:] - length, 0) + 1
        document = first + int(rng.choice(len(room), p=room / room.sum()))
        text = texts[document]
        begin = int(rng.integers(max(len(text) - length, 0) + 1))
        word = max(text.rfind(" ", 0, begin), text.rfind("\n", 0, begin)) + 1
        found.append((document, word, text[word : word + length].strip()))
    return found


def _vectors(texts: Sequence[str]) -> Any:
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    words = HashingVectorizer(n_features=FEATURES, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]")
    characters = HashingVectorizer(n_features=FEATURES, analyzer="char", ngram_range=(2, 4))
    return hstack([one.transform(texts) for one in (words, characters)], format="csr")


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression

    # The dual is fast where there are far fewer texts than features; its order of texts is seeded.
    return LogisticRegression(
        solver="liblinear", dual=True, class_weight="balanced", random_state=0, max_iter=1000
    )


def _digest(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{text}".encode(), digest_size=16).digest()
