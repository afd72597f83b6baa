"""Contents of a draw: packed records, the sides of a comparison, separated documents."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fitness.data.documents import Source
from fitness.data.records import rows
from fitness.data.sources import tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.inference.log_probabilities import token_logps
from fitness.mixture.decks import (
    NO_LABEL,
    Deck,
    RecordDeck,
    Sequence,
    Windows,
    deck_of,
    positions_from,
)
from fitness.mixture.mixing import Mixing, stacked
from fitness.models.base import Base
from fitness.recipe import Recipe
from tests.fitness.preferences import case
from tests.fitness.quickstart import MODEL, token_file, tokens_of
from tests.fitness.records import PAIRS, deck, rated, record_file

ASKED = [{"prompt": f"{n}?", "completion": " so it is, " * n} for n in range(1, 6)]
TOKENIZER = load_tokenizer(MODEL)


def text(tokens: np.ndarray) -> str:
    return TOKENIZER.decode(tokens, clean_up_tokenization_spaces=False)


def learned(sequence: Sequence) -> str:
    return text(sequence.tokens[sequence.labels != NO_LABEL])


def test_records_are_packed_whole_and_only_their_answers_are_learned(tmp_path: Path) -> None:
    packed = deck(ASKED, "completion", tmp_path, sequence_length=40)
    assert isinstance(packed, RecordDeck)
    draws = [packed.draw("a", number, 40) for number in range(packed.draws)]

    sequences = [draw.sequences[0] for draw in draws]
    assert packed.draws < len(ASKED)
    assert all(len(one.tokens) <= 40 for one in sequences)
    whole = "".join(text(one.tokens) for one in sequences)
    end = TOKENIZER.eos_token
    assert whole == "".join(one["prompt"] + one["completion"] + end for one in ASKED)
    assert "".join(map(learned, sequences)) == "".join(one["completion"] + end for one in ASKED)
    begins = [int((one.positions == 0).sum()) for one in sequences if one.positions is not None]
    assert sum(begins) == len(ASKED)


def test_no_record_of_a_sequence_sees_another_one(tmp_path: Path, base: Base) -> None:
    packed = deck(ASKED, "completion", tmp_path, sequence_length=96)
    single = [{**one, "label": True} for one in ASKED]
    alone = deck(single, "rating", tmp_path, method="preference", sequence_length=96)
    whole = stacked([packed.draw("a", 0, 96).sequences[0]])
    with torch.no_grad():
        together = token_logps(base.model, whole)
    records = [alone.draw("a", n, 96).sequences[0] for n in range(3)]
    first = 0
    for one in records:
        with torch.no_grad():
            wanted = token_logps(base.model, stacked([one]))
        span = together[:, first : first + wanted.shape[1]]
        torch.testing.assert_close(span, wanted, rtol=0, atol=1e-5)
        first += len(one.tokens)


def test_isolated_documents_of_a_window_begin_at_their_own_zero(tmp_path: Path, base: Base) -> None:
    tokens = tokens_of(token_file("sources/jargon.jsonl", tmp_path))
    end = TOKENIZER.eos_token_id
    border = int(np.flatnonzero(tokens == end)[3])
    window = Windows(tokens, 64, separator=end).draw("a", border - 30, 64).sequences[0]
    assert window.positions is not None
    assert window.positions[:31].tolist() == list(range(31))
    assert window.positions[31] == 0
    after = Sequence(window.tokens[31:50], window.tokens[31:50])
    with torch.no_grad():
        together = token_logps(base.model, stacked([window]))[:, 31:49]
        alone = token_logps(base.model, stacked([after]))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    joined = Windows(tokens, 64).draw("a", border - 30, 64).sequences[0]
    assert joined.positions is None


def test_a_preference_is_compared_or_its_chosen_answer_learned(tmp_path: Path) -> None:
    compared = deck(PAIRS, "preference", tmp_path, method="preference", sequence_length=48)
    draw = compared.draw("a", 2, 48)
    assert (draw.use, compared.cost, compared.available) == ("compare", 2, 2 * 48 * len(PAIRS))
    end = TOKENIZER.eos_token
    assert [learned(one) for one in draw.sequences] == [
        PAIRS[2][side] + end for side in ("chosen", "rejected")
    ]
    supervised = deck(PAIRS, "preference", tmp_path, sequence_length=48)
    answers = [
        learned(supervised.draw("a", n, 48).sequences[0]) for n in range(supervised.available // 48)
    ]
    assert "".join(answers) == "".join(pair["chosen"] + end for pair in PAIRS)


def test_good_ratings_are_learned_and_all_are_rated(tmp_path: Path) -> None:
    ratings = rated(PAIRS)
    judged = deck(ratings, "rating", tmp_path, method="preference", sequence_length=48)
    assert [judged.draw("a", n, 48).label for n in range(4)] == [1, 0, 1, 0]
    learning = deck(ratings, "rating", tmp_path, sequence_length=48)
    assert isinstance(learning, RecordDeck)
    assert len(learning.rows) == len(PAIRS)


def test_a_record_that_is_too_long_loses_the_beginning_of_its_prompt(tmp_path: Path) -> None:
    long = [{"prompt": "a b c d e f g h i j k l m n o p", "completion": " q"}]
    cut = deck(long, "completion", tmp_path, sequence_length=6).draw("a", 0, 6).sequences[0]
    assert text(cut.tokens) == " n o p q" + TOKENIZER.eos_token
    assert learned(cut) == " q" + TOKENIZER.eos_token
    short = deck(long, "completion", tmp_path, sequence_length=2).draw("a", 0, 2).sequences[0]
    assert (text(short.tokens[:1]), learned(short)) == (" p", text(short.tokens[1:]))


def test_shares_hold_where_a_draw_takes_several_sequences(tmp_path: Path) -> None:
    decks: dict[str, Deck] = {
        "pairs": deck(PAIRS, "preference", tmp_path, method="preference", sequence_length=24),
        "text": Windows(np.arange(5000), 24),
    }
    mixing = Mixing(
        {"pairs": 0.5, "text": 0.5}, decks, budget_tokens=24 * 200, sequence_length=24, seed=0
    )
    batches = list(mixing.batches(8))
    assert mixing.drawn.shares == {"pairs": 0.5, "text": 0.5}
    assert sum(len(batch.others) for batch in batches) == 50
    assert sum(len(batch.input_ids) for batch in batches) == 100
    assert sum(batch.tokens for batch in batches) == 24 * 200
    assert {len(b.input_ids) + len(b.others) for b in batches[:-1]} == {8}
    assert mixing.drawn.epochs["pairs"] == 50 / len(PAIRS)


def test_positions_begin_anew() -> None:
    assert positions_from(np.array([0, 2, 3]), 6).tolist() == [0, 1, 0, 0, 1, 2]


CHAT = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "Well?"},
    {"role": "assistant", "content": "Fine."},
]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_each_of_an_assistants_turns_is_a_record(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(MODEL)
    tokenizer.chat_template = TEMPLATE

    def encode(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    found = list(rows({"messages": CHAT}, "completion", "x:1", tokenizer, encode, []))
    assert [(tokenizer.decode(row.prompt), tokenizer.decode(row.answer)) for row in found] == [
        ("<user>Hello\n<assistant>", "Hi.\n"),
        ("<user>Hello\n<assistant>Hi.\n<user>Well?\n<assistant>", "Fine.\n"),
    ]


@pytest.mark.parametrize(
    ("record", "kind", "told"),
    [
        ({"prompt": "a"}, "completion", r"x.jsonl:1: no column 'completion', it has 'prompt'"),
        ({"prompt": "a", "chosen": "b"}, "preference", r"no column 'rejected'"),
        ({"prompt": "a", "completion": "b"}, "rating", r"'label' must be true .* got none among"),
        ({"prompt": "a", "completion": "b", "label": "yes"}, "rating", r"got 'yes'"),
        ({"prompt": CHAT[:1], "completion": CHAT[1:2]}, "completion", r"has no chat template"),
        ({"prompt": "a", "completion": CHAT[1:2]}, "completion", r"must both be text, or both"),
        ({"messages": CHAT[:1]}, "completion", r"an assistant's turn after another"),
        ({"messages": [{"role": "user"}]}, "completion", r"must hold messages like"),
        ({"prompt": 3, "completion": "b"}, "completion", r"'prompt' is 3, a int"),
    ],
)
def test_what_a_record_lacks_is_told(
    record: dict[str, Any], kind: Any, told: str, tmp_path: Path
) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match=told):
        tokenise("sources.x", Source(path="x.jsonl", kind=kind), tmp_path, MODEL, tmp_path)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("preference", "preference"),
        ("preference", "supervised"),
        ("rating", "preference"),
        ("completion", "supervised"),
        ("prompt", "reinforce"),
    ],
)
def test_cuts_counts_what_draws_lose_to_their_length(
    tmp_path: Path, kind: Any, method: Any
) -> None:
    records = case("long_prompts.jsonl")[:4]
    if kind in ("rating", "completion"):
        records = [{**one, "completion": one["chosen"], "label": True} for one in records]
    together = record_file(records, kind, tmp_path).open()
    alone = [record_file([record], kind, tmp_path).open() for record in records]
    parts = slice(1) if kind == "prompt" else slice(None)  # not its reference

    def own(content: Any, length: int) -> RecordDeck:
        found = deck_of(content, Recipe(method=method, sequence_length=length), 0)
        assert isinstance(found, RecordDeck)
        return found

    def size(content: Any, length: int) -> int:
        sequences = own(content, length).draw("a", 0, length).sequences[parts]
        return sum(len(one.tokens) for one in sequences)

    for length in (3, 20, 48, 64, 4096):
        sizes = [(size(one, 4096), size(one, length)) for one in alone]
        lost = [(before, after) for before, after in sizes if after < before]
        found = own(together, length).cuts()
        assert (found.records, found.cut) == (len(records), len(lost))
        wanted = sum(after for _, after in lost) / max(1, sum(before for before, _ in lost))
        assert found.left == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("preference", "preference"),
        ("preference", "supervised"),
        ("rating", "preference"),
        ("rating", "supervised"),
        ("completion", "supervised"),
    ],
)
@pytest.mark.parametrize("length", [3, 20, 48, 64, 4096])
def test_learned_tokens_are_the_labels_of_an_epoch(
    tmp_path: Path, kind: Any, method: Any, length: int
) -> None:
    pairs = [*case("long_prompts.jsonl")[:4], *PAIRS, {**PAIRS[0], "prompt": ""}]
    records = rated(pairs) if kind == "rating" else pairs
    if kind == "completion":
        records = [{**one, "completion": one["chosen"]} for one in pairs]
    found = deck(records, kind, tmp_path, method=method, sequence_length=length)
    assert isinstance(found, RecordDeck)
    draws = [found.draw("a", number, length) for number in range(found.draws)]
    labels = [(one.labels != NO_LABEL).sum() for draw in draws for one in draw.sequences]
    assert found.learned == sum(labels) > 0


def test_prompts_to_answer_have_no_learned_tokens(tmp_path: Path) -> None:
    asked = [{"prompt": "a bug: n."}]
    found = deck(asked, "prompt", tmp_path, method="reinforce", sequence_length=16)
    assert isinstance(found, RecordDeck)
    assert found.learned is None


def test_a_prompt_to_answer_loses_its_beginning(tmp_path: Path) -> None:
    (asked,) = ({"prompt": one["prompt"]} for one in case("long_prompts.jsonl")[:1])
    found = deck([asked], "prompt", tmp_path, method="reinforce", sequence_length=16)
    wanted = TOKENIZER(asked["prompt"])["input_ids"]
    assert len(wanted) > 16
    assert found.draw("a", 0, 16).sequences[0].tokens.tolist() == wanted[-16:]
