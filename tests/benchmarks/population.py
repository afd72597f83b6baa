"""Speed-up of a bucket over solo fine-tunes: `make bench NAME=population`, some 5 minutes.

CPU seconds of one thread for a training step and for generation, by model, batch and members of the
bucket; a ratio above 1 is what a bucket is faster by than as many solo runs under PEFT. Everything
is repeated in turn, since machines are noisy, and the medians are compared.
`ARGS='--model FOLDER'` adds a pretrained model, `--shapes 4x48` chooses batches.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from fitness.buckets.lora import Member, lent
from fitness.buckets.size import step_seconds
from fitness.inference.sampling import generate, generate_each
from fitness.models.base import Base
from fitness.models.folders import parameters
from fitness.recipe import Recipe
from tests.fitness.quickstart import MODEL

SIZES = (1, 2, 4, 8)
SHAPES = ((1, 32), (4, 48), (16, 96))
TOKENS_A_RUN = 3_000_000_000  # times weights: so many steps that a solo run takes a while
PROMPTS = ["The ", "abbrev: n. ", "hack: v. To ", "A program that "]
NEW_TOKENS = 16


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        models = [MODEL, _middling(Path(folder))] if not options.only else []
        for path in (*models, *options.model):
            base = Base(path)
            name = f"{parameters(path) / 1e6:.3g}M"
            for kind, runs in _runs(base, options.shapes):
                cell = {"model": name, "of": kind, **_measured(runs, options.repetitions)}
                cells.append(cell)
                print(json.dumps(cell), flush=True)
    print("BENCH " + json.dumps({"name": "population", "cells": cells}))


def _runs(
    base: Base, shapes: list[tuple[int, int]]
) -> Iterator[tuple[str, dict[int, Callable[[], float]]]]:
    """Functions, by size of the bucket (0: solo), that measure CPU seconds for one member."""
    for batch, length in shapes:
        steps = max(1, min(10, round(TOKENS_A_RUN / parameters(base.folder) / (batch * length))))

        def training(size: int, batch: int = batch, length: int = length, s: int = steps) -> float:
            return _training(base, size, batch, length, s)

        yield f"step of {batch}x{length}", {size: _of(training, size) for size in (0, *SIZES)}
    yield (
        "generation",
        {size: _of(lambda size: _generation(base, size), size) for size in (0, *SIZES)},
    )


def _of(function: Callable[[int], float], size: int) -> Callable[[], float]:
    return lambda: function(size)


def _measured(runs: dict[int, Callable[[], float]], repetitions: int) -> dict[str, Any]:
    seconds: dict[int, list[float]] = defaultdict(list)
    for _ in range(repetitions):
        for size, run in runs.items():
            seconds[size].append(run())
    solo = statistics.median(seconds[0])
    ratios = {size: round(solo / statistics.median(seconds[size]), 2) for size in SIZES}
    return {"solo_milliseconds": round(1000 * solo, 2), "times_faster": ratios}


def _training(base: Base, size: int, batch: int, length: int, steps: int) -> float:
    return step_seconds(base, _recipe(batch, length), size, steps)


def _generation(base: Base, size: int) -> float:
    """CPU seconds of answering the prompts, for one member."""
    members = [Member(_recipe(1, 2), seed=number) for number in range(max(1, size))]
    if not size:
        with base.prepared(members[0].recipe, seed=0) as model:
            begun = time.process_time()
            generate(model, base.tokenizer, PROMPTS, max_new_tokens=NEW_TOKENS, seed=0)
            return time.process_time() - begun
    with lent(base, members):
        begun = time.process_time()
        seeds = list(range(size))
        generate_each(base.model, base.tokenizer, PROMPTS, max_new_tokens=NEW_TOKENS, seeds=seeds)
        return (time.process_time() - begun) / size


def _recipe(batch: int, length: int) -> Recipe:
    return Recipe(adapter="lora", lora_rank=8, batch_size=batch, sequence_length=length)


def _middling(folder: Path) -> Path:
    """Between quickstart and a pretrained model: 5 million weights, drawn at random."""
    import shutil

    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6}
        config = LlamaConfig(
            **shape, num_attention_heads=4, vocab_size=1024, tie_word_embeddings=True
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    for path in MODEL.glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=population", description=__doc__)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--only", action="store_true", help="only what --model names")
    parser.add_argument("--shapes", type=_shape, nargs="+", default=list(SHAPES))
    parser.add_argument("--repetitions", type=int, default=5)
    return parser.parse_args()


def _shape(told: str) -> tuple[int, int]:
    batch, length = map(int, told.split("x"))
    return batch, length


if __name__ == "__main__":
    main()
