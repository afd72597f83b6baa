"""Memory saved by micro_batch and checkpointing, and time: `make bench NAME=saving`, 2 minutes.

The quickstart's model, all weights, 4 steps of 64 rows of 256 tokens, in a process of its own each
time: peak resident memory beyond what was there before, and processor time, in turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.evo.driving import ROOT, environment

ROWS, LENGTH, STEPS = 64, 256, 4
WAYS = {"neither": (0, 0), "checkpointing": (0, 1), "micro_batch 8": (8, 0), "both": (8, 1)}


def measure(micro_batch: int, checkpointing: int) -> dict[str, float]:
    import numpy as np
    import torch

    from fitness.mixture.mixing import Batch
    from fitness.models.base import Base
    from fitness.training.supervised import finetune
    from tests.fitness.quickstart import MODEL, small_recipe

    torch.set_num_threads(1)
    base, recipe = Base(MODEL), small_recipe(batch_size=ROWS, sequence_length=LENGTH)
    tokens = np.random.default_rng(0).integers(5, 1000, (ROWS, LENGTH))
    before = peak_mib()
    with base.prepared(recipe, seed=0, checkpointing=bool(checkpointing)) as model:
        started = time.process_time()
        finetune(
            model,
            recipe,
            [Batch(tokens, tokens)] * STEPS,
            steps=STEPS,
            seed=0,
            micro_batch=micro_batch or None,
        )
        seconds = time.process_time() - started
    return {"mib": peak_mib() - before, "seconds": seconds}


def peak_mib() -> float:
    """The largest resident set of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measured(way: str) -> dict[str, float]:
    line = [sys.executable, "-m", "tests.benchmarks.saving", "--child", *map(str, WAYS[way])]
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
        print(json.dumps(measure(*options.child)))
        return
    turns = [{way: measured(way) for way in WAYS} for _ in range(options.turns)]
    figures = {
        way: {
            "mib": statistics.median(turn[way]["mib"] for turn in turns),
            "times": statistics.median(
                turn[way]["seconds"] / turn["neither"]["seconds"] for turn in turns
            ),
        }
        for way in WAYS
    }
    for way, one in figures.items():
        print(f"{way:14}: {one['mib']:5.0f} MiB, {one['times']:.2f} times the processor time")
    print("BENCH " + json.dumps({"name": "saving", "turns": options.turns, "ways": figures}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=saving", description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="measurements of each (default 3)")
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
