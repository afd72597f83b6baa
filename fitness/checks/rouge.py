"""ROUGE of an answer against a reference: Lin, "ROUGE", 2004, as the package rouge-score has it.

The F1 of common n-grams, or of the longest common subsequence of words, without stemming. Words are
those of `fitness.text`, which equal rouge-score's in ASCII; it drops all other letters.
"""

from collections import Counter
from collections.abc import Sequence

from fitness.text import grams, share, words


def rouge_n(n: int, reference: str, output: str) -> float:
    """F1 of the n-grams of words in common, 0 to 1; 0 where either text has none."""
    wanted, given = (Counter(grams(_words(text), n)) for text in (reference, output))
    return share(2 * (wanted & given).total(), wanted.total() + given.total())


def rouge_l(reference: str, output: str) -> float:
    """F1 of the longest common subsequence of words, 0 to 1; 0 where either text has none."""
    wanted, given = _words(reference), _words(output)
    return share(2 * common_length(wanted, given), len(wanted) + len(given))


def _words(text: str) -> list[str]:
    return words(text.replace("_", " "))


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Bits in place of a table of lengths: Hyyro, "Bit-parallel LCS-length computation revisited",
    2004. Bit n of `row` is 0 where the length grows at item n of `one`.
    """
    places: dict[str, int] = {}
    for place, item in enumerate(one):
        places[item] = places.get(item, 0) | 1 << place
    every = (1 << len(one)) - 1
    row = every
    for item in other:
        match = row & places.get(item, 0)
        row = ((row + match) | (row - match)) & every
    return len(one) - row.bit_count()
