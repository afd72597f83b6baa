"""Many LoRA fine-tunes at once, on one forward pass of the frozen base.

The members' losses are summed, so that each member's gradient is its own. Each has its rate,
schedule, decay, clipping, rank, mixture, seed and dropout masks as if alone: it ends where
`supervised.finetune` would, but for the rounding of sums in another order.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, pad

from fitness.buckets.lora import PopulationLoRA
from fitness.errors import InputError
from fitness.inference.streams import Streams
from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Batch
from fitness.models.loading import cuda_devices
from fitness.models.repeatable import repeatable
from fitness.training.state import Curve
from fitness.training.supervised import (
    CURVE_POINTS,
    Diverged,
    TrainingReport,
    extended,
    precise,
    rate_at,
)

CLIP_EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_


def finetune(
    population: PopulationLoRA, batches: Sequence[Iterable[Batch]], *, steps: int
) -> list[TrainingReport | Diverged]:
    """Train every member in place for `steps` steps, each on its own stream of batches.

    Batches have the same number of rows for all members; shorter rows are padded. A member that
    diverges leaves the batch there and then, so that `population.present` has those who went all
    the way; the result has a report or a `Diverged` for each that began, in order. The global
    random state is left as it was.
    """
    model, device = population.base.model, population.base.device
    recipes = [member.recipe for member in population.members]
    outcomes: dict[int, TrainingReport | Diverged] = {}
    curves: list[Curve] = [[] for _ in recipes]
    tokens = [0] * len(recipes)
    coming = list(map(iter, batches))
    every = max(1, steps // CURVE_POINTS)
    factors = [factor for pair in population.factors.values() for factor in pair]
    model.train()
    with (
        torch.random.fork_rng(devices=cuda_devices()),
        repeatable(model, factors, rows=len(recipes)),
    ):
        rates = [recipe.dropout for recipe in recipes]
        streams = Streams([member.seed for member in population.members], device, rates)
        adam = _optimiser(population)
        for step in range(steps):
            present = population.present
            for place, group in zip(present, adam.param_groups, strict=True):
                group["lr"] = recipes[place].learning_rate * rate_at(step, steps, recipes[place])
            drawn = [next(coming[place]) for place in present]
            with streams if population.dropout else nullcontext(), precise(device, recipes[0]):
                losses = _losses(population, drawn)
            population.derive(losses.sum())
            norms = _clip(population)
            told = list(zip(losses.tolist(), norms.tolist(), strict=True))
            for place, (loss, norm), batch in zip(present, told, drawn, strict=True):
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    why = f"loss {loss} and gradient norm {norm} at step {step}"
                    outcomes[place] = Diverged(why)
                tokens[place] += batch.tokens
                curve = curves[place]
                curves[place] = extended(curve, tokens[place], loss, step=step, every=every)
            adam = _without(outcomes, population, streams, adam)
            if not population.present:
                break
            adam.step()
        model.eval()
        for place, row in zip(population.present, population.weights, strict=True):
            if not row.isfinite().all():
                outcomes[place] = Diverged("the last step left weights that are not finite")
        _without(outcomes, population, streams, adam)
    for place in population.present:
        outcomes[place] = TrainingReport(steps, tokens[place], curves[place])
    return [outcomes[place] for place in range(len(recipes))]


def _losses(population: PopulationLoRA, drawn: Sequence[Batch]) -> Any:
    """Each present member's mean loss over its own tokens, (members,); nats per token."""
    model, device = population.base.model, population.base.device
    if any(b.position_ids is not None or b.others or b.learned is not None for b in drawn):
        raise InputError("members learn plain rows of tokens, got more than that; train them alone")
    if len({len(batch.input_ids) for batch in drawn}) > 1:
        rows = ", ".join(str(len(batch.input_ids)) for batch in drawn)
        raise InputError(f"members need batches of equally many rows, got {rows}; train them alone")
    longest = max(batch.input_ids.shape[1] for batch in drawn)
    inputs = torch.from_numpy(np.concatenate([_wide(b.input_ids, longest, 0) for b in drawn]))
    labels = torch.from_numpy(np.concatenate([_wide(b.labels, longest, NO_LABEL) for b in drawn]))
    logits = model(input_ids=inputs.to(device), use_cache=False).logits
    following = pad(labels[:, 1:], (0, 1), value=NO_LABEL).to(device)
    each = zip(logits.chunk(len(drawn)), following.chunk(len(drawn)), strict=True)
    return torch.stack(
        [cross_entropy(told.flatten(0, 1).float(), true.flatten()) for told, true in each]
    )


def _wide(rows: np.ndarray, longest: int, filling: int) -> np.ndarray:
    """Rows padded on the right, where a causal model's other tokens do not see it."""
    return np.pad(rows, ((0, 0), (0, longest - rows.shape[1])), constant_values=filling)


def _clip(population: PopulationLoRA) -> Any:
    """Scale each member's gradient down to its largest norm; the norms before, (members,)."""
    recipes = [population.members[place].recipe for place in population.present]
    norms = population.gradients.norm(dim=1)
    largest = torch.tensor([recipe.clip_norm or math.inf for recipe in recipes]).to(norms)
    population.gradients *= (largest / (norms + CLIP_EPSILON)).clamp(max=1.0)[:, None]
    return norms


def _optimiser(population: PopulationLoRA) -> Any:
    """AdamW with a group for each present member: one row of weights, all of them of matrices."""
    groups = []
    for place, number in enumerate(population.present):
        recipe = population.members[number].recipe
        groups.append(
            {
                "params": [population.row(place)],
                "betas": (0.9, recipe.beta2),
                "weight_decay": recipe.weight_decay,
            }
        )
    return torch.optim.AdamW(groups, fused=True)


def _without(gone: Collection[int], population: PopulationLoRA, streams: Streams, adam: Any) -> Any:
    """Let members leave the batch; the optimiser of those who stay, with its moments."""
    kept = [place for place, number in enumerate(population.present) if number not in gone]
    if len(kept) == len(population.present):
        return adam
    moments = [adam.state[group["params"][0]] for group in adam.param_groups]
    rates = [group["lr"] for group in adam.param_groups]
    population.keep(kept)
    streams.keep(kept)
    if not kept:
        return adam
    smaller = _optimiser(population)
    for group, place in zip(smaller.param_groups, kept, strict=True):
        group["lr"] = rates[place]
        if moments[place]:
            smaller.state[group["params"][0]] = moments[place]
    return smaller
