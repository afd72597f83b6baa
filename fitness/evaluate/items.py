"""Scores by held-out item, to estimate a measurement's sampling error over the items.

A measurement is a sum over its items divided by the sum of their weights: nats over tokens of
documents, right answers over prompts. An item is drawn independently: a document, a record, a
prompt. If a measurement is no such mean (chrF, F1), its items have the pseudo-values of the
jackknife (Tukey 1958), whose mean and spread estimate the measurement and its error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fitness.metrics import exact_match, mean_length, repetition

Array = npt.NDArray[np.float64]

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


def jackknife(statistics: Array, measure: Callable[[Array], float]) -> Array:
    """Pseudo-values, (n,), of a measure of sums over items, whose statistics are (n, ...).

    n f(all) - (n - 1) f(all but one); their mean estimates the measure, without the bias of 1/n.
    """
    count, total = len(statistics), statistics.sum(axis=0)
    whole = measure(total)
    return np.array([count * whole - (count - 1) * measure(total - one) for one in statistics])


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
    for name, score in (("precision", _precision), ("recall", _recall), ("f1", _f1)):
        whole, without = score(confusion), np.empty(pairs.shape[1])
        for place, (true, taken) in enumerate(pairs.T):  # texts of one kind count alike
            confusion[true, taken] -= 1
            without[place] = score(confusion)
            confusion[true, taken] += 1
        each[name] = count * whole - (count - 1) * without[kind]
    return {name: items("text", values) for name, values in each.items()}


def answer_items(
    metrics: Sequence[str], references: Sequence[str], outputs: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Item scores of answers to prompts, by metric; only of metrics that are sums over prompts.

    Left out are distinct n-grams, of which a resample with repeats has fewer, and users' own
    functions.
    """
    pairs = list(zip(references, outputs, strict=True))
    each: dict[str, Callable[[], Any]] = {
        "exact_match": lambda: [exact_match([output], [wanted]) for wanted, output in pairs],
        "repetition": lambda: [repetition([output]) for output in outputs],
        "mean_length": lambda: [mean_length([output]) for output in outputs],
        "chrf": lambda: _chrf(references, outputs),
    }
    return {name: items("prompt", each[name]()) for name in metrics if name in each}


def _chrf(references: Sequence[str], outputs: Sequence[str]) -> Array:
    """Pseudo-values of the corpus's chrF2, which sums the counts of n-grams over segments."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    counts = np.array(metric._extract_corpus_statistics(list(outputs), [list(references)]), float)
    return jackknife(counts, lambda total: float(metric._compute_f_score(total.tolist())))


def _precision(confusion: Array) -> float:
    """Macro mean over the classes that occur; `confusion`, (wanted, found), has counts."""
    return _macro(np.diag(confusion), confusion.sum(axis=0), confusion)


def _recall(confusion: Array) -> float:
    return _macro(np.diag(confusion), confusion.sum(axis=1), confusion)


def _f1(confusion: Array) -> float:
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return _macro(2 * np.diag(confusion), both, confusion)


def _macro(right: Array, whole: Array, confusion: Array) -> float:
    there = confusion.sum(axis=1) > 0
    shares = np.divide(right, whole, out=np.zeros(len(right)), where=whole > 0)
    return float(shares[there].mean()) if there.any() else 0.0
