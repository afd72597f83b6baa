"""Memory saved by micro_batch, checkpointing and logits in parts: `make bench NAME=saving`.

Peak resident memory beyond what was there before, and processor time, a process each, in turns,
four minutes. The quickstart's model, all weights, 4 steps of 64 rows of 256 tokens. Then a random
Llama of two layers of 256 with a vocabulary of 131,072, 2 steps of 8 rows of 512 tokens, all
weights or LoRA: all logits at once, as up to version 0.1, or in parts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.evo.driving import ROOT, environment

SHAPES = {"quickstart": (64, 256, 4), "llama": (8, 512, 2)}  # rows, tokens, steps
VOCABULARY = 131_072
# Settings by a way's name; the first of each shape is what the others are compared with.
WAYS: dict[str, dict[str, Any]] = {
    "neither": {"shape": "quickstart"},
    "checkpointing": {"shape": "quickstart", "checkpointing": True},
    "micro_batch 8": {"shape": "quickstart", "micro_batch": 8},
    "both": {"shape": "quickstart", "checkpointing": True, "micro_batch": 8},
    "all weights, logits at once": {"shape": "llama", "at_once": 2**40},
    "all weights, in parts": {"shape": "llama"},
    "LoRA, logits at once": {"shape": "llama", "adapter": "lora", "at_once": 2**40},
    "LoRA, in parts": {"shape": "llama", "adapter": "lora"},
}


def large_vocabulary(folder: Path) -> Path:
    """A random Llama with the quickstart's tokenizer and many more tokens than that has."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from fitness.data.tokenizer import load_tokenizer
    from tests.fitness.quickstart import MODEL

    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512}
    config = LlamaConfig(vocab_size=VOCABULARY, **shape, **heads, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder)
    load_tokenizer(MODEL).save_pretrained(folder)
    return folder


def measure(
    folder: Path,
    shape: str,
    *,
    micro_batch: int | None = None,
    checkpointing: bool = False,
    at_once: int = 0,
    adapter: str = "none",
) -> dict[str, float]:
    import numpy as np
    import torch

    from fitness.inference import log_probabilities
    from fitness.mixture.mixing import Batch
    from fitness.models.base import Base
    from fitness.training.supervised import finetune
    from tests.fitness.quickstart import MODEL, small_recipe

    torch.set_num_threads(1)
    log_probabilities.LOGITS_AT_ONCE = at_once or log_probabilities.LOGITS_AT_ONCE
    rows, length, steps = SHAPES[shape]
    base = Base(MODEL if shape == "quickstart" else folder)
    recipe = small_recipe(batch_size=rows, sequence_length=length, adapter=adapter)
    tokens = np.random.default_rng(0).integers(5, 1000, (rows, length))
    before = peak_mib()
    with base.prepared(recipe, seed=0, checkpointing=checkpointing) as model:
        started = time.process_time()
        batches = [Batch(tokens, tokens)] * steps
        finetune(model, recipe, batches, steps=steps, seed=0, micro_batch=micro_batch)
        seconds = time.process_time() - started
    return {"mib": peak_mib() - before, "seconds": seconds}


def peak_mib() -> float:
    """The largest resident set of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measured(module: str, *asked: object) -> dict[str, float]:
    """Figures that a benchmark prints for `--child`, in a process of its own with one thread."""
    line = [sys.executable, "-m", f"tests.benchmarks.{module}", "--child", *map(str, asked)]
    done = subprocess.run(
        line,
        cwd=ROOT,
        env=environment(OMP_NUM_THREADS=1),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    options = _options()
    if options.child:
        way, folder = options.child
        print(json.dumps(measure(Path(folder), **WAYS[way])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = large_vocabulary(Path(temporary))
        turns = [
            {way: measured("saving", way, folder) for way in WAYS} for _ in range(options.turns)
        ]
    figures = {}
    for way, settings in WAYS.items():
        like = (settings["shape"], settings.get("adapter"))
        first = next(w for w, s in WAYS.items() if (s["shape"], s.get("adapter")) == like)
        figures[way] = {
            "mib": statistics.median(turn[way]["mib"] for turn in turns),
            "of": statistics.median(turn[way]["mib"] / turn[first]["mib"] for turn in turns),
            "times": statistics.median(
                turn[way]["seconds"] / turn[first]["seconds"] for turn in turns
            ),
        }
        one = figures[way]
        print(
            f"{way:28}: {one['mib']:5.0f} MiB ({one['of']:.2f}), "
            f"{one['times']:.2f} times the processor time"
        )
    print("BENCH " + json.dumps({"name": "saving", "turns": options.turns, "ways": figures}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=saving", description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="measurements of each (default 3)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
