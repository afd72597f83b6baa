"""Tokens a second of evomix's training loop beside a bare one, of compiled layers, of answers."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fitness.data.tokenizer import load_tokenizer
from fitness.inference import log_probabilities
from fitness.inference.sampling import continued, numbers_of
from fitness.mixture.mixing import Batch
from fitness.models.adapters import layers
from fitness.models.base import Base
from fitness.models.folders import parameters
from fitness.recipe import Recipe
from fitness.training.state import Curve
from fitness.training.supervised import finetune
from tests.fitness.quickstart import MODEL

REPETITIONS = 3  # of each in turn: the best counts, since noise only adds


@dataclass(frozen=True)
class Shape:
    """A Llama with weights drawn at random, and what it is trained on."""

    width: int
    inner: int
    layers: int
    heads: int
    groups: int
    vocabulary: int
    rows: int
    length: int
    steps: int


BILLION = Shape(2048, 8192, 16, 32, 8, 128_256, rows=4, length=1024, steps=8)  # of Llama 3.2 1B
TINY = Shape(64, 256, 2, 4, 2, 1024, rows=2, length=64, steps=2)


def compared(folder: Path, shape: Shape) -> tuple[float, float, int]:
    """Tokens a second of `finetune` and of the bare loop, and the weights of the base."""
    base, recipe = base_of(folder, shape), recipe_of(shape)
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(REPETITIONS):
        for loop, seconds in ((_ours, ours), (_bare, bare)):
            with base.prepared(recipe, seed=0) as model:
                model.train()
                loop(model, recipe, _batches(shape, 1))  # warms up
                seconds.append(_timed(lambda: loop(model, recipe, _batches(shape, shape.steps))))  # noqa: B023
    tokens = shape.steps * shape.rows * shape.length
    return tokens / min(ours), tokens / min(bare), parameters(folder)


def answering(folder: Path, shape: Shape, rows: int) -> float:
    """Tokens a second of sampled answers, `rows` at once, as many tokens as their prompts have."""
    model, each = base_of(folder, shape).model, shape.length // 4
    prompts = np.random.default_rng(0).integers(1, shape.vocabulary, (rows, each)).tolist()

    def answer() -> int:
        found = continued(
            *(model, prompts, numbers_of(0, each)),
            ends=(0,),
            max_new_tokens=each,
            temperature=1.0,
        )
        return sum(len(one.tokens) for one in found)

    answer()  # warms up
    counted: list[int] = []
    seconds = _timed(lambda: counted.append(answer()))
    return counted[0] / seconds


def compiled(folder: Path, shape: Shape) -> tuple[float, float]:
    """Seconds of a step with compiled layers over those without, and of the compilation."""
    base, recipe = base_of(folder, shape), recipe_of(shape)
    found = []
    for faster in (False, True):
        with base.prepared(recipe, seed=0) as model:
            for layer in layers(model) if faster else ():
                layer.compile()
            first = _timed(lambda: _ours(model, recipe, _batches(shape, 1)))
            found += [first, _timed(lambda: _ours(model, recipe, _batches(shape, shape.steps)))]
    plain, usual, compiling, fast = found
    return fast / usual, compiling - plain


@dataclass(frozen=True)
class Parts:
    """Logits computed in parts, beside all of them at once."""

    apart: float  # relative difference of the last step's loss
    seconds: float  # of the time
    memory: float | None  # of the peak memory beyond the base; on a GPU


def in_parts(folder: Path, shape: Shape) -> Parts:
    """The same steps with an eighth of the logits at a time, and with all of them."""
    base, recipe = base_of(folder, shape), recipe_of(shape)
    logits = shape.rows * shape.length * shape.vocabulary
    usual, found = log_probabilities.LOGITS_AT_ONCE, []
    try:
        for at_once in (logits, logits // 8):
            log_probabilities.LOGITS_AT_ONCE = at_once
            with base.prepared(recipe, seed=0) as model:
                _ours(model, recipe, _batches(shape, 1))  # warms up
                curve: Curve = []
                before = _forget_peak()
                seconds = _timed(
                    lambda: curve.extend(_ours(model, recipe, _batches(shape, shape.steps)))  # noqa: B023
                )
                peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
                found.append((curve[-1][1], seconds, peak - before))
    finally:
        log_probabilities.LOGITS_AT_ONCE = usual
    (whole, slow, most), (loss, seconds, least) = found
    return Parts(abs(loss - whole) / whole, seconds / slow, least / most if most else None)


def _forget_peak() -> int:
    """Bytes of the GPU that are taken, of which its peak begins anew; 0 without one."""
    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def recipe_of(shape: Shape) -> Recipe:
    return Recipe(
        adapter="lora",
        precision="bfloat16",
        lora_rank=16,
        learning_rate=1e-4,
        batch_size=shape.rows,
        sequence_length=shape.length,
    )


def base_of(folder: Path, shape: Shape) -> Base:
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.length,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    load_tokenizer(MODEL).save_pretrained(folder)
    return Base(folder, "bfloat16")


def _batches(shape: Shape, steps: int) -> Iterator[Batch]:
    rng = np.random.default_rng(steps)
    for _ in range(steps):
        rows = rng.integers(0, shape.vocabulary, (shape.rows, shape.length))
        yield Batch(rows, rows)


def _ours(model: Any, recipe: Recipe, batches: Iterator[Batch]) -> Curve:
    all_of_them = list(batches)
    report = finetune(model, recipe, all_of_them, steps=len(all_of_them), seed=0)
    return report.learning_curve


def _bare(model: Any, recipe: Recipe, batches: Iterator[Batch]) -> None:
    """A training loop written by hand: autocast, the model's own loss, fused AdamW, clipping."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    adam = torch.optim.AdamW(weights, lr=recipe.learning_rate, fused=True)
    device = weights[0].device
    model.train()
    for batch in batches:
        rows = torch.from_numpy(batch.input_ids).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)


def _timed(work: Callable[[], object]) -> float:
    _wait()
    started = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
