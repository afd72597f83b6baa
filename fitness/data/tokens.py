"""Tokenise texts whole and split the tokens afterwards, not the text.

Tokenizers after SentencePiece (Llama 2, Mistral, Gemma) put a word mark before a text. A part of a
text tokenised alone would therefore begin with a mark that it does not have within the text.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OVERLAP = 2**12  # characters of a long text that two windows of it share
ALIKE = 8  # successive tokens in which two windows must agree where they are joined


class Rendered(str):
    """A prompt rendered by a chat template, with all special tokens that belong before it."""

    __slots__ = ()


def separator(tokenizer: "PreTrainedTokenizerBase") -> Any:
    """The token that ends a document: EOS, or SEP of an encoder that has none."""
    end = tokenizer.eos_token_id
    return tokenizer.sep_token_id if end is None else end


def opening_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The tokens before every document and prompt: BOS or CLS if the tokenizer adds one."""
    first = tokenizer("", verbose=False)["input_ids"][:1]
    return first if first in ([tokenizer.bos_token_id], [tokenizer.cls_token_id]) else []


def text_tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The tokens of a text alone, without special tokens around it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def prompt_tokens(
    tokenizer: "PreTrainedTokenizerBase", prompt: str, opening: list[int]
) -> tuple[list[int], list[int]]:
    """The opening tokens of a prompt, which truncation must keep, and the tokens of its text.

    A prompt of plain text is preceded by the tokenizer's `opening`.
    """
    tokens = text_tokens(tokenizer, prompt)
    if not isinstance(prompt, Rendered):
        return opening, tokens
    if opening and tokens[: len(opening)] == opening:
        return opening, tokens[len(opening) :]
    return [], tokens


def shared(tokens: list[int], others: list[int]) -> int:
    """Length of the common prefix of two lists of tokens.

    For a prompt's tokens and those of the prompt with its answer, this is where the answer begins:
    a token that spans the prompt's end and the answer's beginning is learned with the answer. TRL
    splits at the same place.
    """
    pairs = zip(tokens, others, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class _Window(NamedTuple):
    """A stretch of a long text, its tokens, and the number of the first not yet yielded."""

    begin: int  # its first character's place in the text
    text: str
    encoding: Any
    ids: list[int]
    first: int = 0  # token not yet yielded

    @property
    def end(self) -> int:
        return self.begin + len(self.text)

    def token_at(self, place: int) -> int | None:
        """The number of the token that contains a character of the text; None if none does."""
        token: int | None = self.encoding.char_to_token(place - self.begin)
        return token

    def start_of(self, token: int) -> int:
        """The place in the text at which a token starts."""
        return int(self.encoding.token_to_chars(token)[0]) + self.begin


def long_text_tokens(
    tokenizer: "PreTrainedTokenizerBase", parts: Iterable[str]
) -> Iterator[list[int]]:
    """Tokenise a text given in successive parts; the tokens are those of the whole text.

    Windows of the text overlap. The tokens of one window end, and those of the next begin, at a
    place within the overlap where both have the same ALIKE tokens before and after it, at the same
    characters. Where there is no such place, as in a long run of one letter, the two windows are
    merged into one, which costs memory.
    """
    if not tokenizer.is_fast:  # it gives no character offsets
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
    """The token numbers, in two successive windows, of a place where both agree; None if nowhere.

    Of all such places in the overlap the one nearest to its middle is taken: at the ends of a
    window the tokens may differ from those within the text.
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
