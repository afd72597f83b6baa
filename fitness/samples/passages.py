"""Passages of real texts that a model continues, or fills a gap in, cut between words."""

import re
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from fitness.data.tokens import shared, text_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONG_WORD = 16  # characters, with the space behind it
WORD = re.compile(rf"\S{{1,{LONG_WORD}}}")
CHARACTER = 4  # bytes of the longest one, so at most as many tokens


def opening_of(text: str, words: int) -> str:
    """First words of a text, with the white space before and between them.

    In a text without spaces, such as Chinese, a word is taken as LONG_WORD characters.
    """
    stands = [word.end() for word in islice(re.finditer(r"\S+", text), words)]
    return text[: min(stands[-1], words * LONG_WORD)] if stands else ""


def words(
    text: str, count: int | None = None, begin: int = 0, end: int | None = None
) -> list[re.Match[str]]:
    """The first `count` words between two places; an overlong one is split into several."""
    found = WORD.finditer(text, begin, len(text) if end is None else end)
    return list(islice(found, count))


def around(text: str, beside: int, gap: int, rng: np.random.Generator) -> tuple[str, str]:
    """Text before and after a gap of `gap` words at a random place, `beside` words each.

    Fewer of either in a short text, which must have at least three words. White space after a word
    belongs to the next word, as it does in tokens.
    """
    reach = LONG_WORD * (2 * beside + gap)
    begin = int(rng.integers(max(len(text) - reach, 0) + 1))
    found = words(text, begin=begin, end=begin + reach)
    torn = begin > 0, begin + reach < len(text)  # the first and last of them may be
    found = found[torn[0] : len(found) - torn[1]]
    if len(found) < 3:
        found = words(text)
    gap = min(gap, len(found) - 2)
    first = int(rng.integers(1, len(found) - gap))
    last = first + gap
    prefix = text[found[max(first - beside, 0)].start() : found[first - 1].end()]
    suffix = text[found[last - 1].end() : found[min(last + beside, len(found)) - 1].end()]
    return prefix, suffix


def seen(
    tokenizer: "PreTrainedTokenizerBase", text: str, room: int, *, end: bool = True, after: str = ""
) -> tuple[str, list[int]]:
    """The longest end (or beginning) of a text that fits in `room` tokens, and its tokens.

    It begins and ends with whole characters: a token may hold a part of one. For a text that comes
    `after` another in a document, the tokens are those that it has there.
    """
    before, tokens = text_tokens(tokenizer, after), text_tokens(tokenizer, after + text)
    if shared(before, tokens) < len(before):  # a token holds parts of both
        before, tokens = [], text_tokens(tokenizer, text)
    tokens = tokens[len(before) :]
    if len(tokens) <= room:
        return text, tokens
    stands = text.endswith if end else text.startswith
    parts = [
        tokens[len(tokens) - kept :] if end else tokens[:kept]
        for kept in range(room, max(room - CHARACTER, 0), -1)
    ]
    decoded = [_text_behind(tokenizer, before, part) for part in parts]
    whole = [place for place, part in enumerate(decoded) if stands(part)]
    place = whole[0] if whole else 0  # none where the tokenizer does not keep texts as they are
    return decoded[place], parts[place]


def _text_behind(tokenizer: "PreTrainedTokenizerBase", before: list[int], tokens: list[int]) -> str:
    """Text of tokens that come after others."""
    first, whole = (
        str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
        for ids in (before, before + tokens)
    )
    return whole.removeprefix(first)
