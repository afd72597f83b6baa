"""Chat records: messages normalised to the form that chat templates expect, then rendered as text.

Also accepted: contents as lists of text parts, a tool call without content, and the messages of
ShareGPT {from, value}. The columns that change the rendered text, `tools` and
`chat_template_kwargs`, are passed to the template as TRL passes them.

Tokens are made of that text in `records`, for training, and in `prompts`, for answers.
"""

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from fitness.data.formats import text_in, whole_characters
from fitness.errors import InputError
from fitness.suggest import listed, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fitness.data.kinds import Kind

Chat = Sequence[Mapping[str, Any]]

MESSAGES = ("messages", "conversations")  # columns that hold a whole chat; the latter is ShareGPT's
ARGUMENTS = ("tools", "chat_template_kwargs")  # columns that change the rendered text
ROLES = {  # of ShareGPT's messages
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "observation": "tool",
    "tool": "tool",
}
EXAMPLE = '{"role": "user", "content": "..."}'


def text_or_chat(
    record: Mapping[str, Any], column: str, where: str, kind: "Kind | None" = None
) -> Any:
    """Text, or a list of messages; InputError, beginning with `where`, for anything else."""
    value = record.get(column)
    if isinstance(value, list):
        return [_message(one, column, where) for one in value]
    text = text_in(record, column, where, kind, wanted="text, or a list of chat messages")
    if _is_chat(text):
        raise InputError(
            f"{where}: {column!r} is a string that holds JSON, {shortened(text)}; write the list "
            "of messages itself, without quotes around it"
        )
    return text


def chat_column(record: Mapping[str, Any]) -> str | None:
    """The first of MESSAGES that a record has, which holds its whole chat."""
    return next((name for name in MESSAGES if name in record), None)


def chat_in(record: Mapping[str, Any], column: str, where: str) -> Chat:
    """The whole chat of a record under its column."""
    value = record[column]
    if isinstance(value, str):
        raise InputError(
            f"{where}: {column!r} is a string, {shortened(value)}; write the list of messages "
            "itself, without quotes around it"
        )
    if not isinstance(value, list):
        raise InputError(
            f"{where}: {column!r} is {shortened(value)}; it must be a list of messages like "
            f"{EXAMPLE}: drop this record, or give it one"
        )
    return [_message(one, column, where) for one in value]


def arguments_in(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A record's arguments for the chat template beside its messages, as `rendered` takes them."""
    tools = record.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where}: 'tools' is a string that is not JSON ({error}); write the list of tools"
            ) from error
    good = tools is None or (
        isinstance(tools, list) and all(isinstance(one, Mapping) for one in tools)
    )
    if not good:
        raise InputError(
            f"{where}: 'tools' is {shortened(tools)}; it must be a list of JSON Schemas of "
            "functions, or left out"
        )
    own = record.get("chat_template_kwargs") or {}
    if not isinstance(own, Mapping):
        raise InputError(
            f"{where}: 'chat_template_kwargs' is {shortened(own)}; it must be an object such as "
            '{"enable_thinking": false}, or left out'
        )
    return {"tools": tools, **own}


def rendered(
    tokenizer: "PreTrainedTokenizerBase",
    chat: Chat,
    where: str,
    *,
    prompting: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> str:
    """A chat as text by the tokenizer's template; with `prompting`, the opening of an answer too.

    Raises InputError, beginning with `where`, if there is no template or it refuses the chat.
    """
    if tokenizer.chat_template is None:
        raise InputError(
            f"{where}: holds chat messages, and the base model's tokenizer has no chat template; "
            "give text instead, or a tokenizer that has one"
        )
    own = dict(arguments or {})
    if reserved := sorted(own.keys() & _parameters(tokenizer)):
        raise InputError(
            f"{where}: 'chat_template_kwargs' holds {listed(reserved)}, which no template reads; "
            "leave it out"
        )

    def by_template(messages: Chat) -> Any:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=prompting, **own
        )

    try:
        try:
            text = by_template(chat)
        except Exception:  # some templates read the content of every message, even of a tool call
            if all("content" in message for message in chat):
                raise
            text = by_template(
                [{**message, "content": message.get("content", "")} for message in chat]
            )
    except Exception as error:  # whatever the template raises about the messages it is given
        raise InputError(
            f"{where}: the chat template refuses it: {shortened(error, 400)}"
        ) from error
    return whole_characters(str(text), f"{where}: the chat")


def _parameters(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    """The parameters of `apply_chat_template` itself, except those that TRL passes on."""
    return {*signature(tokenizer.apply_chat_template).parameters} - {"tools", "documents", "kwargs"}


def _message(given: Any, column: str, where: str) -> dict[str, Any]:
    """A message as templates expect it; a null value counts as a missing key."""
    if not isinstance(given, Mapping):
        raise InputError(
            f"{where}: {column!r} must hold messages like {EXAMPLE}, got {shortened(given)}"
        )
    message = {name: value for name, value in given.items() if value is not None}
    if "role" not in message and "from" in message:
        message = _from_sharegpt(message, column, where)
    if not isinstance(message.get("role"), str):
        raise InputError(
            f"{where}: {column!r} must hold messages like {EXAMPLE}, got {shortened(given)}"
        )
    if "content" in message:
        message["content"] = _content(message["content"], column, where)
    elif not message.get("tool_calls"):
        raise InputError(
            f"{where}: {column!r} must hold messages like {EXAMPLE}, got {shortened(given)}; only "
            "one with 'tool_calls' may lack its content"
        )
    return message


def _from_sharegpt(message: Mapping[str, Any], column: str, where: str) -> dict[str, Any]:
    """A ShareGPT message {from, value} as {role, content}. Raises InputError for unknown roles."""
    others = {name: value for name, value in message.items() if name not in ("from", "value")}
    name = message["from"]
    if name not in ROLES:
        raise InputError(
            f"{where}: {column!r} has a message from {shortened(name)}; those from "
            f"{listed(ROLES)} are read, any other must be written with 'role' and 'content', a "
            "call as the 'tool_calls' of an assistant"
        )
    return {"role": ROLES[name], "content": message.get("value", ""), **others}


def _content(content: Any, column: str, where: str) -> str:
    """The text of a message's content; the parts of a list of text parts are joined."""
    texts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        is_part = isinstance(part, Mapping) and part.get("type", "text") == "text"
        text = part.get("text") if is_part else part
        if not isinstance(text, str):
            raise InputError(
                f"{where}: {column!r} has the content {shortened(part)}; it must be text, or a "
                'list of parts like {"type": "text", "text": "..."}: only text models are trained'
            )
        texts.append(text)
    return "".join(texts)


def _is_chat(text: str) -> bool:
    """True where a text is the JSON of a list of messages."""
    if not text.lstrip().startswith("["):
        return False
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, list) and any(
        isinstance(message, dict) and {"role", "from"} & message.keys() for message in content
    )
