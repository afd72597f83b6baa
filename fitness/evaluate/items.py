"""Scores by held-out item, to estimate a measurement's sampling error over the items.

A measurement is a sum over its items divided by the sum of their weights: nats over tokens of
documents, right answers over prompts. An item is drawn independently: a document, a record, a
prompt. If a measurement is no such mean (chrF, F1), its items have the pseudo-values of the
jackknife (Tukey 1958), whose mean and spread estimate the measurement and its error.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fitness.metrics.classes import weighted_f1
from fitness.metrics.comparisons import losses, right
from fitness.metrics.generated import Array, jackknife
from fitness.metrics.spans import OF_SPANS, Tagged, right_words, span_counts

MOST = 200  # sums in the ledger for each measurement; with more items, neighbours are added up
DIGITS = 6


def items(unit: str, sums: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> dict[str, Any]:
    """Item scores of one measurement for an evaluation's details: `sums` and `weights` of items.

    `count` is the number of items. If there are more than MOST, neighbours are added up: a text's
    neighbours are alike, so that the variance of block sums still reflects that of the items.
    Weights that are all 1 are left out.
    """
    values = np.asarray(sums, float)
    own = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    block = np.arange(len(values)) * min(MOST, len(values)) // max(1, len(values))
    found: dict[str, Any] = {"unit": unit, "count": len(values)}
    found["sums"] = [float(f"{x:.{DIGITS}g}") for x in np.bincount(block, values)]
    if weights is not None or len(values) > MOST:
        found["weights"] = [float(f"{x:.{DIGITS}g}") for x in np.bincount(block, own)]
    return found


def text_items(losses: Array, tokens: npt.NDArray[Any], end: int, length: int) -> dict[str, Any]:
    """Item scores of a text: nats of each token but the first, (n - 1,), and the tokens, (n,).

    Items are documents, each closed by the token `end`. If the text is a single document, items
    are its windows of `length` tokens, in place of independently drawn documents.
    """
    closing = np.asarray(tokens) == end
    place = np.cumsum(closing) - closing
    unit = "document"
    if place[-1] == 0:
        unit, place = "window", np.arange(len(place)) // max(1, length)
    place, counted = place[1:], np.isfinite(losses)
    sums = np.bincount(place[counted], losses[counted])
    weights = np.bincount(place[counted])
    read = weights > 0
    return items(unit, sums[read], weights[read])


def class_items(wanted: npt.NDArray[Any], logits: Array) -> dict[str, dict[str, Any]]:
    """Item scores of texts with classes, (n,), and logits, (n, classes); by measurement."""
    from scipy.special import log_softmax

    count, classes = logits.shape
    found = logits.argmax(axis=1)
    losses = -log_softmax(logits, axis=1)[np.arange(count), wanted]
    each = {"loss": losses, "accuracy": np.asarray(found == wanted, float)}
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (wanted, found), 1)
    pairs, kind = np.unique(np.stack([wanted, found]), axis=1, return_inverse=True)
    scores = {"precision": _precision, "recall": _recall, "f1": _f1, "f1_weighted": _f1_weighted}
    for name, score in scores.items():
        whole, without = score(confusion), np.empty(pairs.shape[1])
        for place, (true, taken) in enumerate(pairs.T):  # texts of one kind count alike
            confusion[true, taken] -= 1
            without[place] = score(confusion)
            confusion[true, taken] += 1
        each[name] = count * whole - (count - 1) * without[kind]
    each["f1_micro"] = each["accuracy"]
    return {name: items("text", values) for name, values in each.items()}


def comparison_items(margins: Array) -> dict[str, dict[str, Any]]:
    """Item scores of a reward model's margins, (n,), by measurement; calibration has none."""
    return {
        "loss": items("record", losses(margins)),
        "accuracy": items("record", right(margins)),
    }


def tag_items(sentences: Sequence[Tagged]) -> dict[str, dict[str, Any]]:
    """Item scores of sentences with tags, by measurement; loss and accuracy weigh their words."""
    words = [len(one.wanted) for one in sentences]
    sums = {
        "loss": [one.losses.sum() for one in sentences],
        "accuracy": [*map(right_words, sentences)],
    }
    found = {name: items("sentence", values, words) for name, values in sums.items()}
    counts = span_counts(sentences)
    for name, score in OF_SPANS.items():
        found[name] = items("sentence", jackknife(counts, score))
    return found


def _precision(confusion: Array) -> float:
    """Macro mean over the classes that occur; `confusion`, (wanted, found), has counts."""
    return _macro(np.diag(confusion), confusion.sum(axis=0), confusion)


def _recall(confusion: Array) -> float:
    return _macro(np.diag(confusion), confusion.sum(axis=1), confusion)


def _f1(confusion: Array) -> float:
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return _macro(2 * np.diag(confusion), both, confusion)


def _f1_weighted(confusion: Array) -> float:
    return weighted_f1(np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1))


def _macro(right: Array, whole: Array, confusion: Array) -> float:
    there = confusion.sum(axis=1) > 0
    shares = np.divide(right, whole, out=np.zeros(len(right)), where=whole > 0)
    return float(shares[there].mean()) if there.any() else 0.0
