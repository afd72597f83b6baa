"""Scores of a tagger: loss and accuracy of words; precision, recall and F1 of spans of words.

Spans are those of conlleval, which the package seqeval follows in its default mode: an I- that does
not continue a span of its own type begins one. The scores count the spans of all types together,
but for `f1_weighted`, the mean F1 of the types, weighted by the spans there are of each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fitness.metrics.classes import weighted_f1
from fitness.metrics.generated import Array
from fitness.text import share

Span = tuple[str, int, int]  # type, first word, and the word after the last


class Tagged(NamedTuple):
    """The words of one sentence: nats of their tags, (words,), right tags, and predicted ones."""

    losses: Array
    wanted: list[str]
    predicted: list[str]


def spans(tags: Sequence[str]) -> set[Span]:
    """The spans of a sentence's tags in BIO form."""
    found: set[Span] = set()
    kind, begin = "", 0
    for place, tag in enumerate([*tags, "O"]):
        if kind and tag != f"I-{kind}":
            found.add((kind, begin, place))
            kind = ""
        if tag != "O" and not kind:
            kind, begin = tag[2:], place
    return found


def span_counts(sentences: Sequence[Tagged]) -> Array:
    """Spans that are right, predicted, and there, by sentence and type, (sentences, types, 3)."""
    pairs = [(spans(one.wanted), spans(one.predicted)) for one in sentences]
    found = sorted({kind for pair in pairs for kind, _, _ in pair[0] | pair[1]})
    place = {kind: number for number, kind in enumerate(found)}
    counts = np.zeros((len(pairs), len(place), 3))
    for own, (wanted, predicted) in zip(counts, pairs, strict=True):
        for column, some in enumerate((wanted & predicted, predicted, wanted)):
            for kind, _, _ in some:
                own[place[kind], column] += 1
    return counts


def precision(counts: Array) -> float:
    """Share of the predicted spans, (types, 3), that are right; 0 if none is predicted."""
    right, predicted, _ = counts.sum(axis=0).tolist()
    return share(right, predicted)


def recall(counts: Array) -> float:
    """Share of the spans there are that are predicted; 0 if there are none."""
    right, _, there = counts.sum(axis=0).tolist()
    return share(right, there)


def f1(counts: Array) -> float:
    """Harmonic mean of precision and recall; 0 if there are no spans."""
    right, predicted, there = counts.sum(axis=0).tolist()
    return share(2 * right, predicted + there)


def f1_weighted(counts: Array) -> float:
    """Mean F1 of the types, weighted by the spans there are of each; 0 if there are none."""
    return weighted_f1(*counts.T)


OF_SPANS = {
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "f1_micro": f1,
    "f1_weighted": f1_weighted,
}


def tag_scores(sentences: Sequence[Tagged]) -> dict[str, float]:
    """Loss in nats per word, accuracy of words, and precision, recall and F1 of spans."""
    words = max(1, sum(len(one.wanted) for one in sentences))
    scores = {
        "loss": sum(float(one.losses.sum()) for one in sentences) / words,
        "accuracy": sum(map(right_words, sentences)) / words,
    }
    total = span_counts(sentences).sum(axis=0)
    return scores | {name: score(total) for name, score in OF_SPANS.items()}


def right_words(sentence: Tagged) -> int:
    """Number of words whose tag is predicted."""
    pairs = zip(sentence.wanted, sentence.predicted, strict=True)
    return sum(wanted == predicted for wanted, predicted in pairs)
