"""Decks: a source divided into draws under a recipe: windows of text, packed or single records.

A deck is visited in a pseudo-random order that is computed, not stored, and that depends on seed,
source and epoch alone; each draw comes once an epoch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import NamedTuple

import numpy as np

from fitness.data.kinds import PAIRED
from fitness.data.records import ROWS, UNTAGGED, Records
from fitness.methods import BY_TOKEN, LEARN, USES, Shape, use_of
from fitness.mixture.infilling import Infilling
from fitness.mixture.permutation import keys_of, permute
from fitness.mixture.thresholds import passing_all
from fitness.recipe import Recipe

NO_LABEL = UNTAGGED  # the label that torch's cross-entropy ignores by default
BLOCK = 4096  # permuted positions computed at once


class Sequence(NamedTuple):
    """Int64 arrays, (length,): tokens, labels at their own token's place, and positions.

    Labels are NO_LABEL on tokens that are not learned. Positions restart at 0 in each document or
    record, so that attention stays within it; None for a sequence of one document.
    """

    tokens: np.ndarray
    labels: np.ndarray
    positions: np.ndarray | None = None


class Draw(NamedTuple):
    """One draw: its use, its source, and its sequences, of which a comparison has two.

    `number` identifies the draw within its source. `elsewhere` is the answer of another rated
    record, (tokens,) int64, from which KTO estimates the divergence where the batch has no other
    answer. `answers` are the numbers of the answers packed into a sequence, within their source.
    """

    use: str
    source: str
    number: int
    sequences: tuple[Sequence, ...]
    label: int = 1  # as of `records.Row`
    elsewhere: np.ndarray | None = None
    answers: tuple[int, ...] = ()


class Cuts(NamedTuple):
    """Truncation of a deck's records by its sequence length."""

    records: int
    cut: int  # records that are truncated
    left: float  # share of their tokens that is left


@dataclass(frozen=True)
class Windows:
    """Windows of a text, from another random offset each epoch, so that no tail is always left out.

    With a `separator`, the token that ends documents, attention stays within each document, and the
    first token of one is not learned.
    """

    tokens: np.ndarray
    length: int
    separator: int | None = None
    infilling: Infilling | None = None  # converts documents to fill-in-the-middle form

    cost = 1  # sequences of the budget that a draw takes

    @property
    def available(self) -> int:
        """Tokens in an epoch."""
        return len(self.tokens)

    def numbers(self, seed: int, source: str) -> Iterator[int]:
        """First tokens of the windows, epoch after epoch, endlessly; O(1) memory."""
        return window_starts(self.available, self.length, seed, source)

    def draw(self, source: str, number: int, length: int) -> Draw:
        """The window from token `number` on, of at most `length` tokens."""
        tokens = self.tokens[number : number + length].astype(np.int64)
        if self.infilling is not None:
            tokens = self.infilling.converted(tokens, source, number)
        labels, positions = tokens, None
        if self.separator is not None:
            begins = np.flatnonzero(tokens[:-1] == self.separator) + 1
            positions = positions_from(begins, len(tokens))
            labels = tokens.copy()
            labels[begins] = NO_LABEL  # only the document before could predict it
        return Draw(LEARN, source, number, (Sequence(tokens, labels, positions),))


@dataclass(frozen=True)
class RecordDeck:
    """Records for one use: packed into sequences for `learn`, else one record a draw.

    `cost` is the number of sequences of the budget that a draw takes.
    """

    records: Records
    use: str
    length: int
    cost: int = 1
    among: np.ndarray | None = None  # (rows,) bool: rows that may be drawn; None: all of them

    @property
    def shape(self) -> Shape:
        """Shape of the draws, by the use that is made of the records."""
        return USES[self.use].shape

    @cached_property
    def rows(self) -> np.ndarray:
        """The first row of each record to draw; for `learn`, only good ones with an answer."""
        index = self.records.index
        if self.records.kind in PAIRED:
            return np.arange(0, len(index), 2)
        if self.shape == "packed":
            learned = (index[:, 3] == 1) & (index[:, 2] > index[:, 1])
            return np.flatnonzero(learned if self.among is None else learned & self.among)
        return np.arange(len(index))

    @cached_property
    def packed(self) -> np.ndarray:
        """Boundaries of the packed sequences as places in `rows`: (sequences + 1,).

        Greedy in order: a record opens a new sequence where it does not fit the current one.
        """
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
        """Count the records that are truncated; a comparison's two answers are one record."""
        prompts, answers, kept = self._lengths()
        if self.shape == "prompt":
            whole, left = prompts, np.minimum(prompts, self.length)
        elif self.shape in ("class", "tagged"):
            whole, left = prompts + answers, np.minimum(prompts + answers, self.length)
        else:
            whole, left = prompts + answers, kept + np.minimum(answers, self.length - kept)
        whole, left = whole.sum(axis=1), left.sum(axis=1)
        cut = left < whole
        share = left[cut].sum() / max(1, whole[cut].sum())
        return Cuts(len(self.rows), int(cut.sum()), float(share))

    @property
    def learned(self) -> int | None:
        """Tokens learned in an epoch: those of the answers, as truncated; no padding, no prompts.

        None where something else is learned: a class, tags, a reward, or answers of the model.
        """
        if self.use not in BY_TOKEN:
            return None
        _, answers, kept = self._lengths()
        alone = kept == 0  # their first token has no context, see `_sequence`
        return int(np.maximum(np.minimum(answers, self.length - kept) - alone, 0).sum())

    def _lengths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens of prompts and answers, and what is left of the prompts, each (records, rows).

        Truncated as in `Records.truncated`; a comparison's two answers are two rows.
        """
        rows = self.rows[:, None] + np.arange(2 if self.shape == "pair" else 1)
        first, answer, end = (self.records.index[rows, column] for column in range(3))
        prompts, answers = answer - first, end - answer
        longest = answers.max(axis=1, keepdims=True, initial=0)
        return prompts, answers, np.minimum(prompts, np.maximum(self.length - longest, 1))

    @property
    def draws(self) -> int:
        """Number of draws in an epoch."""
        return len(self.packed) - 1 if self.shape == "packed" else len(self.rows)

    @property
    def available(self) -> int:
        """Tokens in an epoch, padding included."""
        return self.draws * self.cost * self.length

    def numbers(self, seed: int, source: str) -> Iterator[int]:
        """Numbers of the draws in their order, epoch after epoch, endlessly; O(1) memory."""
        for epoch in count():
            yield from _places(self.draws, keys_of(f"{seed}/{epoch}/{source}"))

    def draw(self, source: str, number: int, length: int) -> Draw:
        """A draw by its number; never truncated to the `length` that the budget has left."""
        if self.shape == "packed":
            first, end = self.packed[number : number + 2]
            parts = [self._sequence(int(row)) for row in self.rows[first:end]]
            begins = np.cumsum([0, *(len(part.tokens) for part in parts[:-1])])
            tokens = np.concatenate([part.tokens for part in parts])
            labels = np.concatenate([part.labels for part in parts])
            whole = Sequence(tokens, labels, positions_from(begins, len(tokens)))
            answers = self.rows[first:end] // ROWS[self.records.kind]
            return Draw(self.use, source, number, (whole,), answers=tuple(answers.tolist()))
        row = int(self.rows[number])
        if self.shape == "prompt":
            prompt = self.records.prompt(row)[-self.length :].astype(np.int64)
            reference = self.records.answer(row).astype(np.int64)
            sequences = tuple(Sequence(part, part) for part in (prompt, reference))
        elif self.shape == "class":
            text = self.records.text(row, self.length)
            sequences = (Sequence(text, np.full_like(text, NO_LABEL)),)
        elif self.shape == "tagged":
            text, tags = self.records.text(row, self.length), self.records.tags_of(row, self.length)
            sequences = (Sequence(text, tags),)
        elif self.shape == "pair":
            longest = max(len(self.records.answer(side)) for side in (row, row + 1))
            sequences = (self._sequence(row, longest), self._sequence(row + 1, longest))
        else:
            sequences = (self._sequence(row),)
        elsewhere = self._answer_beside(row) if self.shape == "rated" else None
        return Draw(self.use, source, number, sequences, self.records.label(row), elsewhere)

    def _answer_beside(self, row: int) -> np.ndarray:
        """The next different answer in the source; the row's own where all are equal."""
        count, own = len(self.records.index), self.records.answer(row)[: self.length]
        others = (self.records.answer((row + step) % count) for step in range(1, count))
        answers = (answer[: self.length] for answer in others)
        other = next((answer for answer in answers if not np.array_equal(answer, own)), own)
        return other.astype(np.int64)

    def _sequence(self, row: int, longest: int = 0) -> Sequence:
        tokens, prompt = self.records.truncated(row, self.length, longest)
        labels = tokens.copy()
        labels[: max(prompt, 1)] = NO_LABEL  # the first token has no context to predict it from
        return Sequence(tokens, labels)


Deck = Windows | RecordDeck


def deck_of(
    content: np.ndarray | Records,
    recipe: Recipe,
    separator: int,
    infilling: Infilling | None = None,
) -> Deck:
    """The deck of a source's content under a recipe; `separator` is the token between documents.

    `infilling` applies to text alone. A pool is reduced to the samples that pass the recipe's
    thresholds; InputError where the pool lacks a score that has a threshold.
    """
    if not isinstance(content, Records):
        apart = separator if recipe.isolate_documents else None
        return Windows(np.asarray(content), recipe.sequence_length, apart, infilling)
    use = use_of(content.kind, recipe.method)
    cost = {"pair": 2, "prompt": recipe.reinforce_group}.get(USES[use].shape, 1)
    among = None
    if content.kind == "sample":
        among = passing_all(recipe, content.scores, len(content.index))
    return RecordDeck(content, use, recipe.sequence_length, cost, among)


def window_starts(available: int, length: int, seed: int, source: str) -> Iterator[int]:
    """First tokens of one source's windows, epoch after epoch, endlessly; O(1) memory."""
    for epoch in count():
        keys = keys_of(f"{seed}/{epoch}/{source}")
        offset = int(keys[0]) % min(length, available - length + 1)
        n = (available - offset) // length
        yield from (offset + length * place for place in _places(n, keys))


def positions_from(begins: np.ndarray, length: int) -> np.ndarray:
    """(length,) positions 0, 1, 2, ... that restart at each of the places in `begins`."""
    starts = np.zeros(length, dtype=np.int64)
    starts[begins] = begins
    return np.arange(length) - np.maximum.accumulate(starts)


def _places(n: int, keys: np.ndarray) -> Iterator[int]:
    for first in range(0, n, BLOCK):
        yield from permute(
            np.arange(first, min(first + BLOCK, n), dtype=np.uint64), n, keys
        ).tolist()
