"""Shares of sources -> an exact, deterministic stream of what is drawn from them.

Which source comes next follows Tijdeman, "The chairman assignment problem" (Discrete Mathematics
32, 1980): after any number of draws every source is within 1 - 1/(2n - 2) draws of its share, n
being the number of sources drawn from. The order within a source (`fitness.mixture.decks`) is a
permutation that is computed, not stored, and that depends on seed, source and epoch alone. So a
smaller budget is a prefix of a larger one, another mixture meets each source's content in the
same order (common random numbers), and memory is the same for any corpus.
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
from fitness.mixture.decks import NO_LABEL, Deck, Draw, Sequence
from fitness.mixture.permutation import keys_of, permute
from fitness.suggest import did_you_mean, listed

SHARE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Mixed:
    """What a mixture comes to, by source; `epochs` is tokens drawn over tokens available."""

    tokens: dict[str, int]
    shares: dict[str, float]
    epochs: dict[str, float]


class Rows(NamedTuple):
    """Int64 arrays, (b, longest sequence): tokens, and labels with NO_LABEL on what is not learned.

    Labels stand at their own token's place; the model shifts them. `position_ids` tell the
    documents of a row apart; None where each row is one.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray | None = None


class Batch(NamedTuple):
    """What one optimiser step learns from: `Rows`, and draws that are not simply learned.

    `tokens` is what it takes of the budget. `learned` is how many draws the rows hold where each
    document has a row of its own, None where each draw is one row. `draws` are those draws.
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
        """The draws that are simply learned."""
        return len(self.input_ids) if self.learned is None else self.learned


def schedule(
    shares: Mapping[str, float],
    budget_tokens: int,
    sequence_length: int,
    costs: Mapping[str, int] | None = None,
) -> Iterator[tuple[str, int]]:
    """Stream (source, tokens) of each draw; only the last may be shorter, to be exact.

    At every prefix each source has its share of the tokens to within one draw: a sequence, or
    as many as `costs` has for it.
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
    """What a `Mixing` of the same arguments draws, counted without reading any data.

    `available` holds the tokens of each source. For a run that was cut short, give the tokens it
    got through as the budget.
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
    """One fine-tune's data: what it draws from each source, and the draws themselves."""

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
        """Of each source so many tokens, in whole draws, were `seen` under `seen_seed` and are left
        out. Under another seed the draws after these come too, in an order of that seed's own.

        Without `packs`, for a base whose documents see one another in a row, the documents of a
        draw get a row each: the same data, in as many steps.
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
        self.drawn = self.first(budget_tokens)

    def first(self, tokens: int) -> Mixed:
        """What was drawn once so many tokens of the budget are spent."""
        return realised(
            self._requested,
            {source: deck.available for source, deck in self.decks.items()},
            budget_tokens=tokens,
            sequence_length=self.sequence_length,
            costs=self._costs,
        )

    def draws(self, skip: int = 0) -> Iterator[tuple[Draw, int]]:
        """Stream draws with the tokens of the budget that each takes.

        Without the first `skip` of them, whose tokens are not read.
        """
        drawn = (source for source, tokens in self.drawn.tokens.items() if tokens)
        numbers = {source: self._numbers(source) for source in drawn}
        order = self._order()
        for source, _ in islice(order, skip):
            next(numbers[source])
        for source, tokens in order:
            yield self.decks[source].draw(source, next(numbers[source]), tokens), tokens

    def _numbers(self, source: str) -> Iterator[int]:
        """What to draw from a source, one after the other."""
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

    def steps(self, batch_size: int) -> int:
        """How many batches there are."""
        count, last = self._counted
        lonely = last == 1 and (count - 1) % batch_size == 0
        return -(-count // batch_size) - lonely

    @cached_property
    def _counted(self) -> tuple[int, int]:
        """The number of draws, and the tokens of the last one."""
        if set(self._costs.values()) <= {1}:
            whole, rest = divmod(self.budget_tokens, self.sequence_length)
            return (whole + 1, rest) if rest else (whole, self.sequence_length)
        lengths = [tokens for _, tokens in self._order()]
        return len(lengths), lengths[-1]

    def batches(self, batch_size: int, skip: int = 0) -> Iterator[Batch]:
        """The draws stacked; the last batch may have fewer rows, its last row may be padded.

        A last sequence of one token, which has nothing to predict, never makes a batch of its own:
        it is then one row more in the batch before. The first `skip` batches are left out.
        """
        draws, left = self.draws(skip * batch_size), self.steps(batch_size) - skip
        for _ in range(left - 1):
            yield _stacked(list(islice(draws, batch_size)), self._packs)
        if left > 0:
            yield _stacked(list(draws), self._packs)

    def _order(self) -> Iterator[tuple[str, int]]:
        return schedule(self._requested, self.budget_tokens, self.sequence_length, self._costs)


def windows(tokens: np.ndarray, sequence_length: int, batch: int) -> Iterator[Rows]:
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
    """Tijdeman's assignment, in whole numbers so that it stays exact however long it goes on.

    Each step every source gains its share of a draw, of which a dear one gets fewer. Among the
    sources that are owed at least 1/(2n - 2) of a draw, the one that would first be owed more than
    the bound is drawn.
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
    drawn = tuple(draw for draw, _ in draws if draw.use == "learn")
    learned = [draw.sequences[0] for draw in drawn]
    others = tuple(draw for draw, _ in draws if draw.use != "learn")
    tokens = sum(count for _, count in draws)
    if packs or all(one.positions is None for one in learned):
        return Batch(*stacked(learned), tokens, others, draws=drawn)
    apart = [part for one in learned for part in separate(one)]
    apart.sort(key=lambda part: -len(part.tokens))  # so that parts of the batch are of one length
    return Batch(*stacked(apart), tokens, others, len(learned), drawn)


def separate(sequence: Sequence) -> list[Sequence]:
    """The documents of a sequence, each as one that stands alone."""
    if sequence.positions is None:
        return [sequence]
    begins = np.flatnonzero(sequence.positions == 0)[1:]
    tokens, labels = np.split(sequence.tokens, begins), np.split(sequence.labels, begins)
    return [Sequence(*part) for part in zip(tokens, labels, strict=True)]


def stacked(sequences: list[Sequence]) -> Rows:
    """Sequences as rows, padded behind; int64 arrays, (sequences, longest), of zero rows too."""
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
