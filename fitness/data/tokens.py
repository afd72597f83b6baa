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


class _Window(NamedTuple):
    """A stretch of a long text, its tokens, and which of these have been yielded already."""

    begin: int  # its first character's place in the text
    text: str
    encoding: Any
    ids: list[int]
    first: int = 0  # token that has not been yielded

    @property
    def end(self) -> int:
        return self.begin + len(self.text)

    def token_at(self, place: int) -> int | None:
        """The number of the token that holds a character of the text."""
        found: int | None = self.encoding.char_to_token(place - self.begin)
        return found

    def start_of(self, token: int) -> int:
        """The place in the text at which a token starts."""
        return int(self.encoding.token_to_chars(token)[0]) + self.begin


def long_text_tokens(
    tokenizer: "PreTrainedTokenizerBase", parts: Iterable[str]
) -> Iterator[list[int]]:
    """The tokens of one text, those of the whole, from its successive parts.

    Windows of the text overlap. One passes into the next within the overlap, where the tokens of
    both agree, identity and place, on ALIKE to either side. Where they agree nowhere, as in a run
    of one letter, the windows are joined, at the cost of their memory.
    """
    if not tokenizer.is_fast:  # tells no places
        yield text_tokens(tokenizer, "".join(parts))
        return
    rest = iter(parts)
    window = _window(tokenizer, 0, next(rest, ""))
    for part in rest:
        overlap = window.text[-OVERLAP:]
        following = _window(tokenizer, window.end - len(overlap), overlap + part)
        if places := _agreement(window, following):
            last, first = places
            yield window.ids[window.first : last]
            window = following._replace(first=first)
            continue
        joined, wanted = [window.text, part], 2 * len(window.text)
        while sum(map(len, joined)) < wanted and (more := next(rest, None)) is not None:
            joined.append(more)
        yielded = window.start_of(window.first) if window.first else window.begin
        window = _window(tokenizer, window.begin, "".join(joined))
        starts = [start + window.begin for start, _ in window.encoding.offsets]
        window = window._replace(first=bisect_left(starts, yielded))
    yield window.ids[window.first :]


def _window(tokenizer: "PreTrainedTokenizerBase", begin: int, text: str) -> _Window:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    encoding = backend.encode(text, add_special_tokens=False)
    return _Window(begin, text, encoding, encoding.ids)


def _agreement(window: _Window, following: _Window) -> tuple[int, int] | None:
    """Where in one window's tokens, and in the next one's, the same ones stand; None if nowhere.

    Of all such places in their overlap, that nearest to its middle: the ends of a window may be
    other tokens than they are within the text.
    """
    middle = (following.begin + window.end) // 2
    for distance in range((window.end - following.begin) // 2):
        for place in (middle - distance, middle + distance):
            one, other = window.token_at(place), following.token_at(place)
            if one is None or other is None or min(one - window.first, other) < ALIKE:
                continue
            beside = window.ids[one - ALIKE : one + ALIKE]
            if (
                len(beside) == 2 * ALIKE
                and beside == following.ids[other - ALIKE : other + ALIKE]
                and window.start_of(one) == following.start_of(other)
            ):
                return one, other
    return None
