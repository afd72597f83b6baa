"""Prompt-and-answer records as tokens: completions, preferences, ratings, prompts, samples.

The columns are those of TRL's dataset formats. Every record becomes one or two *rows* of tokens,
each a prompt followed by an answer: a preference has the row of its chosen answer before that of
the rejected one, a prompt has its reference as the answer, which may be empty, and a conversation
has a row for each turn of its assistant. A chat is rendered by the tokenizer's template. A prompt
and its answer are tokenised as one text; the answer begins at the first token that differs from
those of the prompt alone, as in TRL. The end-of-sequence token follows every answer, even an empty
one: without it an empty answer would have no token, hence log-probability 0, the highest there is.
Texts with labels or tags: see `fitness.data.labels`. A sample of a pool is its prompt and
completion, with an ending token only where the model generated one: a completion that was truncated
at its longest length, or that is followed by a suffix, does not end there, and training must not
teach it to.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fitness.data.chats import (
    ARGUMENTS,
    MESSAGES,
    arguments_in,
    chat_column,
    chat_in,
    rendered,
    text_or_chat,
)
from fitness.data.kinds import PAIRED, Kind, other_kind
from fitness.data.samples import sample_in
from fitness.data.tokens import separator, shared
from fitness.errors import InputError
from fitness.suggest import listed, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Rows of a record, by kind.
ROWS: Mapping[Kind, int] = {
    **dict.fromkeys(("completion", "rating", "prompt", "label", "tags", "sample"), 1),
    **dict.fromkeys(PAIRED, 2),
}
UNTAGGED = -100  # the tag of a token without one, which the loss ignores
COLUMNS = 4  # of the index: first token, first token of the answer, end, and the row's label
READ: Mapping[Kind, frozenset[str]] = {  # columns that are used; in chats also ARGUMENTS
    "completion": frozenset({"prompt", "completion", *MESSAGES}),
    **dict.fromkeys(PAIRED, frozenset({"prompt", "chosen", "rejected"})),
    "rating": frozenset({"prompt", "completion", "label"}),
    "prompt": frozenset({"prompt", "reference"}),
}
TORN_SHOWN = 12  # tokens of the example in a note
LABELS = {"true": True, "false": False, "1": True, "0": False}
Encode = Callable[[str], list[int]]


class Row(NamedTuple):
    """A prompt and its answer as tokens; or a text and the special tokens that close it.

    `label` is the number of a text's class; otherwise 1, or 0 for a rejected or badly rated answer.
    `torn` holds the last tokens of the prompt alone that change when the answer follows: because a
    token spans the end of the prompt and the beginning of the answer, or because the chat template
    ends a prompt differently, such as with an opened thought, when no answer follows yet. `tags`
    has the number of each token's tag, prompt and answer together, in a source of kind `tags`.
    """

    prompt: list[int]
    answer: list[int]
    label: int = 1
    torn: Sequence[int] = ()
    tags: Sequence[int] = ()


@dataclass(frozen=True)
class Records:
    """A source's rows: tokens, (n,), and the index, (rows, COLUMNS) int64; usually memory-mapped.

    Samples also have scores by name, (rows,) float64 each, NaN for an unknown one; sentences the
    number of each token's tag, (n,) int16, UNTAGGED for none.
    """

    kind: Kind
    tokens: np.ndarray
    index: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    tags: np.ndarray | None = None

    def prompt(self, row: int) -> np.ndarray:
        start, answer, _, _ = self.index[row]
        return self.tokens[start:answer]

    def answer(self, row: int) -> np.ndarray:
        _, answer, end, _ = self.index[row]
        return self.tokens[answer:end]

    def label(self, row: int) -> int:
        return int(self.index[row, 3])

    def truncated(self, row: int, length: int, longest: int = 0) -> tuple[np.ndarray, int]:
        """Truncate a row to `length` tokens, int64; also the number of tokens left of its prompt.

        A prompt that is too long loses its beginning, as it does in generation; an answer that
        leaves no room for a token of the prompt loses its end. `longest` is the length of the
        longest answer that is compared with this one after the same prompt, so that both keep the
        same part of the prompt: otherwise answers to different prompts would be compared.
        """
        prompt, answer = self.prompt(row), self.answer(row)
        room = max(length - max(longest, len(answer)), 1)
        kept = prompt[max(len(prompt) - room, 0) :]
        return np.concatenate([kept, answer[: length - len(kept)]]).astype(np.int64), len(kept)

    def alike(self, length: int) -> bool:
        """True where all answers have the same first `length` tokens."""
        first = self.answer(0)[:length]
        each = (self.answer(row)[:length] for row in range(1, len(self.index)))
        return all(np.array_equal(first, other) for other in each)

    def text(self, row: int, length: int) -> np.ndarray:
        """Truncate a text that has a class, or tags, at its end to `length` tokens, int64.

        The special tokens that close it, such as [SEP], stay.
        """
        return self._truncated_text(self.tokens, row, length)

    def tags_of(self, row: int, length: int) -> np.ndarray:
        """The tags of the tokens that `text` returns, int64."""
        if self.tags is None:
            raise TypeError(f"records of kind {self.kind} have no tags")
        return self._truncated_text(self.tags, row, length)

    def _truncated_text(self, values: np.ndarray, row: int, length: int) -> np.ndarray:
        start, closing, end, _ = self.index[row]
        room = max(length - int(end - closing), 0)
        kept = np.concatenate([values[start:closing][:room], values[closing:end]])
        return kept[:length].astype(np.int64)


def rows(
    record: Mapping[str, Any],
    kind: Kind,
    where: str,
    tokenizer: "PreTrainedTokenizerBase",
    encode: Encode,
    opening: list[int],
    *,
    last: bool = False,
) -> list[Row]:
    """The rows of one record; InputError, beginning with `where`, for a missing or wrong column.

    `encode` gives a text's tokens without special ones. A prompt that is text is preceded by the
    tokens `opening`; its answer is followed by the end-of-sequence token, unless its text ends with
    that. An empty prompt becomes the end-of-sequence token (of a text before), as in generation.
    Of a whole chat each turn of the assistant is a row, or the `last` one alone.
    """
    end = [separator(tokenizer)]
    closing_text = tokenizer.eos_token or tokenizer.sep_token

    def pair(prompt: Any, answer: Any, name: str) -> tuple[list[int], list[int]]:
        """The tokens of the prompt alone, and those of prompt and answer together."""
        if isinstance(prompt, str) and isinstance(answer, str):
            before = opening if opening or prompt else end
            ended = answer.endswith(closing_text) or absent(answer, name)
            closing = [] if ended else end
            return before + encode(prompt), before + encode(prompt + answer) + closing
        if not (isinstance(prompt, list) and (isinstance(answer, list) or absent(answer, name))):
            raise InputError(
                f"{where}: 'prompt' and {name!r} must both be text, or both lists of chat messages"
            )
        if not (answer or absent(answer, name)):
            raise InputError(
                f"{where}: {name!r} is an empty list; give it a message, if an empty one"
            )
        arguments = arguments_in(record, where)
        question = rendered(tokenizer, prompt, where, prompting=True, arguments=arguments)
        whole = question
        if answer:
            whole = rendered(tokenizer, [*prompt, *answer], where, arguments=arguments)
        if not whole.startswith(question):  # allowed to differ in the opening of an answer only
            plain = rendered(tokenizer, prompt, where, arguments=arguments)
            if not (question.startswith(plain) and whole.startswith(plain)):
                raise InputError(
                    f"{where}: the tokenizer's chat template renders the prompt differently when "
                    "its answer follows; give `prompt` and the rest as text"
                )
        before, tokens = encode(question), encode(whole)
        silent = answer and shared(before, tokens) == len(tokens)  # by the template
        return before, tokens + end if silent else tokens

    def absent(answer: Any, name: str) -> bool:
        """True for an empty reference: a prompt needs none."""
        return name == "reference" and not answer

    if kind == "sample":
        return [_sample_row(record, where, encode, opening, end)]
    column = chat_column(record)
    if kind == "completion" and "prompt" not in record and column:
        chat = chat_in(record, column, where)
        turns = [n for n, message in enumerate(chat) if n and message["role"] == "assistant"]
        if not turns:
            raise InputError(
                f"{where}: {column!r} must be a chat with an assistant's turn after another "
                "message; add one, or drop this record"
            )
        wanted = turns[-1:] if last else turns
        return [split(*pair(chat[:turn], chat[turn : turn + 1], column)) for turn in wanted]
    prompt = text_or_chat(record, "prompt", where, kind)
    if kind in PAIRED:
        names = ("chosen", "rejected")
        texts = [pair(prompt, text_or_chat(record, one, where, kind), one) for one in names]
        first = min(shared(*one) for one in texts)  # so that both rows have the same prompt
        return [split(*one, label, first) for one, label in zip(texts, (1, 0), strict=True)]
    if kind == "prompt":
        answer = text_or_chat(record, "reference", where, kind) if record.get("reference") else ""
        row = split(*pair(prompt, answer, "reference"))
        if not row.torn:
            return [row]
        # Generation continues the prompt alone, so its own tokens are kept.
        return [Row(pair(prompt, "", "reference")[0], row.answer)]
    label = 1 if kind != "rating" else int(_rated(record, where, kind))
    return [
        split(*pair(prompt, text_or_chat(record, "completion", where, kind), "completion"), label)
    ]


def is_chat(record: Mapping[str, Any]) -> bool:
    """True for a record of chat messages, which a chat template renders."""
    return isinstance(record.get("prompt", []), list)


def unread(record: Mapping[str, Any], kind: Kind) -> list[str]:
    """The columns of a record that have a value and are not used."""
    if kind not in READ:
        return []
    read = READ[kind].union(ARGUMENTS) if is_chat(record) else READ[kind]
    return [name for name, value in record.items() if name not in read and value is not None]


def notes_of(ignored: Collection[str]) -> list[str]:
    """The note on ignored columns, if there are any."""
    if not ignored:
        return []
    named = f"columns {listed(ignored)} are" if len(ignored) > 1 else f"column {listed(ignored)} is"
    return [f"its {named} not read"]


def torn_note(
    torn: Mapping[int, bool], first: Row, records: int, tokenizer: "PreTrainedTokenizerBase"
) -> str:
    """The note on prompts that end differently in training than in generation.

    `torn` has the number of each such record, and whether it is a chat; `first` is the first row.
    """
    remedies = {
        True: "If the chat template adds it, such as an opened thought, begin the answers with it, "
        'or turn it off in `chat_template_kwargs`, such as {"enable_thinking": false}',
        False: "If it is a space at the end of a text, move it to the beginning of the answer",
    }
    given = ". ".join(text for chat, text in remedies.items() if chat in torn.values())
    example = next(iter(torn))
    ends = (tokenizer.decode(list(part)[:TORN_SHOWN]) for part in (first.torn, first.answer))
    alone, learned = map(shortened, ends)
    return (
        f"in {len(torn):,} of its {records:,} records a prompt ends differently in generation than "
        f"in training: record {example:,}, for example, ends in {alone} when the model is to "
        f"answer it, but in training its answer begins with {learned} instead. The model would "
        f"learn to answer without that end, and then be given prompts that have it. {given}"
    )


def split(prompt: list[int], whole: list[int], label: int = 1, first: int | None = None) -> Row:
    """Split the tokens of prompt and answer together at token `first`, where the answer begins."""
    first = shared(prompt, whole) if first is None else first
    return Row(whole[:first], whole[first:], label, prompt[first:])


def _sample_row(
    record: Mapping[str, Any], where: str, encode: Encode, opening: list[int], end: list[int]
) -> Row:
    sample = sample_in(record, where)
    prompt, whole = encode(sample.prompt), encode(sample.prompt + sample.completion)
    if prompt[: len(opening)] == opening:  # already there, from the chat template
        opening = []
    if sample.ended and not sample.suffix:
        whole += encode(sample.end) or end
    row = split(opening + prompt, opening + whole)
    # Generation from an empty prompt begins after the end of another text.
    return row if row.prompt else row._replace(prompt=end)


def _rated(record: Mapping[str, Any], where: str, kind: Kind) -> bool:
    label = record.get("label")
    if isinstance(label, str):  # from CSV
        label = LABELS.get(label.strip().lower(), label)
    if label is True or label is False or (label in (0, 1) and not isinstance(label, float)):
        return bool(label)
    got = shortened(label, 40) if "label" in record else f"none among {listed(record)}"
    other = other_kind(record, kind) if "label" not in record else ""
    raise InputError(
        f"{where}: 'label' must be true (good) or false, got {got}{other and '; '}{other}"
    )
