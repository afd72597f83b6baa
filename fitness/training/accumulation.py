"""Gradient accumulation: split a batch whose activations do not fit the device into parts."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from fitness.hardware import is_out_of_memory, release_memory
from fitness.methods import USES
from fitness.mixture.decks import NO_LABEL, Draw
from fitness.mixture.mixing import Batch, together

if TYPE_CHECKING:
    import torch


def parts(batch: Batch, rows: int | None) -> Iterator[tuple[Batch, float]]:
    """Parts of at most `rows` sequences (None: all of them), with their shares of the batch's loss.

    Documents that have rows of their own count as if they were packed: so many are together that
    they have no more tokens, with their padding, than `rows` packed ones.

    The losses of the parts, times their shares, sum to the loss of the batch, and so do the
    gradients: shares are by labels for cross-entropy and tags, by number for other draws. Only
    quantities estimated over a batch, such as KTO's divergence, are estimated over the part.
    """
    drawn = batch.rows_drawn
    count = drawn + len(batch.others)
    rows = batch.sequences if rows is None else rows
    if batch.learned is None and rows >= batch.sequences:
        yield batch, 1.0
        return
    predicted = (batch.labels[:, 1:] != NO_LABEL).sum(axis=1)  # a shifting model ignores the first
    for these in _slices(batch, rows):
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


def _slices(batch: Batch, rows: int) -> Iterator[slice]:
    """The rows of each part."""
    if batch.learned is None:
        return (slice(first, first + rows) for first in range(0, len(batch.input_ids), rows))
    lengths = [int(np.flatnonzero(row != NO_LABEL).max(initial=0)) + 1 for row in batch.labels]
    packed = max(*lengths, sum(lengths) / batch.learned)  # at least so long is a packed row
    return together(lengths, round(rows * packed))


def _labels(draw: Draw) -> int:
    return sum(int((one.labels != NO_LABEL).sum()) for one in draw.sequences)


def _short(rows: Batch) -> Batch:
    """Drop the columns after the last label: in a causal model they change nothing before them."""
    end = int(np.flatnonzero((rows.labels != NO_LABEL).any(axis=0)).max()) + 1
    return Batch(rows.input_ids[:, :end], rows.labels[:, :end])


def halving(
    step: Callable[[int | None], float],
    rows: int | None,
    *,
    batch: int,
    device: "torch.device",
    undo: Callable[[], None],
) -> tuple[float, int | None]:
    """Compute a step on `rows` rows at once, or on half as many as often as memory runs short.

    Returns its result, and the rows that fitted; None stands for all rows of the `batch`. `undo` is
    called before each further try, which has the random numbers of the first one. Raises what the
    step raises, also when a single row does not fit.
    """
    while True:
        restore = _random_state(device)
        try:
            return step(rows), rows
        except Exception as error:
            if rows == 1 or not is_out_of_memory(error):
                raise
        undo()
        release_memory()
        restore()
        rows = max(1, min(rows or batch, batch) // 2)


def _random_state(device: "torch.device") -> Callable[[], None]:
    """A function that restores the random state of now."""
    import torch

    cpu = torch.get_rng_state()
    if device.type != "cuda":
        return lambda: torch.set_rng_state(cpu)
    cuda = torch.cuda.get_rng_state(device)

    def restore() -> None:
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state(cuda, device)

    return restore
