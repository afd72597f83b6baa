"""Measure the fastest size of a bucket on this machine: a second or two for a small model."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fitness.buckets import training
from fitness.buckets.lora import Member, lent
from fitness.mixture.mixing import Batch
from fitness.models.base import Base
from fitness.recipe import Recipe
from fitness.training.supervised import finetune

LARGEST = 8
GAIN = 1.1  # a smaller speed-up is noise, or not worth it
REPETITIONS = 3
STEPS = 2
SECONDS = 20.0  # CPU time after which no larger size is tried


def fastest(base: Base, recipe: Recipe) -> int:
    """The size of a bucket of such recipes that trains fastest; 1 where none gains a tenth.

    The size is doubled while that speeds training up and time is left. Both sizes are measured in
    turn, and the fastest time of each counts: noise only adds. The recipe's own adapter does not
    matter: LoRA is used.
    """
    lora = recipe.model_copy(update={"adapter": "lora"})
    size, begun = 1, time.process_time()
    while size < LARGEST and time.process_time() < begun + SECONDS:
        smaller, larger = [], []
        for _ in range(REPETITIONS):
            smaller.append(step_seconds(base, lora, size if size > 1 else 0, STEPS))
            larger.append(step_seconds(base, lora, 2 * size, STEPS))
        if min(smaller) < GAIN * min(larger):
            break
        size *= 2
    return size


def step_seconds(base: Base, recipe: Recipe, size: int, steps: int) -> float:
    """Seconds of a training step for one member of a bucket of `size`; 0: of a solo run.

    Measured on random tokens, after a first step for warming up. CPU seconds, which other processes
    do not add to; on a GPU, which works asynchronously to the CPU, elapsed seconds.
    """
    clock = time.process_time if base.device.type == "cpu" else time.perf_counter
    members = [Member(recipe, seed=number) for number in range(max(1, size))]
    batches = [list(_batches(base, recipe, member.seed, steps)) for member in members]
    if not size:
        with base.prepared(recipe, seed=0) as model:
            finetune(model, recipe, batches[0][:1], steps=1, seed=0)
            begun = clock()
            finetune(model, recipe, batches[0][1:], steps=steps, seed=0)
            return (clock() - begun) / steps
    with lent(base, members) as bucket:
        training.finetune(bucket, [own[:1] for own in batches], steps=1)
        begun = clock()
        training.finetune(bucket, [own[1:] for own in batches], steps=steps)
        return (clock() - begun) / steps / size


def _batches(base: Base, recipe: Recipe, seed: int, steps: int) -> Iterator[Any]:
    rng = np.random.default_rng(seed)
    shape = (recipe.batch_size, recipe.sequence_length)
    for _ in range(steps + 1):
        tokens = rng.integers(0, base.model.config.get_text_config().vocab_size, shape)
        yield Batch(tokens, tokens)
