"""Scores of a classifier on texts whose classes are known."""

import numpy as np

from fitness.metrics.generated import Array


def class_scores(wanted: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Loss in nats, accuracy, precision, recall and F1 of logits, (n, classes); `wanted` is (n,).

    Precision, recall and F1 are means over the classes that occur, each with the same weight; a
    class that is never predicted has a precision of 0. F1 also over all texts together (micro),
    which is the accuracy, and with classes weighted by their texts.
    """
    from scipy.special import log_softmax
    from sklearn.metrics import precision_recall_fscore_support  # importing it takes a second

    loss = -log_softmax(logits, axis=1)[np.arange(len(wanted)), wanted].mean()
    predicted = logits.argmax(axis=1)
    macro, weighted = (
        precision_recall_fscore_support(
            wanted, predicted, labels=np.unique(wanted), average=average, zero_division=0
        )
        for average in ("macro", "weighted")
    )
    precision, recall, f1, _ = macro
    scores = {"loss": loss, "accuracy": (predicted == wanted).mean()}
    scores |= {"precision": precision, "recall": recall, "f1": f1}
    scores |= {"f1_micro": scores["accuracy"], "f1_weighted": weighted[2]}
    return {name: float(value) for name, value in scores.items()}


def weighted_f1(right: Array, predicted: Array, there: Array) -> float:
    """Mean F1 of classes, (classes,), weighted by how many of each there are; 0 if there are none.

    The arguments count what is right, predicted and there, of texts or of spans.
    """
    both = predicted + there
    scores = np.divide(2 * right, both, out=np.zeros(len(both)), where=both > 0)
    return float(scores @ there / max(1.0, there.sum()))


def confusion(wanted: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Counts of texts, (classes, classes), by their class and the predicted one."""
    counts = np.zeros((logits.shape[1],) * 2, dtype=int)
    np.add.at(counts, (wanted, logits.argmax(axis=1)), 1)
    return counts
