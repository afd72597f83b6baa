"""A batch in parts, for models whose activations of a whole batch do not fit a device."""

from collections.abc import Iterator
from typing import Any

from fitness.mixing import NO_LABEL


def parts(inputs: Any, labels: Any, rows: int | None) -> Iterator[tuple[Any, Any, float]]:
    """At most `rows` rows a time (None: all of them), each part with its share of the batch's loss.

    `inputs` and `labels` are arrays (b, length). The mean losses of the parts, times their shares
    of the predicted tokens, add up to the mean loss of the batch, and so do the gradients. Parts
    with nothing to predict, whose mean loss would be no number, are left out.
    """
    if rows is None or rows >= len(inputs):
        yield inputs, labels, 1.0
        return
    predicted = (labels[:, 1:] != NO_LABEL).sum(axis=1)  # a shifting model ignores the first
    for first in range(0, len(inputs), rows):
        these = slice(first, first + rows)
        if predicted[these].any():
            share = predicted[these].sum() / predicted.sum()
            yield inputs[these], labels[these], float(share)
