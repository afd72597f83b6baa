"""Memory of a worker after many evaluations: `make bench NAME=memory`, 3 minutes.

200 evaluations of all kinds, one after the other, in one process: all weights, LoRA and DoRA,
other ranks, batches, lengths, precisions and dropout, some that diverge, some in parts or with
activations computed anew. 25 recipes take turns, so that after the first 50 no shape of tensors is
new: for each new one torch keeps the kernels it has made. Resident memory is read each 50; beside
it, the weights on disk, of which those off the front are deleted as in a search.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from evo.record.artifacts import Artifacts
from fitness.data.sources import TokenFile
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec, Split, Status
from population.individual import Individual
from tests.fitness.quickstart import small_recipe, small_task, token_file

EVERY = 50


def recipe_of(rng: np.random.Generator) -> dict[str, Any]:
    """A recipe drawn from nearly all that there is; one in ten diverges."""
    drawn: dict[str, Sequence[Any]] = {
        "adapter": ("none", "lora", "dora"),
        "lora_rank": (2, 8, 32),
        "lora_targets": ("all", "attention", "mlp"),
        "dropout": (0.0, 0.1),
        "precision": ("float32", "bfloat16"),
        "batch_size": (2, 4, 8),
        "sequence_length": (24, 48),
        "learning_rate": (*10.0 ** rng.uniform(-4, -2, 9), 10.0),
    }
    chosen = {name: options[int(rng.integers(len(options)))] for name, options in drawn.items()}
    if chosen["learning_rate"] == 10.0:
        chosen |= {"warmup_share": 0.0, "clip_norm": 0.0}
    return small_recipe(**chosen).model_dump(mode="json")


def main() -> None:
    options = _options()
    rng = np.random.default_rng(0)
    process, resident = psutil.Process(), []
    failed = most = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary) / "artifacts", Path(temporary) / "cache"
        task = small_task(cache, artifacts=folder)
        general = token_file("held_out/general.selection.jsonl", cache, limit=20)
        held_out: Mapping[Split, TokenFile] = {"selection": general, "test": general}
        task = replace(task, domains={**task.domains, "general": held_out})
        evaluators = [
            Evaluator(task),
            Evaluator(replace(task, micro_batch=2, checkpointing=True)),
        ]
        artifacts = Artifacts(folder)
        recipes = [recipe_of(rng) for _ in range(options.recipes)]
        for number in range(options.evaluations):
            spec = EvaluationSpec(number, recipes[number % len(recipes)], seed=number)
            done = evaluators[number % 2].evaluate(spec)
            failed += done.status is Status.DIVERGED
            if done.status not in (Status.OK, Status.DIVERGED):
                raise SystemExit(done.message)
            scores = tuple(done.measurements.get(f"{name}/loss", np.inf) for name in task.domains)
            artifacts.keep_or_delete(Individual(number, {}, losses=scores))
            kept = len(list(folder.iterdir())) if folder.exists() else 0
            most = max(most, kept)
            if (number + 1) % EVERY == 0:
                resident.append(process.memory_info().rss / 2**20)
                print(f"{number + 1:4} evaluations: {resident[-1]:.1f} MiB, {kept} on disk")
    grown = resident[-1] - resident[0]
    print(f"grown by {grown:.1f} MiB since the first {EVERY}; {failed} diverged; most kept: {most}")
    figures = {"resident_mib": resident, "grown_mib": grown, "diverged": failed, "most_kept": most}
    print("BENCH " + json.dumps({"name": "memory", "evaluations": options.evaluations, **figures}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=memory", description=__doc__)
    parser.add_argument("--evaluations", type=int, default=200, help="in all (default 200)")
    parser.add_argument("--recipes", type=int, default=25, help="that take turns (default 25)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
