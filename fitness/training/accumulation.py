"""Gradient accumulation: split a batch whose activations do not fit the device into parts."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from fitness.methods import USES
from fitness.mixture.decks import NO_LABEL, Draw
from fitness.mixture.mixing import Batch


def parts(batch: Batch, rows: int | None) -> Iterator[tuple[Batch, float]]:
    """Parts of at most `rows` sequences (None: all of them), with their shares of the batch's loss.

    The losses of the parts, times their shares, sum to the loss of the batch, and so do the
    gradients: shares are by labels for cross-entropy and tags, by number for other draws. Only
    quantities estimated over a batch, such as KTO's divergence, are estimated over the part.
    """
    learned, drawn = len(batch.input_ids), batch.rows_drawn
    count = drawn + len(batch.others)
    sequences = learned + sum(len(draw.sequences) for draw in batch.others)
    if rows is None or rows >= sequences:
        yield batch, 1.0
        return
    predicted = (batch.labels[:, 1:] != NO_LABEL).sum(axis=1)  # a shifting model ignores the first
    for first in range(0, learned, rows):
        these = slice(first, first + rows)
        if predicted[these].any():  # else its mean loss would be NaN
            share = predicted[these].sum() / predicted.sum() * (drawn / count)
            positions = None if batch.position_ids is None else batch.position_ids[these]
            part = Batch(batch.input_ids[these], batch.labels[these], positions)
            yield (part if batch.learned is None else _short(part)), float(share)
    ordered = sorted(batch.others, key=lambda draw: draw.use)
    for _, group in groupby(ordered, key=lambda draw: draw.use):
        draws = list(group)
        size = max(1, rows // len(draws[0].sequences))
        sizes = [_labels(draw) if USES[draw.use].by_token else 1 for draw in draws]
        for first in range(0, len(draws), size):
            those = tuple(draws[first : first + size])
            empty = batch.input_ids[:0], batch.labels[:0], None
            share = sum(sizes[first : first + size]) / max(1, sum(sizes)) * (len(draws) / count)
            yield Batch(*empty, others=those), share


def _labels(draw: Draw) -> int:
    return sum(int((one.labels != NO_LABEL).sum()) for one in draw.sequences)


def _short(rows: Batch) -> Batch:
    """Drop the columns after the last label: in a causal model they change nothing before them."""
    end = int(np.flatnonzero((rows.labels != NO_LABEL).any(axis=0)).max()) + 1
    return Batch(rows.input_ids[:, :end], rows.labels[:, :end])
