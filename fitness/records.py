"""Records that pose something and answer it: prompts, completions, preferences, ratings.

The columns are those of TRL's dataset formats. Whatever the kind, a record comes to one or two
*rows* of tokens, each a prompt and what answers it: a preference has the chosen one's row before
the rejected one's, a prompt has its reference as the answer, which may be empty, and a conversation
is a record for each of its assistant's turns. A chat is rendered by the tokenizer's template. Texts
with labels: see `fitness.labels`. A sample of a pool is its completion after its
prompt, with the end of the sequence behind it only where the model had ended it: one that was cut
at its longest length, or that stands before a suffix, does not end there, and must not teach to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fitness.documents import Kind
from fitness.errors import InputError
from fitness.feedback.samples import sample_in
from fitness.formats import text_in
from fitness.suggest import listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of a record.
ROWS = {"completion": 1, "preference": 2, "rating": 1, "prompt": 1, "label": 1, "sample": 1}
COLUMNS = 4  # of the index: first token, first token of the answer, end, and the row's label
Chat = Sequence[Mapping[str, Any]]
Encode = Callable[[str], list[int]]


class Row(NamedTuple):
    """A prompt and what answers it, as tokens; or a text and the special tokens that close it.

    `label` is the number of a text's class, and else 1, or 0 for what is rejected or rated so.
    """

    prompt: list[int]
    answer: list[int]
    label: int = 1


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

    def kept(self, length: int) -> tuple[int, int, float]:
        """Records in all, those cut to `length` tokens, and the share of their tokens left.

        The two rows of a preference are one record. `text` cuts as many tokens.
        """
        sizes = self.index[:, 2] - self.index[:, 0]  # (rows,) tokens
        if self.kind == "preference":
            prompts = self.index[:, 1] - self.index[:, 0]
            answers = sizes - prompts
            longest = answers.reshape(-1, 2).max(axis=1).repeat(2)
            prompts = np.minimum(prompts, np.maximum(length - longest, 1))
            left = prompts + np.minimum(answers, length - prompts)
            sizes, left = (one.reshape(-1, 2).sum(axis=1) for one in (sizes, left))
        else:
            left = np.minimum(sizes, length)
        cut = left < sizes
        return len(sizes), int(cut.sum()), float(left[cut].sum() / max(1, sizes[cut].sum()))

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
) -> Iterator[Row]:
    """The rows of one record; InputError, beginning with `where`, for what it lacks.

    `encode` gives a text's tokens without special ones; `opening` stands before a prompt that is
    text, the end-of-sequence token behind what answers it.
    """

    def row(prompt: Any, answer: Any, name: str, label: int = 1) -> Row:
        if isinstance(prompt, str) and isinstance(answer, str):
            end = [tokenizer.eos_token_id] if answer else []
            return Row(opening + encode(prompt), encode(answer) + end, label)
        if isinstance(prompt, str) or (isinstance(answer, str) and answer):
            raise InputError(
                f"{where}: 'prompt' and {name!r} must both be text, or both lists of chat messages"
            )
        asked = rendered(tokenizer, prompt, where, prompting=True)
        whole = rendered(tokenizer, [*prompt, *answer], where) if answer else asked
        if not whole.startswith(asked):
            raise InputError(
                f"{where}: by the tokenizer's chat template, what answers a prompt does not simply "
                "follow it; give `prompt` and the rest as text"
            )
        return Row(encode(asked), encode(whole[len(asked) :]), label)

    if kind == "sample":
        sample = sample_in(record, where)
        end = [tokenizer.eos_token_id]
        prompt = opening + encode(sample.prompt) or end  # as a prompt of nothing is generated from
        closed = sample.ended and not sample.suffix
        yield Row(prompt, encode(sample.completion) + (end if closed else []))
        return
    if kind == "completion" and "messages" in record and "prompt" not in record:
        chat = text_or_chat(record, "messages", where)
        turns = [n for n, message in enumerate(chat) if n and message["role"] == "assistant"]
        if isinstance(chat, str) or not turns:
            raise InputError(f"{where}: 'messages' must be a chat with an assistant's turn in it")
        for turn in turns:
            yield row(chat[:turn], chat[turn : turn + 1], "messages")
        return
    prompt = text_or_chat(record, "prompt", where)
    if kind == "preference":
        yield row(prompt, text_or_chat(record, "chosen", where), "chosen")
        yield row(prompt, text_or_chat(record, "rejected", where), "rejected", 0)
    elif kind == "prompt":
        answer = text_or_chat(record, "reference", where) if record.get("reference") else ""
        yield row(prompt, answer, "reference")
    else:
        label = 1 if kind != "rating" else int(_rated(record, where))
        yield row(prompt, text_or_chat(record, "completion", where), "completion", label)


def text_or_chat(record: Mapping[str, Any], column: str, where: str) -> Any:
    """Text, or a list of messages."""
    value = record.get(column)
    if not isinstance(value, list):
        return text_in(record, column, where)
    for message in value:
        known = isinstance(message, Mapping) and isinstance(message.get("role"), str)
        if not known or not isinstance(message.get("content"), str):
            raise InputError(
                f"{where}: {column!r} must hold messages like "
                f'{{"role": "user", "content": "..."}}, got {message!r:.60}'
            )
    return value


def _rated(record: Mapping[str, Any], where: str) -> bool:
    label = record.get("label")
    if label is True or label is False or (label in (0, 1) and not isinstance(label, float)):
        return bool(label)
    told = f"{label!r:.40}" if "label" in record else f"none among {listed(record)}"
    raise InputError(f"{where}: 'label' must be true (good) or false, got {told}")


def rendered(
    tokenizer: "PreTrainedTokenizerBase", chat: Chat, where: str, *, prompting: bool = False
) -> str:
    """A chat as text by the tokenizer's template, if `prompting` with what the answer begins with.

    Raises InputError, beginning with `where`, if there is no template or it refuses the chat.
    """
    if tokenizer.chat_template is None:
        raise InputError(
            f"{where}: holds chat messages, and the base model's tokenizer has no chat template; "
            "give text instead, or a tokenizer that has one"
        )
    try:
        text = tokenizer.apply_chat_template(
            list(chat), tokenize=False, add_generation_prompt=prompting
        )
    except Exception as error:  # whatever the template raises about the messages it is given
        raise InputError(f"{where}: the chat template refuses it: {error}") from error
    return str(text)
