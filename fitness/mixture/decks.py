"""What one draw from a source holds under a recipe: a window of text, records packed, or one.

A deck is visited in an order that is computed, not stored, and that follows from seed, source and
epoch alone; each draw once an epoch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Literal, NamedTuple

import numpy as np

from fitness.data.kinds import Kind
from fitness.data.records import ROWS, Records
from fitness.data.thresholds import kept
from fitness.mixture.infilling import Infilling
from fitness.mixture.permutation import keys_of, permute
from fitness.recipe import Method, Recipe

NO_LABEL = -100  # what torch's cross-entropy leaves out by default
BLOCK = 4096  # permuted positions computed at once

Use = Literal["learn", "compare", "rate", "answer", "classify"]

# What a method does with a source. `learn` is cross-entropy: on all of a text, on what answers a
# prompt, on the chosen and the good ones. `compare` and `rate` are for the preference losses,
# `answer` is for the model itself, `classify` for a model whose task that is.
USES: Mapping[Method, Mapping[Kind, Use]] = {
    "supervised": {"label": "classify"},
    "preference": {"preference": "compare", "rating": "rate"},
    "reinforce": {"prompt": "answer"},
}


def use_of(kind: Kind, method: Method) -> Use:
    """What a method does with a source of a kind; most of them learn from most."""
    return USES[method].get(kind, "learn")


class Sequence(NamedTuple):
    """Int64 arrays, (length,): tokens, labels at their own token's place, and positions.

    Labels are NO_LABEL on what is not learned. Positions begin anew in each document or record, so
    that none of them sees another one; None where all of it is one.
    """

    tokens: np.ndarray
    labels: np.ndarray
    positions: np.ndarray | None = None


class Draw(NamedTuple):
    """One draw: what it is for, where it is from, and its sequences, of which a comparison has two.

    `number` tells the records of a source apart. `elsewhere` is the answer of another rated record,
    (tokens,) int64, which tells KTO how far the model has moved where no other of a batch does.
    `answers` are the numbers of those that a sequence packs, among the answers of their source.
    """

    use: Use
    source: str
    number: int
    sequences: tuple[Sequence, ...]
    label: int = 1  # as of `records.Row`
    elsewhere: np.ndarray | None = None
    answers: tuple[int, ...] = ()


class Cuts(NamedTuple):
    """What a deck's sequence length leaves of its records: how many there are, how many it cuts,
    and the share of the tokens of those cut that it leaves."""

    records: int
    cut: int
    left: float


@dataclass(frozen=True)
class Windows:
    """A text cut anew each epoch, from a random first token on, so that no tail is always left out.

    With a `separator`, the token that ends documents, no document of a window sees another one.
    """

    tokens: np.ndarray
    length: int
    separator: int | None = None
    infilling: Infilling | None = None  # what turns documents into fill-in-the-middle form

    cost = 1  # sequences of the budget that a draw takes

    @property
    def available(self) -> int:
        """Tokens of an epoch."""
        return len(self.tokens)

    def numbers(self, seed: int, source: str) -> Iterator[int]:
        """First tokens of the windows, epoch after epoch, without end; O(1) memory."""
        return window_starts(self.available, self.length, seed, source)

    def draw(self, source: str, number: int, length: int) -> Draw:
        """The window that begins at a token, of at most `length`."""
        tokens = self.tokens[number : number + length].astype(np.int64)
        if self.infilling is not None:
            tokens = self.infilling.turned(tokens, source, number)
        positions = None
        if self.separator is not None:
            begins = np.flatnonzero(tokens[:-1] == self.separator) + 1
            positions = positions_from(begins, len(tokens))
        return Draw("learn", source, number, (Sequence(tokens, tokens, positions),))


@dataclass(frozen=True)
class RecordDeck:
    """Records under a use of them: packed into sequences to learn from, else one a draw.

    `cost` is how many sequences of the budget a draw takes.
    """

    records: Records
    use: Use
    length: int
    cost: int = 1
    among: np.ndarray | None = None  # (rows,) bool: those that may be drawn; None is all of them

    @cached_property
    def rows(self) -> np.ndarray:
        """The first row of each record drawn: to learn from, the good ones with an answer."""
        index = self.records.index
        if self.records.kind == "preference":
            return np.arange(0, len(index), 2)
        if self.use == "learn":
            learned = (index[:, 3] == 1) & (index[:, 2] > index[:, 1])
            return np.flatnonzero(learned if self.among is None else learned & self.among)
        return np.arange(len(index))

    @cached_property
    def packed(self) -> np.ndarray:
        """Where each sequence's first record is in `rows`, and the end: (sequences + 1,)."""
        index = self.records.index[self.rows]
        lengths = np.minimum(index[:, 2] - index[:, 0], self.length).tolist()
        begins, used = [0], 0
        for place, length in enumerate(lengths):
            if used + length > self.length:
                begins.append(place)
                used = 0
            used += length
        return np.array([*begins, len(lengths)] if lengths else [0])

    def cuts(self) -> Cuts:
        """Count the records that are drawn cut; a comparison's two answers are one record."""
        rows = self.rows[:, None] + np.arange(2 if self.use == "compare" else 1)
        first, answer, end = (self.records.index[rows, column] for column in range(3))
        prompts, answers = answer - first, end - answer  # (records, rows) tokens
        if self.use == "answer":
            whole, left = prompts, np.minimum(prompts, self.length)
        elif self.use == "classify":
            whole, left = prompts + answers, np.minimum(prompts + answers, self.length)
        else:  # as `Records.cut`
            longest = answers.max(axis=1, keepdims=True, initial=0)
            kept = np.minimum(prompts, np.maximum(self.length - longest, 1))
            whole, left = prompts + answers, kept + np.minimum(answers, self.length - kept)
        whole, left = whole.sum(axis=1), left.sum(axis=1)
        cut = left < whole
        return Cuts(len(rows), int(cut.sum()), float(left[cut].sum() / max(1, whole[cut].sum())))

    @property
    def draws(self) -> int:
        """Of an epoch."""
        return len(self.packed) - 1 if self.use == "learn" else len(self.rows)

    @property
    def available(self) -> int:
        """Tokens of an epoch, those that pad a sequence included."""
        return self.draws * self.cost * self.length

    def numbers(self, seed: int, source: str) -> Iterator[int]:
        """The draws in their order, epoch after epoch, without end; O(1) memory."""
        for epoch in count():
            yield from _places(self.draws, keys_of(f"{seed}/{epoch}/{source}"))

    def draw(self, source: str, number: int, length: int) -> Draw:
        """A draw by its number; it is never cut, whatever `length` the budget has left."""
        if self.use == "learn":
            first, end = self.packed[number : number + 2]
            parts = [self._sequence(int(row)) for row in self.rows[first:end]]
            begins = np.cumsum([0, *(len(part.tokens) for part in parts[:-1])])
            tokens = np.concatenate([part.tokens for part in parts])
            labels = np.concatenate([part.labels for part in parts])
            whole = Sequence(tokens, labels, positions_from(begins, len(tokens)))
            answers = self.rows[first:end] // ROWS[self.records.kind]
            return Draw(self.use, source, number, (whole,), answers=tuple(answers.tolist()))
        row = int(self.rows[number])
        if self.use == "answer":
            prompt = self.records.prompt(row)[-self.length :].astype(np.int64)
            reference = self.records.answer(row).astype(np.int64)
            sequences = tuple(Sequence(part, part) for part in (prompt, reference))
        elif self.use == "classify":
            text = self.records.text(row, self.length)
            sequences = (Sequence(text, np.full_like(text, NO_LABEL)),)
        elif self.use == "compare":
            longest = max(len(self.records.answer(side)) for side in (row, row + 1))
            sequences = (self._sequence(row, longest), self._sequence(row + 1, longest))
        else:
            sequences = (self._sequence(row),)
        elsewhere = self._answer_beside(row) if self.use == "rate" else None
        return Draw(self.use, source, number, sequences, self.records.label(row), elsewhere)

    def _answer_beside(self, row: int) -> np.ndarray:
        """The next answer of the source that is another one; the row's own where there is none."""
        count, own = len(self.records.index), self.records.answer(row)[: self.length]
        others = (self.records.answer((row + step) % count) for step in range(1, count))
        cut = (one[: self.length] for one in others)
        other = next((one for one in cut if not np.array_equal(one, own)), own)
        return other.astype(np.int64)

    def _sequence(self, row: int, longest: int = 0) -> Sequence:
        tokens, asked = self.records.cut(row, self.length, longest)
        labels = tokens.copy()
        labels[: max(asked, 1)] = NO_LABEL  # nothing stands before the first token to predict it
        return Sequence(tokens, labels)


Deck = Windows | RecordDeck


def deck_of(
    content: np.ndarray | Records,
    recipe: Recipe,
    separator: int,
    infilling: Infilling | None = None,
) -> Deck:
    """The deck of a source's content under a recipe; `separator` is the token between documents.

    `infilling` is done to text alone. Of samples, those that the recipe keeps; InputError where it
    goes by a score that none has.
    """
    if not isinstance(content, Records):
        apart = separator if recipe.isolate_documents else None
        return Windows(np.asarray(content), recipe.sequence_length, apart, infilling)
    use = use_of(content.kind, recipe.method)
    cost = {"compare": 2, "answer": recipe.reinforce_group}.get(use, 1)
    among = None
    if content.kind == "sample":
        among = kept(recipe, content.scores, len(content.index))
    return RecordDeck(content, use, recipe.sequence_length, cost, among)


def window_starts(available: int, length: int, seed: int, source: str) -> Iterator[int]:
    """First tokens of one source's windows, epoch after epoch, without end; O(1) memory."""
    for epoch in count():
        keys = keys_of(f"{seed}/{epoch}/{source}")
        offset = int(keys[0]) % min(length, available - length + 1)
        n = (available - offset) // length
        yield from (offset + length * place for place in _places(n, keys))


def positions_from(begins: np.ndarray, length: int) -> np.ndarray:
    """(length,) 0, 1, 2, ... anew from each of the places in `begins`."""
    starts = np.zeros(length, dtype=np.int64)
    starts[begins] = begins
    return np.arange(length) - np.maximum.accumulate(starts)


def _places(n: int, keys: np.ndarray) -> Iterator[int]:
    for first in range(0, n, BLOCK):
        yield from permute(
            np.arange(first, min(first + BLOCK, n), dtype=np.uint64), n, keys
        ).tolist()
