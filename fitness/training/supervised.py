"""Supervised fine-tuning: next-token cross-entropy on a stream of batches, AdamW."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fitness.models import cuda_devices
from fitness.recipe import Recipe

CURVE_POINTS = 20


class Diverged(Exception):
    """The loss or the gradient left the finite numbers; the message says at which step."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a fine-tune did: optimiser steps, tokens seen, and (tokens, nats per token) pairs."""

    steps: int
    tokens: int
    learning_curve: list[tuple[int, float]] = field(default_factory=list)


def precise(device: Any, recipe: Recipe) -> Any:
    """A context in which a model computes in the recipe's precision."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """The share of the peak learning rate at `step` of `steps`: linear warm-up, then the decay.

    Linear and cosine decay end at zero one step after the last one.
    """
    warmup = round(recipe.warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if recipe.decay == "linear":
        return 1.0 - progress
    if recipe.decay == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


def optimiser(model: Any, recipe: Recipe) -> Any:
    """AdamW over what the model trains; weight decay on matrices only (Loshchilov, Hutter 2019)."""
    import torch

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(
        [
            {
                "params": [w for w in trained if w.ndim >= 2],
                "weight_decay": recipe.weight_decay,
            },
            {"params": [w for w in trained if w.ndim < 2], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, recipe.beta2),
        fused=True,
    )


def finetune(
    model: Any, recipe: Recipe, batches: Iterable[tuple[Any, Any]], *, steps: int, seed: int
) -> TrainingReport:
    """Train `model` in place on `steps` batches of (input_ids, labels), int64 arrays (b, length).

    `seed` decides the dropout masks; the global random state is left as it was. Raises Diverged.
    """
    import torch

    model.train()
    adam = optimiser(model, recipe)
    trained = [weight for group in adam.param_groups for weight in group["params"]]
    device = trained[0].device
    every = max(1, steps // CURVE_POINTS)
    curve: list[tuple[int, float]] = []
    done = tokens = 0
    with torch.random.fork_rng(devices=cuda_devices()):
        torch.manual_seed(seed)
        for step, (inputs, labels) in enumerate(batches):
            for group in adam.param_groups:
                group["lr"] = recipe.learning_rate * rate_at(step, steps, recipe)
            with precise(device, recipe):  # left each step: it holds copies of the weights
                loss = model(
                    input_ids=torch.from_numpy(inputs).to(device),
                    labels=torch.from_numpy(labels).to(device),
                    use_cache=False,
                ).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, recipe.clip_norm or math.inf)
            if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                raise Diverged(f"loss {loss.item()} and gradient norm {norm.item()} at step {step}")
            adam.step()
            adam.zero_grad(set_to_none=True)
            tokens += int((labels >= 0).sum())
            done += 1
            if step % every == 0 or step == steps - 1:
                curve.append((tokens, loss.item()))
    model.eval()
    if not all(weight.isfinite().all() for weight in trained):
        raise Diverged("the last step left weights that are not finite")
    return TrainingReport(steps=done, tokens=tokens, learning_curve=curve)
