"""Documents of long rows, apart by a mask or in rows of their own: `make bench NAME=packing`.

A random Llama of the width of SmolLM2-135M with four layers, all weights, steps of 8,192 tokens in
float32 by one thread, 3 minutes a turn. The documents' lengths are drawn log-normally around a
median; a row is filled with them and its last one cut. Peak resident memory beyond what was there
before, and processor time, a process each, in turns.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from fitness.mixture.decks import NO_LABEL, Sequence, positions_from
from fitness.mixture.mixing import Batch, separate, stacked
from tests.benchmarks.saving import measured, peak_mib

WAYS = ("mask", "rows")
TOKENS, VOCABULARY, LAYERS = 8_192, 4_096, 4
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)  # of rows
SPREAD = 0.8  # of the logarithm of a document's length


def model(folder: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from fitness.data.tokenizer import load_tokenizer
    from tests.fitness.quickstart import MODEL

    torch.manual_seed(0)
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    room = {"vocab_size": VOCABULARY, "max_position_embeddings": TOKENS}
    LlamaForCausalLM(LlamaConfig(**shape, **heads, **room)).save_pretrained(folder)
    load_tokenizer(MODEL).save_pretrained(folder)
    return folder


def rows(length: int, median: int, seed: int = 0) -> list[Sequence]:
    """The rows of a step, filled with documents."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(TOKENS // length):
        lengths = np.maximum(2, rng.lognormal(np.log(median), SPREAD, length)).astype(int)
        begins = np.concatenate([[0], np.cumsum(lengths)])
        tokens = rng.integers(5, VOCABULARY, length)
        positions = positions_from(begins[begins < length], length)
        labels = np.where(positions > 0, tokens, NO_LABEL)
        found.append(Sequence(tokens, labels, positions))
    return found


def measure(folder: Path, way: str, length: int, median: int, steps: int) -> dict[str, float]:
    import torch

    from fitness.models.base import Base
    from fitness.training.supervised import finetune
    from tests.fitness.quickstart import small_recipe

    torch.set_num_threads(1)
    drawn = rows(length, median)
    batch = Batch(*stacked(drawn))
    if way == "rows":
        apart = sorted((p for one in drawn for p in separate(one)), key=lambda p: -len(p.tokens))
        batch = Batch(*stacked(apart), learned=len(drawn))
    recipe = small_recipe(batch_size=len(drawn), sequence_length=length)
    base, before = Base(folder), peak_mib()
    with base.prepared(recipe, seed=0) as trained:
        started = time.process_time()
        report = finetune(trained, recipe, [batch] * steps, steps=steps, seed=0)
        seconds = time.process_time() - started
    loss = report.learning_curve[-1][1]
    return {"mib": peak_mib() - before, "seconds": seconds, "loss": loss}


def main() -> None:
    options = _options()
    if options.child:
        folder, way, *numbers = options.child
        print(json.dumps(measure(Path(folder), way, *map(int, numbers))))
        return
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = model(Path(temporary))
        for median in options.medians:
            for length in options.lengths:
                how = (length, median, options.steps)
                turns = [
                    {way: measured("packing", folder, way, *how) for way in WAYS}
                    for _ in range(options.turns)
                ]
                figures.append({"row": length, "document": median, **_ratios(turns)})
                print(
                    "rows of {row:5} tokens, documents of {document:4}: rows of their own take "
                    "{seconds:.2f} of the mask's processor time, {mib:.2f} of its memory; losses "
                    "differ by {apart:.1e}".format(**figures[-1]),
                    flush=True,
                )
    print("BENCH " + json.dumps({"name": "packing", "ratios": figures}))


def _ratios(turns: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    found = {
        name: statistics.median(turn["rows"][name] / turn["mask"][name] for turn in turns)
        for name in ("seconds", "mib")
    }
    return {**found, "apart": max(abs(t["rows"]["loss"] - t["mask"]["loss"]) for t in turns)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=packing", description=__doc__)
    parser.add_argument("--turns", type=int, default=1, help="measurements of each (default 1)")
    parser.add_argument("--steps", type=int, default=2, help="of each measurement (default 2)")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="of rows")
    parser.add_argument(
        "--medians", type=int, nargs="+", default=(30, 300), help="of the documents' lengths"
    )
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
