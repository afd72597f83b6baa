"""Chats in records: the accepted forms, and the errors for unusable ones."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fitness.data.documents import Source, records
from fitness.data.prompts import PromptSet, read_prompts
from fitness.data.records import Records, rows
from fitness.data.sources import TokenFile, tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.data.tokens import text_tokens
from fitness.errors import InputError
from fitness.inference.sampling import encoded_prompts
from tests.fitness.quickstart import MODEL
from tests.oracles.tokenizers import OPENS_THINKING, TEMPLATE, tokenizer_of

CASES = Path(__file__).parents[2] / "cases" / "chats"
STRICT = TEMPLATE.replace("{{ message.content }}", "{{ '' + message.content }}")
CALL = '{"name": "weather", "arguments": {"city": "Rome"}}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer_of("byte").save_pretrained(path)
    return path


def tokenised(path: Path, tokenizer: Path, cache: Path, **settings: Any) -> TokenFile:
    settings.setdefault("kind", "completion")
    return tokenise("sources.a", Source(path=str(path), **settings), cache, tokenizer, cache)


def texts(path: Path, tokenizer: Path, cache: Path, **settings: Any) -> list[tuple[str, str]]:
    """Prompt and answer of each row, as text."""
    found = tokenised(path, tokenizer, cache, **settings).open()
    assert isinstance(found, Records)
    decode = load_tokenizer(tokenizer).decode
    return [(decode(found.prompt(n)), decode(found.answer(n))) for n in range(len(found.index))]


def test_text_parts_are_one_text_and_sharegpt_is_a_chat(folder: Path, tmp_path: Path) -> None:
    expected = [("[user]\nHi<|end|>\n[assistant]\n", "Hello<|end|>\n")]
    for name in ("parts.jsonl", "share.jsonl", "kwargs.jsonl"):
        prompt, answer = texts(CASES / name, folder, tmp_path)[0]
        if name == "kwargs.jsonl":
            assert (prompt, answer) == (expected[0][0], "Hello<|end|>\n")
        else:
            assert [(prompt, answer)] == expected


def test_tools_stand_where_the_template_writes_them(folder: Path, tmp_path: Path) -> None:
    ((prompt, answer),) = texts(CASES / "tools.jsonl", folder, tmp_path)

    assert prompt.startswith('<{"type": "function", "function": {"name": "weather"')
    assert answer == f"{CALL}<|end|>\n"


@pytest.mark.parametrize("template", [TEMPLATE, STRICT])
def test_a_call_needs_no_content(template: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("byte")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path / "tokenizer")

    ((_, answer),) = texts(CASES / "nokey.jsonl", tmp_path / "tokenizer", tmp_path)

    assert answer == f"{CALL}<|end|>\n"


def test_what_arrow_added_to_a_message_is_not_learned(folder: Path, tmp_path: Path) -> None:
    (_, plain), (_, call) = texts(CASES / "in_parquet.parquet", folder, tmp_path)
    (_, rome), (_, add) = texts(CASES / "args_parquet.parquet", folder, tmp_path)

    assert plain == "Hello<|end|>\n"
    assert call == rome == f"{CALL}<|end|>\n"
    assert add == '{"name": "add", "arguments": {"a": 1, "b": 1}}<|end|>\n'
    first, _ = (
        one for _, one in records(Source(path="in_parquet.parquet", kind="completion"), CASES)
    )
    assert all("tool_calls" not in message for message in first["messages"])


CHAT = '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]'
FUNCTION = '[{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "{}"}]'
IMAGE = '[{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "a"}]'


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("string.jsonl", r"string\.jsonl:1: 'messages' is a string, .*; write the list"),
        ("half.jsonl", r"half\.jsonl:1: the chat holds half a surrogate pair at character"),
        ("nullm.jsonl", r"nullm\.jsonl:2: 'messages' is None; it must be a list of messages"),
        ('{"messages": {"role": "user"}}', r"a\.jsonl:1: 'messages' is \{'role'"),
        ('{"messages": []}', r"'messages' must be a chat with an assistant's turn"),
        ('{"conversations": []}', r"'conversations' must be a chat with an assistant's turn"),
        (
            '{"conversations": [{"from": "human", "value": "a"}]}',
            r"'conversations' must be a chat with an assistant's turn",
        ),
        ('{"messages": ["Hi"]}', r"must hold messages like .*, got 'Hi'"),
        ('{"messages": [null]}', r"must hold messages like .*, got None"),
        ('{"messages": [{"role": 3, "content": "a"}]}', r"must hold messages like"),
        ('{"messages": [{"role": "assistant"}]}', r"only one with 'tool_calls' may lack"),
        (f'{{"messages": {IMAGE}}}', r"has the content \{'type': 'image'\}; it must be text"),
        (f'{{"conversations": {FUNCTION}}}', r"has a message from 'function_call'; those from"),
        ('{"prompt": "a", "completion": "\\ud83d"}', r"'completion' holds half a surrogate"),
        (f'{{"prompt": {json.dumps(CHAT)}, "completion": "b"}}', r"'prompt' is a string that hold"),
        (f'{{"messages": {CHAT}, "tools": "no"}}', r"'tools' is a string that is not JSON"),
        (f'{{"messages": {CHAT}, "tools": {{"a": 1}}}}', r"'tools' is .*; it must be a list of"),
        (f'{{"messages": {CHAT}, "tools": [3]}}', r"'tools' is \[3\]; it must be a list of"),
        (f'{{"messages": {CHAT}, "chat_template_kwargs": 3}}', r"kwargs' is 3; it must be an obj"),
        (
            f'{{"messages": {CHAT}, "chat_template_kwargs": {{"tokenize": true}}}}',
            r"holds 'tokenize', which no template reads",
        ),
    ],
)
@pytest.mark.parametrize("halves", [(None,), ("selection", "test")])
def test_a_chat_that_cannot_be_used_is_told_with_file_line_and_remedy(
    case: str, message: str, halves: tuple[Any, ...], folder: Path, tmp_path: Path
) -> None:
    path = CASES / case if case.endswith("jsonl") else tmp_path / "a.jsonl"
    if not path.exists():
        path.write_text(case)
    source = Source(path=str(path), kind="completion")

    told = ""
    for half in halves:
        with pytest.raises(InputError) as caught:
            tokenise("sources.a", source, tmp_path, folder, tmp_path, half=half)
        told += str(caught.value)
    assert re.search(message, told)
    assert len(told) < 800


def test_a_generation_prompt_that_opens_thinking_is_noted(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("byte")
    tokenizer.chat_template = OPENS_THINKING
    tokenizer.save_pretrained(tmp_path / "tokenizer")

    found = tokenised(CASES / "think2.jsonl", tmp_path / "tokenizer", tmp_path)

    (note,) = found.notes
    assert note.startswith("in 1 of its 1 records a prompt ends differently")
    assert r"record 1, for example, ends in '<think>\n' when" in note
    assert "begins with 'Hello" in note
    assert "chat_template_kwargs" in note
    assert "space" not in note


def test_a_space_at_the_end_of_a_text_is_noted_without_a_word_of_templates(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "The answer is ", "completion": "the file"}\n' * 2)

    (note,) = tokenised(path, MODEL, tmp_path).notes

    assert note.startswith("in 2 of its 2 records a prompt ends differently")
    assert note.endswith("a space at the end of a text, move it to the beginning of the answer")
    assert "template" not in note


def test_a_template_that_writes_a_prompt_otherwise_with_an_answer_is_refused() -> None:
    tokenizer = tokenizer_of("byte")
    tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )

    with pytest.raises(InputError, match=r"x:1: .*chat template.* give `prompt`"):
        rows(
            {"messages": json.loads(CHAT)},
            "completion",
            "x:1",
            tokenizer,
            lambda text: text_tokens(tokenizer, text),
            [],
        )


def test_columns_that_nothing_reads_are_named_once(folder: Path, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"prompt": "a", "completion": "b", "id": n, "tools": [], "empty": None} for n in range(9)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):  # from the cache as well
        assert tokenised(path, folder, tmp_path).notes == (
            "its columns 'id', 'tools' are not read",
        )
    path.write_text(json.dumps({"prompt": "a", "reference": "b", "level": 3}))
    prompts = PromptSet(selection=str(path), test=str(path))
    assert read_prompts("a", str(path), prompts, folder).notes == (
        "its column 'level' is not read",
    )


@pytest.mark.parametrize("kind", ["byte", "legacy", "metaspace", "gemma"])
@pytest.mark.parametrize("writes_bos", [True, False])
def test_a_prompt_is_generated_from_as_it_is_learned(
    kind: str, writes_bos: bool, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(kind)
    if not writes_bos:
        tokenizer.chat_template = TEMPLATE.replace("{{ bos_token or '' }}", "")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    chat, answer = json.loads(CHAT)[:1], json.loads(CHAT)[1:]
    path = tmp_path / "a.jsonl"
    lines = [
        {"prompt": chat, "completion": answer, "reference": "b"},
        {"prompt": "What?", "completion": " That.", "reference": "b"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = PromptSet(selection=str(path), test=str(path))

    asked = read_prompts("a", str(path), settings, tmp_path / "tokenizer").prompts
    unlimited: Any = SimpleNamespace(config=SimpleNamespace(get_text_config=SimpleNamespace))
    encoded = encoded_prompts(unlimited, load_tokenizer(tmp_path / "tokenizer"), asked, 4)

    learned = tokenised(path, tmp_path / "tokenizer", tmp_path).open()
    assert isinstance(learned, Records)
    assert [learned.prompt(n).tolist() for n in range(2)] == encoded
