"""A pool as one more source of a mixture: its rows, its scores, and training on what is kept."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fitness.data.documents import Source
from fitness.data.records import Records
from fitness.data.samples import read_samples
from fitness.data.sources import TokenFile, tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Status
from fitness.mixture.decks import NO_LABEL, RecordDeck, deck_of
from fitness.recipe import Recipe
from tests.fitness.quickstart import MODEL, evaluate, small_task
from tests.fitness.samples.pools import good, numbered, pool_file, sample, written

TOKENIZER = load_tokenizer(MODEL)
POOL = numbered(good(12), realness=[n / 12 for n in range(12)], likelihood=[-n for n in range(12)])


def opened(file: TokenFile) -> Records:
    found = file.open()
    assert isinstance(found, Records)
    return found


def text(tokens: np.ndarray) -> str:
    return TOKENIZER.decode(tokens, clean_up_tokenization_spaces=False)


def test_a_pool_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    pool = [replace(POOL[0], ended=True), replace(POOL[1], way="infill", suffix=" and so on.")]
    assert list(read_samples(written(pool, tmp_path))) == pool


def test_the_completion_is_learned_and_an_end_only_where_the_model_ended(tmp_path: Path) -> None:
    end = TOKENIZER.eos_token
    pool = [
        sample(" cut at its longest", "a prompt"),
        replace(sample(" it ended", "another"), ended=True),
        replace(sample(" in between", "one"), ended=True, suffix=" and another"),
        replace(sample("from nothing"), ended=True, begun="nothing"),
    ]
    records = opened(pool_file(pool, tmp_path))
    assert [text(records.answer(row)) for row in range(4)] == [
        " cut at its longest",
        f" it ended{end}",
        " in between",
        f"from nothing{end}",
    ]
    assert [text(records.prompt(row)) for row in range(4)] == ["a prompt", "another", "one", end]
    deck = deck_of(records, Recipe(sequence_length=96), TOKENIZER.eos_token_id)
    sequence = deck.draw("pool", 0, 96).sequences[0]
    assert text(sequence.tokens[sequence.labels != NO_LABEL]) == (
        f" cut at its longest it ended{end} in betweenfrom nothing{end}"
    )


def test_scores_are_stored_beside_the_index_and_travel_through_json(tmp_path: Path) -> None:
    pool = [*POOL, sample(" unscored"), sample(" half", realness=0.25)]
    file = pool_file(pool, tmp_path)
    again = TokenFile(**json.loads(json.dumps(asdict(file))))
    assert again == file == pool_file(pool, tmp_path), "and found in the cache"
    assert hash(again) == hash(file)
    assert file.scores == ("likelihood", "realness")
    scores = opened(again).scores
    assert scores["realness"].dtype == np.float64
    wanted = [*(n / 12 for n in range(12)), np.nan, 0.25]
    np.testing.assert_array_equal(scores["realness"], wanted)
    assert Path(file.path).stat().st_size == file.size


def test_a_deck_visits_only_what_passes_each_sample_once_an_epoch(tmp_path: Path) -> None:
    records = opened(pool_file([*POOL, sample("", "nothing came", realness=1.0)], tmp_path))
    recipe = Recipe.model_validate({"keep_realness": 0.5, "sequence_length": 512})
    deck = deck_of(records, recipe, 0)
    assert isinstance(deck, RecordDeck)
    assert deck.rows.tolist() == [6, 7, 8, 9, 10, 11], "and what has no completion is not learned"
    numbers = deck.numbers(0, "pool")
    drawn = [deck.draw("pool", next(numbers), 512).sequences[0] for _ in range(deck.draws)]
    learned = sum(int((one.labels != NO_LABEL).sum()) for one in drawn)
    assert learned == sum(len(records.answer(row)) for row in deck.rows)
    everything = deck_of(records, Recipe(sequence_length=48), 0)
    assert isinstance(everything, RecordDeck)
    assert len(everything.rows) == 12


def test_samples_by_their_ids_are_left_out_under_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    whole = pool_file(POOL, tmp_path)
    part = pool_file(POOL, tmp_path, without=(POOL[0].id, POOL[5].id))
    assert (whole.rows, part.rows) == (12, 10)
    assert whole.fingerprint != part.fingerprint
    np.testing.assert_array_equal(
        opened(part).scores["likelihood"], [-1, -2, -3, -4, -6, -7, -8, -9, -10, -11]
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "a"}, "pool.jsonl:1: is not a sample of a pool: missing completion, indiv"),
        ({"completion": 3}, "'completion' is 3, a int; it must be a string"),
        ({"suffix": ["a"]}, "'suffix' is .* a list; it must be a string"),
        ({"scores": {"realness": "high"}}, "score 'realness' is 'high'; it must be a finite"),
        ({"scores": {"realness": True}}, "score 'realness' is True; it must be a finite number"),
        ({"scores": {"length": float("inf")}}, "score 'length' is inf; it must be a finite number"),
        ({"scores": [0.5]}, "'scores' must look like"),
    ],
)
def test_what_is_no_sample_is_told_with_its_line(
    line: dict[str, object], message: str, tmp_path: Path
) -> None:
    whole = {"prompt": "a", "completion": " b", "individual": 1, "seed": 0}
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps(line if line.keys() == {"prompt"} else {**whole, **line}))
    with pytest.raises(InputError, match=message):
        tokenise("sources.pool", Source(path=str(path), kind="sample"), tmp_path, MODEL, tmp_path)


def test_an_empty_pool_is_told_and_a_score_of_null_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no text in it"):
        pool_file([], tmp_path)
    path = tmp_path / "pool.jsonl"
    whole = {"prompt": "a", "completion": " b", "individual": 1, "seed": 0}
    path.write_text(json.dumps({**whole, "scores": {"realness": None}}))
    file = tokenise("pool", Source(path=str(path), kind="sample"), tmp_path, MODEL, tmp_path)
    assert (file.rows, file.scores) == (1, ())


def test_a_fine_tune_learns_from_a_pool_beside_real_text_and_says_how_much_was_kept(
    tmp_path: Path,
) -> None:
    task = small_task(tmp_path)
    task = replace(task, sources={**task.sources, "pool": pool_file(POOL, tmp_path)})
    evaluator = Evaluator(task)
    mixture = {"jargon": 0.5, "pool": 0.5}
    whole = evaluate(evaluator, mixture=mixture)
    half = evaluate(evaluator, mixture=mixture, keep_realness=0.5)
    assert whole.status is half.status is Status.OK
    assert (whole.details["samples_kept"], half.details["samples_kept"]) == (
        {"pool": 12},
        {"pool": 6},
    )
    assert half.details["epochs"]["pool"] > whole.details["epochs"]["pool"]
    assert half.details["shares"]["pool"] == pytest.approx(0.5, abs=0.05)
    assert whole.measurements != half.measurements

    nothing: dict[str, Any] = {"keep_realness": 0.4, "keep_likelihood": 0.4}
    failed = evaluate(evaluator, mixture=mixture, **nothing)
    assert failed.status is Status.INFEASIBLE
    assert "source 'pool': no sample passes all" in failed.message
    assert "Traceback" not in failed.message
    without = evaluate(evaluator, mixture={"jargon": 1.0, "pool": 0.0}, **nothing)
    assert without.status is Status.OK
    assert without.details["samples_kept"] == {"pool": 0}
