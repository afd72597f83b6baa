"""The dry run says how many records are cut, and to what; it refuses KTO without other answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.prepare.lengths import cut_records
from evo.prepare.task import prepare
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from tests.evo.test_methods import spec
from tests.fitness.preferences import CASES, case
from tests.fitness.quickstart import MODEL

LONG = f"sources.pairs.path={CASES}/long_prompts.jsonl"
HELD_OUT = f"domains.pairs.selection.path={CASES}/long_prompts.jsonl"


def sizes(record: dict[str, Any], *columns: str) -> tuple[int, list[int]]:
    """Tokens of a prompt and of its answers, with what ends them, by transformers alone."""
    tokenizer = load_tokenizer(MODEL)

    def count(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    prompt = count(record["prompt"])
    return prompt, [count(record["prompt"] + record[one]) + 1 - prompt for one in columns]


def expected(length: int, *columns: str) -> str:
    """How many of the case's records are cut to a length, and to what share of their tokens."""
    cut = before = after = 0
    for record in case("long_prompts.jsonl"):
        prompt, answers = sizes(record, *columns)
        kept = min(prompt, max(1, length - max(answers)))
        whole = sum(prompt + answer for answer in answers)
        left = sum(min(length, kept + answer) for answer in answers)
        if left < whole:
            cut, before, after = cut + 1, before + whole, after + left
    return f"{cut} of its 30 records are longer than sequence_length {length} and cut to " + (
        f"{after / before:.0%} of their tokens"
    )


def told(folder: Path, *overrides: str) -> list[str]:
    config = configuration.load(spec(folder, reference=" a thing"), overrides)
    return list(cut_records(config, prepare(config).task))


def test_a_gene_is_told_at_both_of_its_ends_and_held_out_records_at_the_longest(
    tmp_path: Path,
) -> None:
    gene = "genome.sequence_length={type: int, low: 48, high: 96}"
    ours, *held_out = told(tmp_path, LONG, HELD_OUT, gene)
    assert expected(96, "chosen", "rejected") in ours
    short = expected(48, "chosen", "rejected").split()
    assert f"; at 48, {short[0]} of 30 are, to {short[-4]}; raise" in ours
    assert [one.partition(":")[0] for one in held_out] == ["domains.pairs.selection"]
    assert expected(96, "chosen", "rejected") in held_out[0]


@pytest.mark.parametrize("kind", ["completion", "rating"])
def test_completions_and_ratings_are_counted_as_pairs_are(tmp_path: Path, kind: str) -> None:
    records = [
        {"prompt": one["prompt"], "completion": one["chosen"]} for one in case("long_prompts.jsonl")
    ]
    if kind == "rating":
        records = [{**one, "label": True} for one in records]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    source = f"sources.own={{path: {path}, kind: {kind}}}"
    (ours,) = told(tmp_path, source, "recipe.sequence_length=64")
    assert ours.startswith(f"sources.own: {expected(64, 'chosen')} (prompts lose")


def test_ratings_with_one_answer_among_them_cannot_be_learned_by_kto(tmp_path: Path) -> None:
    records = [
        {"prompt": f"{word} is", "completion": " good.", "label": word == "tea"}
        for word in ("tea", "rain", "mud")
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    source = f"sources.own={{path: {path}, kind: rating}}"
    config = configuration.load(spec(tmp_path, reference=" a"), [source])
    with pytest.raises(InputError, match=r"sources.own: all its 3 records have one and the same"):
        prepare(config)
    path.write_text(path.read_text().replace("good", "bad", 1))
    prepare(config)
