"""Other trainers are given the windows that the builtin one draws."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from fitness.data.tokenizer import load_tokenizer
from fitness.evaluate import materialise
from fitness.evaluation import Task
from tests.fitness.quickstart import (
    BATCH,
    LENGTH,
    MIXTURE,
    MODEL,
    STEPS,
    batches_of,
    small_recipe,
    tokens_of,
)

RECIPE = small_recipe(mixture={"jargon": 0.3, "wordnet": 0.7}).model_dump(mode="json")


def rows_of(task: Task, seed: int, steps: int | None = None) -> list[list[int]]:
    """The rows of the builtin trainer's batches, without their padding."""
    recipe = small_recipe(mixture=RECIPE["mixture"])
    batches = islice(batches_of(task, recipe, seed=seed), steps)
    return [
        row[labels >= 0].tolist()
        for inputs, labels, *_ in batches
        for row, labels in zip(inputs, labels, strict=True)
    ]


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize(("fidelity", "steps"), [(1.0, None), (0.34, 1), (0.7, 2), (0.0, 0)])
def test_the_windows_are_those_of_the_builtin_trainer(
    task: Task, seed: int, fidelity: float, steps: int | None
) -> None:
    drawn = list(materialise.drawn(task, RECIPE, seed=seed, fidelity=fidelity))
    assert [window.tokens.tolist() for window in drawn] == rows_of(task, seed, steps)
    texts = {name: tokens_of(task.sources[name]).astype(np.int64) for name in MIXTURE}
    for window in drawn:
        source = np.lib.stride_tricks.sliding_window_view(texts[window.source], LENGTH)
        assert (source == window.tokens).all(axis=1).any()


def test_fields_that_only_another_trainer_knows_change_nothing(task: Task) -> None:
    own = {"rate": "high", "learning_rate": "none of your business", **RECIPE}
    drawn = [window.tokens.tolist() for window in materialise.drawn(task, own, seed=1)]
    assert drawn == rows_of(task, 1)


def test_files_hold_the_text_of_every_window_and_its_source(task: Task, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    tokenizer = load_tokenizer(MODEL)
    expected = [
        {"text": tokenizer.decode(window.tokens), "source": window.source}
        for window in materialise.drawn(task, RECIPE, seed=0)
    ]
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.parquet"
    assert len(expected) == STEPS * BATCH
    windows = materialise.drawn(task, RECIPE, seed=0)
    assert materialise.write_jsonl(lines, windows, tokenizer) == len(expected)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == expected
    windows = materialise.drawn(task, RECIPE, seed=0)
    assert materialise.write_parquet(table, windows, tokenizer) == len(expected)
    assert pq.read_table(table).to_pylist() == expected
    assert any(tokenizer.eos_token in row["text"] for row in expected)


def test_lines_may_hold_the_tokens_too(task: Task, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    windows = materialise.drawn(task, RECIPE, seed=0)
    materialise.write_jsonl(path, windows, load_tokenizer(MODEL), columns=("source", "labels"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["labels"] for row in rows] == rows_of(task, 0)
    assert {tuple(row) for row in rows} == {("source", "labels")}


def test_a_table_of_tokens_has_labels_at_no_cost(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materialise, "ROWS", 5)
    table = materialise.token_table(materialise.drawn(task, RECIPE, seed=0))
    assert table["input_ids"].to_pylist() == table["labels"].to_pylist() == rows_of(task, 0)
    assert [chunk.buffers()[3].address for chunk in table["input_ids"].chunks] == [
        chunk.buffers()[3].address for chunk in table["labels"].chunks
    ]
    assert table["input_ids"].num_chunks == 3
