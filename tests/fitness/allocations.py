"""The most memory that a fine-tune takes at a time, as PyTorch's allocators count it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from fitness.evaluate import memory
from fitness.evaluation import Task
from fitness.mixture.mixing import Batch
from fitness.models.base import Base
from fitness.models.quantisation import stored
from fitness.recipe import Recipe
from fitness.training.supervised import finetune


def measured(task: Task, recipe: Recipe) -> int:
    """Bytes, over two steps on plain text and the scoring of held-out text."""
    assert task.model is not None
    peaks: list[int] = []
    if torch.cuda.is_available():
        with _on_gpu(peaks):
            base = Base.of(task)
            _run(base, task, recipe)
        return peaks[0]
    base = Base.of(task)
    held = sum(one.numel() * one.element_size() for one in stored(base.model.parameters()))
    with _on_cpu(peaks):
        _run(base, task, recipe)
    return held + peaks[0]


def _run(base: Base, task: Task, recipe: Recipe) -> None:
    tokens = np.ones((recipe.batch_size, recipe.sequence_length), dtype=np.int64)
    batches = [Batch(tokens, tokens)] * 2
    rows = task.micro_batch if isinstance(task.micro_batch, int) else None
    with base.prepared(recipe, seed=0, checkpointing=task.checkpointing) as model:
        finetune(model, recipe, batches, steps=2, seed=0, micro_batch=rows)
        memory._score(model, task, recipe)


@contextmanager
def _on_gpu(peaks: list[int]) -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield
    peaks.append(torch.cuda.max_memory_allocated() - before)


@contextmanager
def _on_cpu(peaks: list[int]) -> Iterator[None]:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        yield
    inner: Any = seen.profiler
    events = [one for one in inner.kineto_results.events() if one.name() == "[memory]"]
    changes = [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]
    peaks.append(int(np.cumsum(changes).max()))
