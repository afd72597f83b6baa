"""Text as tokens: whole, and only then split, so that no part begins as a text of its own would.

Tokenizers after SentencePiece (Llama 2, Mistral, Gemma) write a word mark before a text. A part of
a text that is tokenised apart so begins with a mark that its place in the whole has not.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OVERLAP = 2**12  # characters of a long text that two windows of it share
ALIKE = 8  # successive tokens in which two windows must agree where one passes into the other


class Rendered(str):
    """A prompt that a chat template wrote, with all special tokens that belong before it."""

    __slots__ = ()


def separator(tokenizer: "PreTrainedTokenizerBase") -> Any:
    """The token that ends a document: EOS, or SEP of an encoder that has none."""
    end = tokenizer.eos_token_id
    return tokenizer.sep_token_id if end is None else end


def opening_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What stands before every document and prompt: BOS or CLS if the tokenizer adds one."""
    first = tokenizer("", verbose=False)["input_ids"][:1]
    return first if first in ([tokenizer.bos_token_id], [tokenizer.cls_token_id]) else []


def text_tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The tokens of a text itself, with nothing around it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def prompt_tokens(
    tokenizer: "PreTrainedTokenizerBase", prompt: str, opening: list[int]
) -> tuple[list[int], list[int]]:
    """The tokens that open a prompt, which no cut takes away, and those of its text.

    A prompt of plain text has before it the `opening` of the tokenizer.
    """
    tokens = text_tokens(tokenizer, prompt)
    if not isinstance(prompt, Rendered):
        return opening, tokens
    if opening and tokens[: len(opening)] == opening:
        return opening, tokens[len(opening) :]
    return [], tokens


def shared(tokens: list[int], others: list[int]) -> int:
    """How many tokens two lists begin with alike.

    Of a prompt's tokens and those of the prompt with its answer, that is where the answer begins:
    a token that holds the prompt's end and the answer's beginning is learned with the answer. TRL
    splits at the same place.
    """
    pairs = zip(tokens, others, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class _Token(NamedTuple):
    """A token and which characters of the text it stands for."""

    start: int
    end: int
    id: int


def long_text_tokens(
    tokenizer: "PreTrainedTokenizerBase", parts: Iterable[str]
) -> Iterator[list[int]]:
    """The tokens of one text, those of the whole, from its successive parts.

    Windows of the text overlap. One passes into the next within the overlap, where the tokens of
    both agree, identity and place, on ALIKE successive ones. Where they agree nowhere, as in a run
    of one letter, the windows are joined, at the cost of their memory.
    """
    if not tokenizer.is_fast:  # tells no places
        yield text_tokens(tokenizer, "".join(parts))
        return
    rest = iter(parts)
    text, begin = next(rest, ""), 0
    written = 0  # the place up to which tokens have been yielded
    tokens = _placed(tokenizer, text, begin)
    for part in rest:
        end = begin + len(text)
        overlap = text[-OVERLAP:]
        following = _placed(tokenizer, overlap + part, end - len(overlap))
        places = _agreement(tokens, following, end - len(overlap), end)
        if places is None:
            wanted, joined = 2 * len(text), [text, part]
            while sum(map(len, joined)) < wanted and (more := next(rest, None)) is not None:
                joined.append(more)
            text = "".join(joined)
            tokens = [one for one in _placed(tokenizer, text, begin) if one.start >= written]
            continue
        last, first = places
        yield [one.id for one in tokens[:last]]
        written = following[first].start
        tokens, text, begin = following[first:], overlap + part, end - len(overlap)
    yield [one.id for one in tokens]


def _placed(tokenizer: "PreTrainedTokenizerBase", text: str, begin: int) -> list[_Token]:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    encoded = backend.encode(text, add_special_tokens=False)
    return [
        _Token(start + begin, end + begin, number)
        for number, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)
    ]


def _agreement(
    tokens: list[_Token], following: list[_Token], begin: int, end: int
) -> tuple[int, int] | None:
    """Where one window's tokens, and the next one's, stand before the same ones; None if nowhere.

    Of all such places between `begin` and `end`, that nearest to the middle: the ends of a window
    may be other tokens than they are within a text.
    """
    middle = (begin + end) // 2
    at = {one: place for place, one in enumerate(following) if begin <= one.start < end}
    span = range(bisect_left(tokens, (begin,)), len(tokens) - ALIKE + 1)
    for place in sorted(span, key=lambda place: abs(tokens[place].start - middle)):
        other = at.get(tokens[place])
        if other is None:
            continue
        beside = tokens[place - ALIKE : place + ALIKE] if place >= ALIKE else []
        if beside and beside == following[max(other - ALIKE, 0) : other + ALIKE]:
            return place, other
    return None
