"""Shares of sources -> an exact, deterministic, streaming sequence of token windows.

Which source comes next follows Tijdeman, "The chairman assignment problem" (Discrete Mathematics
32, 1980): after any number of sequences every source is within 1 - 1/(2n - 2) sequences of its
share, n being the number of sources drawn from. Which window of a source comes next follows a
permutation that is computed, not stored, and that depends on seed, source and epoch alone. So a
smaller budget is a prefix of a larger one, another mixture meets each source's windows in the
same order (common random numbers), and memory is the same for any corpus.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from typing import NamedTuple

import numpy as np

from fitness.errors import InputError
from fitness.permutation import keys_of, permute
from fitness.suggest import did_you_mean, listed

NO_LABEL = -100  # what torch's cross-entropy leaves out by default
SHARE_TOLERANCE = 1e-6
BLOCK = 4096  # permuted positions computed at once


@dataclass(frozen=True)
class Mixed:
    """What a mixture comes to, by source; `epochs` is tokens drawn over tokens available."""

    tokens: dict[str, int]
    shares: dict[str, float]
    epochs: dict[str, float]


class Batch(NamedTuple):
    """Two int64 arrays, (b, longest sequence): tokens, and labels with NO_LABEL on the padding.

    Labels stand at their own token's place; the model shifts them.
    """

    input_ids: np.ndarray
    labels: np.ndarray


def schedule(
    shares: Mapping[str, float], budget_tokens: int, sequence_length: int
) -> Iterator[tuple[str, int]]:
    """Stream (source, tokens) of each sequence; only the last may be shorter, to be exact.

    At every prefix each source has its share of the tokens to within one sequence.
    """
    _check(shares, budget_tokens, sequence_length)
    return _schedule(shares, budget_tokens, sequence_length)


def realised(
    shares: Mapping[str, float],
    available: Mapping[str, int],
    *,
    budget_tokens: int,
    sequence_length: int,
) -> Mixed:
    """What a `Mixing` of the same arguments draws, counted without reading any data.

    `available` holds the tokens of each source. For a run that was cut short, give the tokens it
    got through as the budget.
    """
    tokens = dict.fromkeys(sorted(shares), 0)
    for source, length in schedule(shares, budget_tokens, sequence_length):
        tokens[source] += length
    _check_sources(tokens, available, sequence_length)
    return Mixed(
        tokens=tokens,
        shares={source: drawn / budget_tokens for source, drawn in tokens.items()},
        epochs={s: drawn / available[s] if drawn else 0.0 for s, drawn in tokens.items()},
    )


class Mixing:
    """One fine-tune's data: what it draws from each source, and the windows themselves.

    Each epoch cuts a source anew, from a random first token on, so that no tail is always left out,
    and visits each window once.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        tokens: Mapping[str, np.ndarray],
        *,
        budget_tokens: int,
        sequence_length: int,
        seed: int,
        seen: Mapping[str, int] | None = None,
        seen_seed: int | None = None,
    ) -> None:
        """`tokens` holds each source's tokens, (n,), usually memory-mapped.

        Of each source so many tokens, in whole windows, were `seen` under `seen_seed` and are left
        out. Under another seed the windows after these come too, in an order of that seed's own.
        """
        self._seen = {s: count // sequence_length for s, count in (seen or {}).items()}
        self._seen_seed = seed if seen_seed is None else seen_seed
        self._requested = shares
        self._available = {source: len(array) for source, array in tokens.items()}
        self.budget_tokens = budget_tokens
        self.sequence_length = sequence_length
        self.seed = seed
        self.drawn = self.first(budget_tokens)
        self._tokens = {s: np.asarray(tokens[s]) for s, drawn in self.drawn.tokens.items() if drawn}

    def first(self, tokens: int) -> Mixed:
        """What was drawn once so many tokens of the budget are spent."""
        return realised(
            self._requested,
            self._available,
            budget_tokens=tokens,
            sequence_length=self.sequence_length,
        )

    def sequences(self, skip: int = 0) -> Iterator[tuple[np.ndarray, str]]:
        """Stream (window, source), int64 of shape (sequence_length,) or shorter at the end.

        Without the first `skip` of them, whose tokens are not read.
        """
        starts = {source: self._starts(source) for source in self._tokens}
        order = schedule(self._requested, self.budget_tokens, self.sequence_length)
        for source, _ in islice(order, skip):
            next(starts[source])
        for source, length in order:
            start = next(starts[source])
            yield self._tokens[source][start : start + length].astype(np.int64), source

    def _starts(self, source: str) -> Iterator[int]:
        """First tokens of the windows to draw from a source, one after the other."""
        length = self.sequence_length
        starts = window_starts(self._available[source], length, self._seen_seed, source)
        unseen = islice(starts, self._seen.get(source, 0), None)
        if self._seen_seed == self.seed:
            return unseen
        count = -(-self.drawn.tokens[source] // length)
        coming = np.fromiter(unseen, dtype=np.int64, count=count)
        keys = keys_of(f"{self.seed}/unseen/{source}")
        order = permute(np.arange(count, dtype=np.uint64), count, keys)
        return iter(coming[order.astype(np.int64)].tolist())

    def steps(self, batch_size: int) -> int:
        """How many batches there are."""
        count = -(-self.budget_tokens // self.sequence_length)
        lonely = self.budget_tokens % self.sequence_length == 1 and (count - 1) % batch_size == 0
        return -(-count // batch_size) - lonely

    def batches(self, batch_size: int, skip: int = 0) -> Iterator[Batch]:
        """The sequences stacked; the last batch may have fewer rows, its last row may be padded.

        A last sequence of one token, which has nothing to predict, never makes a batch of its own:
        it is then one row more in the batch before. The first `skip` batches are left out.
        """
        sequences, left = self.sequences(skip * batch_size), self.steps(batch_size) - skip
        for _ in range(left - 1):
            yield _padded([window for window, _ in islice(sequences, batch_size)])
        if left > 0:
            yield _padded([window for window, _ in sequences])


def windows(tokens: np.ndarray, sequence_length: int, batch: int) -> Iterator[Batch]:
    """Cut held-out tokens, (n,), so that each but the first is predicted once; `batch` rows a time.

    A window begins with the last token of the one before, which is not predicted again: a shifting
    model ignores the first label of a row. So the labels of all windows count n - 1 in all.
    """
    if sequence_length < 2 or len(tokens) < 2:
        raise InputError(
            f"held-out windows need two tokens or more, got {sequence_length=} and {len(tokens)} "
            "tokens; give longer windows or more held-out text"
        )
    array = np.asarray(tokens)
    starts = range(0, len(array) - 1, sequence_length - 1)
    for first in range(0, len(starts), batch):
        these = starts[first : first + batch]
        yield _padded([array[start : start + sequence_length] for start in these])


def window_starts(available: int, sequence_length: int, seed: int, source: str) -> Iterator[int]:
    """First tokens of one source's windows, epoch after epoch, without end; O(1) memory."""
    for epoch in count():
        keys = keys_of(f"{seed}/{epoch}/{source}")
        offset = int(keys[0]) % min(sequence_length, available - sequence_length + 1)
        n = (available - offset) // sequence_length
        for first in range(0, n, BLOCK):
            places = permute(np.arange(first, min(first + BLOCK, n), dtype=np.uint64), n, keys)
            yield from (offset + sequence_length * places.astype(np.int64)).tolist()


def _schedule(
    shares: Mapping[str, float], budget_tokens: int, sequence_length: int
) -> Iterator[tuple[str, int]]:
    left = budget_tokens
    for source in _chairmen(shares):
        if not left:
            return
        length = min(sequence_length, left)
        yield source, length
        left -= length


def _chairmen(shares: Mapping[str, float]) -> Iterator[str]:
    """Tijdeman's assignment, in whole numbers so that it stays exact however long it goes on.

    Each step every source gains its share of a sequence. Among the sources that are owed at least
    1/(2n - 2) of a sequence, the one that would first be owed more than the bound is drawn.
    """
    exact = {source: Fraction(share) for source, share in sorted(shares.items()) if share > 0}
    names = list(exact)
    if len(names) == 1:
        while True:
            yield names[0]
    unit = math.lcm(*(share.denominator for share in exact.values()))
    scale = 2 * len(names) - 2
    gains = [int(share * unit) * scale for share in exact.values()]
    whole = sum(gains)  # one sequence
    least, bound = whole // scale, whole // scale * (scale - 1)
    owed = [0] * len(names)
    while True:
        owed = [debt + gain for debt, gain in zip(owed, gains, strict=True)]
        chosen = -1
        for place, debt in enumerate(owed):
            if debt >= least and (
                chosen < 0 or (bound - debt) * gains[chosen] < (bound - owed[chosen]) * gains[place]
            ):
                chosen = place
        owed[chosen] -= whole
        yield names[chosen]


def _padded(rows: list[np.ndarray]) -> Batch:
    shape = (len(rows), max(len(row) for row in rows))
    batch = Batch(np.zeros(shape, dtype=np.int64), np.full(shape, NO_LABEL, dtype=np.int64))
    for place, row in enumerate(rows):
        batch.input_ids[place, : len(row)] = row
        batch.labels[place, : len(row)] = row
    return batch


def _check(shares: Mapping[str, float], budget_tokens: int, sequence_length: int) -> None:
    if budget_tokens < 2 or sequence_length < 2:
        raise InputError(
            "budget and sequence length must be 2 tokens or more, or there is nothing to predict; "
            f"got {budget_tokens=}, {sequence_length=}"
        )
    wrong = [s for s, share in shares.items() if not (math.isfinite(share) and share >= 0)]
    if wrong:
        raise InputError(
            f"mixture: the share of {wrong[0]!r} is {shares[wrong[0]]}; it must be 0 or more"
        )
    total = math.fsum(shares.values())
    if abs(total - 1) > SHARE_TOLERANCE:
        raise InputError(
            f"mixture: shares must sum to 1, these sum to {total:.6g}; divide them by that"
        )


def _check_sources(
    drawn: Mapping[str, int], available: Mapping[str, int], sequence_length: int
) -> None:
    """Each source with something drawn from it must exist and fill a sequence."""
    for source in (source for source, tokens in drawn.items() if tokens):
        if source not in available:
            raise InputError(
                f"mixture: no source {source!r}, there are {listed(available)}"
                f"{did_you_mean(source, available)}"
            )
        if available[source] < sequence_length:
            raise InputError(
                f"source {source!r}: its {available[source]} tokens do not fill one sequence of "
                f"{sequence_length}; give it more text, a share of 0 or shorter sequences"
            )
