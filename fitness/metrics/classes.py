"""Scores of a classifier on texts whose classes are known."""

import numpy as np


def class_scores(wanted: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Loss in nats, accuracy, precision, recall and F1 of logits, (n, classes); `wanted` is (n,).

    Precision, recall and F1 are means over the classes that occur, each with the same weight; a
    class that is never predicted has a precision of 0.
    """
    from scipy.special import log_softmax
    from sklearn.metrics import precision_recall_fscore_support  # importing it takes a second

    loss = -log_softmax(logits, axis=1)[np.arange(len(wanted)), wanted].mean()
    predicted = logits.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        wanted, predicted, labels=np.unique(wanted), average="macro", zero_division=0
    )
    scores = {"loss": loss, "accuracy": (predicted == wanted).mean()}
    scores |= {"precision": precision, "recall": recall, "f1": f1}
    return {name: float(value) for name, value in scores.items()}
