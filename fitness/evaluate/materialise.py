"""The mixture of a recipe as a file or table, for trainers that do not read sources themselves.

A row is a window: the very tokens that the builtin trainer draws for the recipe and the seed, in
its order, and their text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fitness.data.records import Records
from fitness.data.sources import TokenFile
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.mixture.decks import Windows
from fitness.mixture.infilling import Infilling
from fitness.mixture.mixing import Mixing
from fitness.recipe import DRAWS, Recipe

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

ROWS = 1000  # decoded, and written, at once


class Window(NamedTuple):
    """One sequence of a mixture: int64 tokens (length,), and where they are from."""

    tokens: np.ndarray
    source: str


def drawn(
    task: Task, recipe: Mapping[str, Any], *, seed: int, fidelity: float = 1.0
) -> Iterator[Window]:
    """Stream the windows that the builtin trainer trains on, in its order.

    Only the fields `recipe.DRAWS` of the recipe are read. Raises InputError as `Mixing` does.
    """
    mixed = Recipe.model_validate({name: recipe[name] for name in DRAWS if name in recipe})
    mixing = mixing_of(task, mixed, seed=seed)
    steps = mixing.steps(mixed.batch_size)
    until = steps_until(steps, fidelity)
    rows = None if until == steps else until * mixed.batch_size
    draws = (draw for draw, _ in islice(mixing.draws(), rows))
    return (Window(draw.sequences[0].tokens, draw.source) for draw in draws)


def mixing_of(task: Task, recipe: Recipe, *, seed: int) -> Mixing:
    """The stream of one fine-tune's windows."""
    length = recipe.sequence_length
    turning = None
    if recipe.infill_share:
        assert task.model is not None, "windows are drawn for a base model"
        turning = Infilling.of(recipe, load_tokenizer(task.model), seed)
    return Mixing(
        recipe.mixture,
        {
            name: Windows(_text(file), length, infilling=turning)
            for name, file in task.sources.items()
        },
        budget_tokens=round(task.budget_tokens * recipe.train_share),
        sequence_length=recipe.sequence_length,
        seed=seed,
    )


def _text(file: TokenFile) -> np.ndarray:
    content = file.open()
    if isinstance(content, Records):
        raise InputError(
            f"{file.name}: is of kind {file.kind}; other trainers only support kind text"
        )
    return content


def steps_until(steps: int, fidelity: float) -> int:
    """The steps of a fine-tune at a fidelity: a prefix of all of them, none at 0."""
    return max(1, round(steps * fidelity)) if fidelity else 0


def write_jsonl(
    path: Path,
    windows: Iterator[Window],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    columns: Sequence[str] = ("text", "source"),
) -> int:
    """Write windows as JSON lines; returns the number of lines.

    Columns are text, source, and the tokens as trainers name them: input_ids, attention_mask,
    labels.
    """
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for window, text in _decoded(windows, tokenizer):
            tokens = window.tokens.tolist()
            row = {
                "text": text,
                "source": window.source,
                "input_ids": tokens,
                "attention_mask": [1] * len(tokens),
                "labels": tokens,
            }
            kept = {name: row[name] for name in columns}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
            rows += 1
    return rows


def write_parquet(
    path: Path, windows: Iterator[Window], tokenizer: "PreTrainedTokenizerBase"
) -> int:
    """Write windows as Parquet with the columns `text` and `source`; returns the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema({"text": pa.string(), "source": pa.string()})
    rows = 0
    with pq.ParquetWriter(path, schema) as file:
        decoded = _decoded(windows, tokenizer)
        while some := list(islice(decoded, ROWS)):
            columns = {
                "text": [text for _, text in some],
                "source": [window.source for window, _ in some],
            }
            file.write_table(pa.table(columns, schema=schema))
            rows += len(some)
    return rows


def token_table(windows: Iterator[Window]) -> "pa.Table":
    """Table with the columns `input_ids` and `labels`, which share memory: 4 bytes per token."""
    import pyarrow as pa

    chunks = []
    while some := list(islice(windows, ROWS)):
        ends = np.cumsum([0, *(len(window.tokens) for window in some)], dtype=np.int64)
        values = np.concatenate([window.tokens for window in some]).astype(np.int32)
        chunks.append(pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values)))
    column = pa.chunked_array(chunks, type=pa.large_list(pa.int32()))
    return pa.table({"input_ids": column, "labels": column})


def write_tokenised(folder: Path, windows: Iterator[Window]) -> None:
    """Write a folder that `datasets.load_from_disk` reads: tokens only, as the split `train`."""
    import datasets

    tokens = datasets.Dataset(token_table(windows)).select_columns("input_ids")
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": tokens}).save_to_disk(folder)


def _decoded(
    windows: Iterator[Window], tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[tuple[Window, str]]:
    """Windows with their texts, which include the tokenizer's separators of documents."""
    for window in windows:
        yield window, tokenizer.decode(window.tokens, clean_up_tokenization_spaces=False)
