"""Scores of a reward model on held-out comparisons of two answers."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BINS = 10


def comparison_scores(margins: Array) -> dict[str, float]:
    """Loss in nats, accuracy and calibration of margins, (n,): rewards of chosen less rejected.

    An answer that ties is half right.
    """
    return {
        "loss": float(losses(margins).mean()),
        "accuracy": float(right(margins).mean()),
        "calibration": calibration(margins),
    }


def losses(margins: Array) -> Array:
    """-log sigmoid(margin), (n,)."""
    return np.logaddexp(0.0, -margins)


def right(margins: Array) -> Array:
    """1 where the chosen answer has the higher reward, 0.5 where both have the same."""
    return (margins > 0) + 0.5 * (margins == 0)


def calibration(margins: Array) -> float:
    """Expected calibration error: mean over bins of |confidence - share right|, by their size.

    The confidence is the probability of the answer that is predicted, .5 to 1, in BINS bins of
    equal width. Guo et al., "On calibration of modern neural networks", 2017.
    """
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == place].sum() - right(margins)[bins == place].sum())
        for place in np.unique(bins)
    ]
    return float(sum(gaps) / max(1, len(margins)))
