"""Records that pose something and answer it: prompts, completions, preferences, ratings.

The columns are those of TRL's dataset formats. Whatever the kind, a record comes to one or two
*rows* of tokens, each a prompt and what answers it: a preference has the chosen one's row before
the rejected one's, a prompt has its reference as the answer, which may be empty, and a conversation
is a record for each of its assistant's turns. A chat is rendered by the tokenizer's template. A
prompt and its answer are tokenised as one text, and the answer begins at the first token that the
prompt alone has not there, as with TRL. Behind every answer stands the token that ends it, an empty
one too: without it, an empty answer would have no token, and be certain. Texts with labels: see
`fitness.data.labels`. A sample of a pool is its completion after its prompt, with the token that
ended it only where the model had done so: one that was cut at its longest length, or that stands
before a suffix, does not end there, and must not teach to.
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
from fitness.data.kinds import Kind, other_kind
from fitness.data.samples import sample_in
from fitness.data.tokens import shared
from fitness.errors import InputError
from fitness.suggest import listed, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of a record.
ROWS = {"completion": 1, "preference": 2, "rating": 1, "prompt": 1, "label": 1, "sample": 1}
COLUMNS = 4  # of the index: first token, first token of the answer, end, and the row's label
READ: Mapping[Kind, frozenset[str]] = {  # columns; those of a chat template beside, where it is one
    "completion": frozenset({"prompt", "completion", *MESSAGES}),
    "preference": frozenset({"prompt", "chosen", "rejected"}),
    "rating": frozenset({"prompt", "completion", "label"}),
    "prompt": frozenset({"prompt", "reference"}),
}
TORN_SHOWN = 12  # tokens of an example
LABELS = {"true": True, "false": False, "1": True, "0": False}
Encode = Callable[[str], list[int]]


class Row(NamedTuple):
    """A prompt and what answers it, as tokens; or a text and the special tokens that close it.

    `label` is the number of a text's class, and else 1, or 0 for what is rejected or rated so.
    `torn` is the last tokens of the prompt alone that are others where the answer follows: a token
    holds the end of the one and the beginning of the other, or the template writes the end of a
    prompt, such as an opened thought, otherwise than before an answer.
    """

    prompt: list[int]
    answer: list[int]
    label: int = 1
    torn: Sequence[int] = ()


@dataclass(frozen=True)
class Records:
    """A source's rows: tokens, (n,), and the index, (rows, COLUMNS) int64; usually mapped.

    Of samples, their scores by name, (rows,) float64 each, NaN where one could not be told.
    """

    kind: Kind
    tokens: np.ndarray
    index: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)

    def prompt(self, row: int) -> np.ndarray:
        start, answer, _, _ = self.index[row]
        return self.tokens[start:answer]

    def answer(self, row: int) -> np.ndarray:
        _, answer, end, _ = self.index[row]
        return self.tokens[answer:end]

    def label(self, row: int) -> int:
        return int(self.index[row, 3])

    def cut(self, row: int, length: int, longest: int = 0) -> tuple[np.ndarray, int]:
        """At most `length` of a row's tokens, int64, and how many of them are the prompt's.

        A prompt that is too long loses its beginning, as it does in generation; an answer that
        leaves no room for a token of the prompt loses its end. `longest` is the length of the
        longest answer that is compared with this one after the same prompt, so that both keep the
        same part of it: another prompt's answers would be compared otherwise.
        """
        prompt, answer = self.prompt(row), self.answer(row)
        room = max(length - max(longest, len(answer)), 1)
        kept = prompt[max(len(prompt) - room, 0) :]
        return np.concatenate([kept, answer[: length - len(kept)]]).astype(np.int64), len(kept)

    def alike(self, length: int) -> bool:
        """Whether all answers are one and the same in their first `length` tokens."""
        first = self.answer(0)[:length]
        each = (self.answer(row)[:length] for row in range(1, len(self.index)))
        return all(np.array_equal(first, other) for other in each)

    def text(self, row: int, length: int) -> np.ndarray:
        """At most `length` tokens of a text that has a class, int64: it loses its end.

        What closes it, such as [SEP], is kept.
        """
        text, closing = self.prompt(row), self.answer(row)
        room = max(length - len(closing), 0)
        return np.concatenate([text[:room], closing])[:length].astype(np.int64)


def rows(
    record: Mapping[str, Any],
    kind: Kind,
    where: str,
    tokenizer: "PreTrainedTokenizerBase",
    encode: Encode,
    opening: list[int],
) -> list[Row]:
    """The rows of one record; InputError, beginning with `where`, for what it lacks.

    `encode` gives a text's tokens without special ones; `opening` stands before a prompt that is
    text, the end-of-sequence token behind what answers it unless the answer writes that itself.
    Before an empty prompt stands the end of another text, as in generation.
    """
    end = [tokenizer.eos_token_id]

    def pair(prompt: Any, answer: Any, name: str) -> tuple[list[int], list[int]]:
        """The tokens of a prompt alone, and those of a prompt with what answers it."""
        if isinstance(prompt, str) and isinstance(answer, str):
            before = opening if opening or prompt else end
            ended = answer.endswith(tokenizer.eos_token) or absent(answer, name)
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
        asked = rendered(tokenizer, prompt, where, prompting=True, arguments=arguments)
        whole = asked
        if answer:
            whole = rendered(tokenizer, [*prompt, *answer], where, arguments=arguments)
        if not whole.startswith(asked):  # but for the end that asks for an answer, they are alike
            plain = rendered(tokenizer, prompt, where, arguments=arguments)
            if not (asked.startswith(plain) and whole.startswith(plain)):
                raise InputError(
                    f"{where}: by the tokenizer's chat template, what answers a prompt does not "
                    "simply follow it; give `prompt` and the rest as text"
                )
        before, tokens = encode(asked), encode(whole)
        silent = answer and shared(before, tokens) == len(tokens)  # by the template
        return before, tokens + end if silent else tokens

    def absent(answer: Any, name: str) -> bool:
        """Whether there is no answer: a prompt needs no reference."""
        return name == "reference" and not answer

    if kind == "sample":
        return [_sample_row(record, where, encode, opening, end)]
    column = chat_column(record)
    if kind == "completion" and "prompt" not in record and column:
        chat = chat_in(record, column, where)
        turns = [n for n, message in enumerate(chat) if n and message["role"] == "assistant"]
        if not turns:
            raise InputError(
                f"{where}: {column!r} must be a chat with an assistant's turn in it that answers "
                "something; add one, or drop this record"
            )
        return [split(*pair(chat[:turn], chat[turn : turn + 1], column)) for turn in turns]
    prompt = text_or_chat(record, "prompt", where, kind)
    if kind == "preference":
        names = ("chosen", "rejected")
        texts = [pair(prompt, text_or_chat(record, one, where, kind), one) for one in names]
        first = min(shared(*one) for one in texts)  # one prompt to both
        return [split(*one, label, first) for one, label in zip(texts, (1, 0), strict=True)]
    if kind == "prompt":
        answer = text_or_chat(record, "reference", where, kind) if record.get("reference") else ""
        row = split(*pair(prompt, answer, "reference"))
        if not row.torn:
            return [row]
        # A prompt that is sampled from stays as it is.
        return [Row(pair(prompt, "", "reference")[0], row.answer)]
    label = 1 if kind != "rating" else int(_rated(record, where, kind))
    return [
        split(*pair(prompt, text_or_chat(record, "completion", where, kind), "completion"), label)
    ]


def unread(record: Mapping[str, Any], kind: Kind) -> list[str]:
    """The columns that hold something and that nothing is made of."""
    if kind not in READ:
        return []
    chat = isinstance(record.get("prompt", []), list)
    read = READ[kind].union(ARGUMENTS) if chat else READ[kind]
    return [name for name, value in record.items() if name not in read and value is not None]


def notes_of(ignored: Collection[str]) -> list[str]:
    """The note on columns that nothing reads, if there are any."""
    if not ignored:
        return []
    named = f"columns {listed(ignored)} are" if len(ignored) > 1 else f"column {listed(ignored)} is"
    return [f"its {named} not read"]


def torn_note(
    torn: Sequence[int], first: Row, records: int, tokenizer: "PreTrainedTokenizerBase"
) -> str:
    """The note on prompts whose end is not learned from.

    `torn` has the numbers of the records that have one, `first` is the first such row.
    """
    ends = (tokenizer.decode(list(part)[:TORN_SHOWN]) for part in (first.torn, first.answer))
    alone, learned = map(shortened, ends)
    return (
        f"in {len(torn):,} of its {records:,} records a prompt ends otherwise when the model is to "
        f"answer it than where its answer follows: in record {torn[0]:,}, for example, in {alone}, "
        f"but what follows it there is {learned}. The model learns to answer without that end, "
        "and will be given prompts that have it. If the chat template writes it, such as an opened "
        "thought, begin the answers with it, or turn it off in `chat_template_kwargs`, such as "
        '{"enable_thinking": false}; if it is a space at the end of a text, move it to the '
        "beginning of the answer"
    )


def split(prompt: list[int], whole: list[int], label: int = 1, first: int | None = None) -> Row:
    """The row of a whole from a prompt's tokens alone; its answer begins at token `first`."""
    first = shared(prompt, whole) if first is None else first
    return Row(whole[:first], whole[first:], label, prompt[first:])


def _sample_row(
    record: Mapping[str, Any], where: str, encode: Encode, opening: list[int], end: list[int]
) -> Row:
    sample = sample_in(record, where)
    asked, whole = encode(sample.prompt), encode(sample.prompt + sample.completion)
    if asked[: len(opening)] == opening:  # by the chat template that wrote the prompt
        opening = []
    if sample.ended and not sample.suffix:
        whole += encode(sample.end) or end
    row = split(opening + asked, opening + whole)
    # A prompt of nothing is generated from after the end of another text.
    return row if row.prompt else row._replace(prompt=end)


def _rated(record: Mapping[str, Any], where: str, kind: Kind) -> bool:
    label = record.get("label")
    if isinstance(label, str):  # as CSV has them
        label = LABELS.get(label.strip().lower(), label)
    if label is True or label is False or (label in (0, 1) and not isinstance(label, float)):
        return bool(label)
    told = shortened(label, 40) if "label" in record else f"none among {listed(record)}"
    other = other_kind(record, kind) if "label" not in record else ""
    raise InputError(
        f"{where}: 'label' must be true (good) or false, got {told}{other and '; '}{other}"
    )
