"""Tokens of records and texts held against TRL's, token by token."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from fitness.data.documents import PIECE_CHARACTERS, Source
from fitness.data.records import Records
from fitness.data.samples import Sample
from fitness.data.sources import TokenFile, tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.inference.likelihood import _tokens
from fitness.inference.sampling import decoded
from fitness.samples.passages import seen
from tests.fitness.quickstart import tokens_of
from tests.oracles.tokenizers import KINDS, OPENS_THINKING, TEXTS, tokenizer_of

CASES = Path(__file__).parents[1] / "cases" / "chats"
Pair = tuple[list[int], list[int]]
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of France?"},
]
ANSWER = {"role": "assistant", "content": "Paris, of course."}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def of_file(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / name).read_text().splitlines()]


TOLD: list[dict[str, Any]] = [
    {"prompt": "Question: what is late?", "completion": " The dog, of course."},
    {"prompt": "Question: what is late? ", "completion": "The dog"},
    {"prompt": "Hello\n", "completion": "there\n"},
    {"prompt": "the qui", "completion": "ck brown fox"},
    {"prompt": "Grüße 🦊", "completion": "🦊 über"},
    {"prompt": " ", "completion": " x"},
    {"prompt": "Say nothing: ", "completion": ""},
    {"prompt": CHAT, "completion": [ANSWER]},
    {"prompt": CHAT, "completion": [ANSWER], "tools": [TOOL]},
    {"prompt": CHAT, "completion": [ANSWER], "tools": json.dumps([TOOL])},
    {
        "prompt": CHAT,
        "completion": [ANSWER],
        "chat_template_kwargs": {"enable_thinking": False},
    },
]
# A chat is a prompt and a completion for each of its assistant's turns.
CHATS = [*of_file("tools.jsonl"), *of_file("kwargs.jsonl"), {"messages": [*CHAT, ANSWER]}]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer on disk."""
    path = tmp_path_factory.mktemp("tokenizer") / request.param
    tokenizer_of(request.param).save_pretrained(path)
    return path


def tokenised(path: Path, tokenizer: Path, cache: Path, **settings: Any) -> TokenFile:
    return tokenise("a", Source(path=str(path), **settings), cache, tokenizer, cache / "cache")


def rows_of(
    records: list[dict[str, Any]], kind: Any, tokenizer: Path, cache: Path, **more: Any
) -> list[Pair]:
    """Prompt and answer of each row, as they come from a source."""
    path = cache / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = tokenised(path, tokenizer, cache, kind=kind, **more).open()
    assert isinstance(found, Records)
    return [(found.prompt(n).tolist(), found.answer(n).tolist()) for n in range(len(found.index))]


def by_trl(trainer: Any, record: dict[str, Any], tokenizer: Any, *more: Any) -> Any:
    """One record as TRL's own preparation of a data set leaves it."""
    from datasets import Dataset

    own = SimpleNamespace(
        _tokenizer=tokenizer, chat_template=None, completion_only_loss=True, calculate_KL=False
    )
    config = SimpleNamespace(
        dataset_num_proc=None,
        dataset_text_field="text",
        assistant_only_loss=False,
        max_length=None,
        shuffle_dataset=False,
    )
    data = Dataset.from_list([json.loads(json.dumps(record))])
    return trainer._prepare_dataset(own, data, tokenizer, config, *more, "eval")[0]


def supervised(record: dict[str, Any], tokenizer: Any) -> Pair:
    from trl import SFTTrainer

    if "messages" in record:
        *prompt, answer = record["messages"]
        rest = {name: value for name, value in record.items() if name != "messages"}
        record = {"prompt": prompt, "completion": [answer], **rest}
    found = by_trl(SFTTrainer, record, tokenizer, False, None)
    first = sum(label == -100 for label in found["labels"])
    assert found["labels"][first:] == found["input_ids"][first:]
    return found["input_ids"][:first], found["input_ids"][first:]


def test_prompts_and_completions_have_the_tokens_of_trl(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    records = [*TOLD, *CHATS]

    found = rows_of(records, "completion", folder, tmp_path)

    expected = [supervised(record, tokenizer) for record in records]
    for record, row, other in zip(records, found, expected, strict=True):
        assert row == other, record


def test_the_last_answer_of_a_chat_has_the_tokens_of_trl(folder: Path, tmp_path: Path) -> None:
    """TRL learns the last turn of a chat that is given as prompt and completion."""
    asked = {"role": "user", "content": "And of Italy?"}
    chat = {"messages": [*CHAT, ANSWER, asked, {"role": "assistant", "content": "Rome."}]}

    (last,) = rows_of([chat], "completion", folder, tmp_path, learn="last")

    assert last == supervised(chat, load_tokenizer(folder))
    assert rows_of([chat], "completion", folder, tmp_path)[1:] == [last]


def test_only_chats_have_a_last_answer() -> None:
    with pytest.raises(ValidationError, match="learn is for sources of kind completion, this one"):
        Source(path="a.jsonl", kind="preference", learn="last")


def test_pairs_have_the_tokens_of_trl(folder: Path, tmp_path: Path) -> None:
    from trl import DPOTrainer

    tokenizer = load_tokenizer(folder)
    records: list[dict[str, Any]] = [
        {"prompt": "Question: ", "chosen": "Paris", "rejected": " the dog"},
        {"prompt": "the qui", "chosen": "ck fox", "rejected": " lazy dog"},
        {"prompt": "Question: ", "chosen": "Paris", "rejected": ""},
        {"prompt": "Say nothing:", "chosen": "", "rejected": " I will"},
        {
            "prompt": CHAT,
            "chosen": [ANSWER],
            "rejected": [{"role": "assistant", "content": "It is late."}],
            "tools": [TOOL],
        },
    ]

    found = rows_of(records, "preference", folder, tmp_path)

    for place, record in enumerate(records):
        other = by_trl(DPOTrainer, record, tokenizer)
        assert found[2 * place] == (other["prompt_ids"], other["chosen_ids"]), record
        assert found[2 * place + 1] == (other["prompt_ids"], other["rejected_ids"]), record


def test_a_generation_prompt_that_opens_thinking_is_split_where_trl_splits_it(
    tmp_path: Path,
) -> None:
    tokenizer = tokenizer_of("byte")
    tokenizer.chat_template = OPENS_THINKING
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (record,) = of_file("think2.jsonl")

    (found,) = rows_of([record], "completion", tmp_path / "tokenizer", tmp_path)

    assert found == supervised(record, tokenizer)
    assert tokenizer.decode(found[0]).endswith("[assistant]\n")
    assert tokenizer.decode(found[1]).startswith("Hello")


def test_what_continues_a_text_has_the_tokens_and_the_text_that_it_has_in_the_whole(
    folder: Path,
) -> None:
    """Answers as text, suffixes of a gap, and samples whose likelihood is asked for."""
    tokenizer = load_tokenizer(folder)
    prompt, completion, suffix = "the quick fox", " jumps over the dog", " in the late hours."
    asked = tokenizer(prompt)["input_ids"]
    answered = tokenizer(prompt + completion)["input_ids"]
    whole = tokenizer(prompt + completion + suffix)["input_ids"]
    answer = answered[len(asked) :]
    assert answered[: len(asked)] == asked
    assert whole[: len(answered)] == answered

    assert decoded(tokenizer, answer, asked) == completion
    assert seen(tokenizer, completion, 99, end=False, after=prompt) == (completion, answer)
    text, tokens = seen(tokenizer, completion, 2, end=False, after=prompt)
    assert tokens == answer[:2]
    assert completion.startswith(text)
    sample = Sample(prompt, completion, 1, 0, suffix=suffix)
    base: Any = SimpleNamespace(tokenizer=tokenizer)
    row = _tokens(base, sample, 99)
    assert row.tokens.tolist() == answered
    assert row.begin == len(asked)


LONG = {
    "lines": "\n".join(TEXTS) * 60,  # cut at line breaks
    "words": " ".join(TEXTS[:1]) * 150,  # at spaces
    "bytes": ("Grüße 🦊," + "  über ") * 500,
    "letter": "x" * 9_000,  # anywhere
    "spaces": " " * 5_000 + "x " * 2_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_text_has_the_tokens_of_the_whole(
    folder: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fitness.data.documents.PIECE_CHARACTERS", (2**9, 2**11))
    monkeypatch.setattr("fitness.data.tokens.OVERLAP", 2**8)

    check_long(folder, text, tmp_path)


def test_a_text_of_several_pieces_has_the_tokens_of_the_whole(folder: Path, tmp_path: Path) -> None:
    text = "\n".join(TEXTS) * 800
    assert len(text) > 2 * PIECE_CHARACTERS[1]

    check_long(folder, text, tmp_path)


def check_long(folder: Path, text: str, place: Path) -> None:
    (place / "a.txt").write_text(text, encoding="utf-8")
    (place / "a.jsonl").write_text(json.dumps({"text": text}) + "\n" + '{"text": "short"}\n')
    tokenizer = load_tokenizer(folder)

    whole, lines = (tokenised(place / f"a.{one}", folder, place) for one in ("txt", "jsonl"))

    end = [tokenizer.eos_token_id]
    expected = tokenizer(text, verbose=False)["input_ids"] + end
    assert tokens_of(whole).tolist() == expected
    assert tokens_of(lines).tolist() == expected + tokenizer("short")["input_ids"] + end
