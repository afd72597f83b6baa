"""Texts as words and n-grams, and shares of them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

SHINGLE = 3  # words
# Characters of Thai to Khmer, Chinese, Japanese and Korean, which put no space between words.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
Gram = tuple[Any, ...]


def plain(text: str) -> str:
    """Normalise a text: case folded, white space as single spaces."""
    return " ".join(text.casefold().split())


def grams(items: Sequence[Any], n: int) -> Iterator[tuple[Any, ...]]:
    """All n-grams: every n consecutive items."""
    return (tuple(items[place : place + n]) for place in range(len(items) - n + 1))


def repeated(items: Sequence[Any]) -> float:
    """The share of the 4-grams that occurred before; 0 for fewer than four items."""
    counted = Counter(grams(items, 4))
    return share(counted.total() - len(counted), counted.total())


def share(part: float, whole: int) -> float:
    """Ratio of a part to a whole; 0 if the whole is 0."""
    return part / whole if whole else 0.0


def words(text: str) -> list[str]:
    """Words of a text in lower case, split at punctuation and white space.

    In scripts without spaces between words, each character is a word.
    """
    return WORD.findall(text.casefold())


def shingles(said: Sequence[str], before: Sequence[str] = ()) -> frozenset[Gram]:
    """Shingles of words, including those that begin in the words `before`.

    Fewer words than a shingle has are one shingle.
    """
    joined = [*before[len(before) - min(len(before), SHINGLE - 1) :], *said] if said else []
    return frozenset(grams(joined, SHINGLE)) or frozenset([tuple(joined)] if joined else ())


def likeness(one: Set[Gram], other: Set[Gram]) -> float:
    """Jaccard similarity of two sets of shingles, 0 to 1; 0 of empty ones."""
    common = len(one & other)
    return common / ((len(one) + len(other) - common) or 1)


def strings_in(value: Any) -> Iterator[str]:
    """Every text within a record but the roles of messages, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name != "role":
                yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)
