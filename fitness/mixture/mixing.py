"""Mix sources by their shares: an exact, deterministic stream of draws and batches.

The next source follows Tijdeman, "The chairman assignment problem" (Discrete Mathematics 32,
1980): after any number of draws every source is within 1 - 1/(2n - 2) draws of its share, n being
the number of sources drawn from. The order within a source (`fitness.mixture.decks`) is a
permutation that is computed, not stored, and that depends on seed, source and epoch alone. So a
smaller budget is a prefix of a larger one, different mixtures draw each source's content in the
same order (common random numbers), and memory does not depend on the size of the corpus.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np

from fitness.errors import InputError
from fitness.methods import LEARN
from fitness.mixture.decks import NO_LABEL, Deck, Draw, Sequence, Windows
from fitness.mixture.permutation import keys_of, permute
from fitness.suggest import did_you_mean, listed

SHARE_TOLERANCE = 1e-6
BUSY = 4096  # tokens computed at once from which on padding costs more than starting anew
PADDING = 0.1  # share of them


@dataclass(frozen=True)
class Mixed:
    """Realised mixture, by source; `epochs` is tokens drawn over tokens available."""

    tokens: dict[str, int]
    shares: dict[str, float]
    epochs: dict[str, float]


class Rows(NamedTuple):
    """Int64 arrays, (b, longest sequence): tokens, and labels with NO_LABEL on tokens not learned.

    A label is at its own token's place; the model shifts them. `position_ids` restart at each
    document of a row; None where each row is one document.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray | None = None


class Batch(NamedTuple):
    """The data of one optimiser step: `Rows` for cross-entropy, and draws for any `others` losses.

    `tokens` is its part of the budget. `learned` is the number of draws in the rows where each
    document has a row of its own, the longest first, None where each draw is one row. `draws` are
    those draws.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray | None = None
    tokens: int = 0
    others: tuple[Draw, ...] = ()
    learned: int | None = None
    draws: tuple[Draw, ...] = ()

    @property
    def rows_drawn(self) -> int:
        """Number of draws in the rows, those learned by cross-entropy."""
        return len(self.input_ids) if self.learned is None else self.learned

    @property
    def sequences(self) -> int:
        """Number of rows, those of other draws included, with each draw as one row."""
        return self.rows_drawn + sum(len(draw.sequences) for draw in self.others)


def schedule(
    shares: Mapping[str, float],
    budget_tokens: int,
    sequence_length: int,
    costs: Mapping[str, int] | None = None,
) -> Iterator[tuple[str, int]]:
    """Stream (source, tokens) of each draw; only the last may be shorter, to meet the budget.

    In every prefix each source has its share of the tokens to within one draw: one sequence, or
    as many as `costs` gives for the source.
    """
    _check(shares, budget_tokens, sequence_length)
    return _schedule(shares, budget_tokens, sequence_length, costs or {})


def realised(
    shares: Mapping[str, float],
    available: Mapping[str, int],
    *,
    budget_tokens: int,
    sequence_length: int,
    costs: Mapping[str, int] | None = None,
) -> Mixed:
    """Tokens, shares and epochs that a `Mixing` of these arguments draws, without reading any data.

    `available` holds the tokens of each source. For a run that was stopped early, give the tokens
    that it used as the budget.
    """
    tokens = dict.fromkeys(sorted(shares), 0)
    for source, length in schedule(shares, budget_tokens, sequence_length, costs):
        tokens[source] += length
    _check_sources(tokens, available, sequence_length)
    return Mixed(
        tokens=tokens,
        shares={source: drawn / budget_tokens for source, drawn in tokens.items()},
        epochs={s: drawn / available[s] if drawn else 0.0 for s, drawn in tokens.items()},
    )


class Mixing:
    """The data of one fine-tune: the amounts drawn from each source, and the draws themselves."""

    def __init__(
        self,
        shares: Mapping[str, float],
        decks: Mapping[str, Deck],
        *,
        budget_tokens: int,
        sequence_length: int,
        seed: int,
        seen: Mapping[str, int] | None = None,
        seen_seed: int | None = None,
        packs: bool = True,
    ) -> None:
        """Skip the tokens already `seen`, by source in whole draws under the order of `seen_seed`.

        If `seed` is another one, the draws after the seen ones come in a new order by `seed`.

        Without `packs`, for a base whose attention crosses the documents in a row, each document
        of a draw gets a row of its own: the same data, in as many steps.
        """
        self._requested = shares
        self._packs = packs
        self.decks = decks
        self._seen = seen or {}
        self._seen_seed = seed if seen_seed is None else seen_seed
        self._costs = {source: deck.cost for source, deck in decks.items()}
        self.budget_tokens = budget_tokens
        self.sequence_length = sequence_length
        self.seed = seed
        self.drawn = self.drawn_after(budget_tokens)

    def drawn_after(self, tokens: int) -> Mixed:
        """The realised mixture of the first `tokens` of the budget."""
        return realised(
            self._requested,
            {source: deck.available for source, deck in self.decks.items()},
            budget_tokens=tokens,
            sequence_length=self.sequence_length,
            costs=self._costs,
        )

    def draws(self, skip: int = 0) -> Iterator[tuple[Draw, int]]:
        """Stream the draws, each with its tokens of the budget.

        The first `skip` draws are left out, without reading their tokens.
        """
        drawn = (source for source, tokens in self.drawn.tokens.items() if tokens)
        numbers = {source: self._numbers(source) for source in drawn}
        order = self._order()
        for source, _ in islice(order, skip):
            next(numbers[source])
        for source, tokens in order:
            yield self.decks[source].draw(source, next(numbers[source]), tokens), tokens

    def _numbers(self, source: str) -> Iterator[int]:
        """Numbers of the draws from a source, in order."""
        deck = self.decks[source]
        tokens = self.sequence_length * deck.cost
        every = deck.numbers(self._seen_seed, source)
        unseen = islice(every, self._seen.get(source, 0) // tokens, None)
        if self._seen_seed == self.seed:
            return unseen
        count = -(-self.drawn.tokens[source] // tokens)
        coming = np.fromiter(unseen, dtype=np.int64, count=count)
        keys = keys_of(f"{self.seed}/unseen/{source}")
        order = permute(np.arange(count, dtype=np.uint64), count, keys)
        return iter(coming[order.astype(np.int64)].tolist())

    @property
    def one_row_each(self) -> bool:
        """True if each draw is one row of a batch: documents in a row are packed, or not apart."""
        return self._packs or all(
            isinstance(deck, Windows) and deck.separator is None for deck in self.decks.values()
        )

    def steps(self, batch_size: int) -> int:
        """Number of batches."""
        count, last = self._counted
        # A last batch of one token has nothing to predict: it joins the batch before.
        alone = last == 1 and (count - 1) % batch_size == 0
        return -(-count // batch_size) - alone

    @cached_property
    def _counted(self) -> tuple[int, int]:
        """The number of draws, and the tokens of the last one."""
        if set(self._costs.values()) <= {1}:
            whole, rest = divmod(self.budget_tokens, self.sequence_length)
            return (whole + 1, rest) if rest else (whole, self.sequence_length)
        lengths = [tokens for _, tokens in self._order()]
        return len(lengths), lengths[-1]

    def batches(self, batch_size: int, skip: int = 0) -> Iterator[Batch]:
        """Stack the draws to batches; the last one may have fewer rows, its last row may be padded.

        A last sequence of one token, which has nothing to predict, never makes a batch of its own:
        it becomes one more row of the batch before. The first `skip` batches are left out.
        """
        draws, left = self.draws(skip * batch_size), self.steps(batch_size) - skip
        for _ in range(left - 1):
            yield _stacked(list(islice(draws, batch_size)), self._packs)
        if left > 0:
            yield _stacked(list(draws), self._packs)

    def _order(self) -> Iterator[tuple[str, int]]:
        return schedule(self._requested, self.budget_tokens, self.sequence_length, self._costs)


def windows(tokens: np.ndarray, sequence_length: int, batch: int) -> Iterator[Rows]:
    """Split held-out tokens, (n,), into windows that predict each token but the first once.

    Yields `batch` rows at a time. A window begins with the last token of the one before, which is
    not predicted again: a model shifts the labels and so ignores a row's first. So all windows
    together have n - 1 labels.
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
        cut = [array[start : start + sequence_length].astype(np.int64) for start in these]
        yield stacked([Sequence(window, window) for window in cut])


def _schedule(
    shares: Mapping[str, float],
    budget_tokens: int,
    sequence_length: int,
    costs: Mapping[str, int],
) -> Iterator[tuple[str, int]]:
    left = budget_tokens
    for source in _chairmen(shares, costs):
        if not left:
            return
        length = min(sequence_length * costs.get(source, 1), left)
        yield source, length
        left -= length


def _chairmen(shares: Mapping[str, float], costs: Mapping[str, int]) -> Iterator[str]:
    """Tijdeman's assignment, endlessly, in integers so that it stays exact.

    In each step every source gains its share of a draw, divided by the cost of its draws. Among the
    sources owed at least 1/(2n - 2) of a draw, the one is drawn whose debt would be the first to
    exceed the bound 1 - 1/(2n - 2).
    """
    exact = {
        source: Fraction(share) / costs.get(source, 1)
        for source, share in sorted(shares.items())
        if share > 0
    }
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


def _stacked(draws: list[tuple[Draw, int]], packs: bool) -> Batch:
    drawn = tuple(draw for draw, _ in draws if draw.use == LEARN)
    learned = [draw.sequences[0] for draw in drawn]
    others = tuple(draw for draw, _ in draws if draw.use != LEARN)
    tokens = sum(count for _, count in draws)
    if packs or all(one.positions is None for one in learned):
        return Batch(*stacked(learned), tokens, others, draws=drawn)
    apart = [part for one in learned for part in separate(one)]
    apart.sort(key=lambda part: -len(part.tokens))  # so that parts of the batch are of one length
    return Batch(*stacked(apart), tokens, others, len(learned), drawn)


def separate(sequence: Sequence) -> list[Sequence]:
    """Split a sequence into its documents, each as a sequence of its own."""
    if sequence.positions is None:
        return [sequence]
    begins = np.flatnonzero(sequence.positions == 0)[1:]
    tokens, labels = np.split(sequence.tokens, begins), np.split(sequence.labels, begins)
    return [Sequence(*part) for part in zip(tokens, labels, strict=True)]


def together(lengths: list[int], room: int) -> Iterator[slice]:
    """Slices of rows of these lengths, in order, each of at most `room` tokens with its padding.

    A row that is longer is alone. Slices of more than BUSY tokens end before their padding is more
    than a share of them.
    """
    first, longest, own = 0, 0, 0
    for place, length in enumerate(lengths):
        longest, own = max(longest, length), own + length
        whole = longest * (place + 1 - first)
        if place > first and (whole > room or (whole > BUSY and whole - own > PADDING * whole)):
            yield slice(first, place)
            first, longest, own = place, length, length
    yield slice(first, len(lengths))


def stacked(sequences: list[Sequence]) -> Rows:
    """Sequences as rows, padded at the end; int64 arrays, (sequences, longest), possibly 0 rows."""
    shape = (len(sequences), max((len(one.tokens) for one in sequences), default=0))
    tokens = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, NO_LABEL, dtype=np.int64)
    positions = np.tile(np.arange(shape[1]), (shape[0], 1))
    for place, one in enumerate(sequences):
        length = len(one.tokens)
        tokens[place, :length] = one.tokens
        labels[place, :length] = one.labels
        if one.positions is not None:
            positions[place, :length] = one.positions
    apart = any(one.positions is not None for one in sequences)
    return Rows(tokens, labels, positions if apart else None)


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
    """Raise InputError unless every source drawn from exists and fills one sequence."""
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
