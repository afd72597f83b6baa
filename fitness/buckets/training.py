"""Train a bucket: many LoRA fine-tunes at once, on one forward pass of the frozen base.

The members' losses are summed; as no parameter is shared, each member's gradient is its own. Each
has its own learning rate, schedule, weight decay, clipping, rank, mixture, seed and dropout masks:
the result is that of `supervised.finetune`, but for the rounding of sums in another order.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext

import numpy as np
import torch

from fitness.buckets.lora import BucketLoRA
from fitness.errors import InputError
from fitness.inference.log_probabilities import token_losses
from fitness.inference.streams import Streams
from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Batch, Rows
from fitness.models.loading import cuda_devices
from fitness.models.repeatable import repeatable
from fitness.training.optimisers import rate_at
from fitness.training.state import Curve
from fitness.training.supervised import (
    CURVE_POINTS,
    Diverged,
    TrainingReport,
    extended,
    precise,
)

CLIP_EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_


def finetune(
    bucket: BucketLoRA, batches: Sequence[Iterable[Batch]], *, steps: int
) -> list[TrainingReport | Diverged]:
    """Train every member in place for `steps` steps, each on its own stream of batches.

    Batches have the same number of rows for all members; shorter rows are padded. A member that
    diverges leaves the batch at once, so that `bucket.present` has those that finished; the
    result has a report or a `Diverged` for each member, in order. The global random state is
    restored.
    """
    model, device = bucket.base.model, bucket.base.device
    recipes = [member.recipe for member in bucket.members]
    outcomes: dict[int, TrainingReport | Diverged] = {}
    curves: list[Curve] = [[] for _ in recipes]
    tokens = [0] * len(recipes)
    coming = list(map(iter, batches))
    every = max(1, steps // CURVE_POINTS)
    factors = [factor for pair in bucket.factors.values() for factor in pair]
    model.train()
    with (
        torch.random.fork_rng(devices=cuda_devices()),
        repeatable(model, factors, rows=len(recipes)),
    ):
        rates = [recipe.dropout for recipe in recipes]
        streams = Streams([member.seed for member in bucket.members], device, rates)
        adam = _optimiser(bucket)
        for step in range(steps):
            present = bucket.present
            for place, group in zip(present, adam.param_groups, strict=True):
                group["lr"] = recipes[place].learning_rate * rate_at(step, steps, recipes[place])
            drawn = [next(coming[place]) for place in present]
            with streams if bucket.dropout else nullcontext(), precise(device, recipes[0]):
                losses = _losses(bucket, drawn)
            bucket.derive(losses.sum())
            norms = _clip(bucket)
            figures = list(zip(losses.tolist(), norms.tolist(), strict=True))
            for place, (loss, norm), batch in zip(present, figures, drawn, strict=True):
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    why = f"loss {loss} and gradient norm {norm} at step {step}"
                    outcomes[place] = Diverged(why)
                tokens[place] += batch.tokens
                curve = curves[place]
                curves[place] = extended(curve, tokens[place], loss, step=step, every=every)
            adam = _without(outcomes, bucket, streams, adam)
            if not bucket.present:
                break
            adam.step()
        model.eval()
        for place, row in zip(bucket.present, bucket.weights, strict=True):
            if not row.isfinite().all():
                outcomes[place] = Diverged("the last step left weights that are not finite")
        _without(outcomes, bucket, streams, adam)
    for place in bucket.present:
        outcomes[place] = TrainingReport(steps, tokens[place], curves[place])
    return [outcomes[place] for place in range(len(recipes))]


def _losses(bucket: BucketLoRA, drawn: Sequence[Batch]) -> torch.Tensor:
    """Mean loss of each active member over its own tokens, (members,); nats per token."""
    if any(batch.others or batch.learned is not None for batch in drawn):
        raise InputError("a bucket trains on rows of tokens only; train these members alone")
    if len({len(batch.input_ids) for batch in drawn}) > 1:
        rows = ", ".join(str(len(batch.input_ids)) for batch in drawn)
        raise InputError(f"members need batches of equally many rows, got {rows}; train them alone")
    longest = max(batch.input_ids.shape[1] for batch in drawn)
    together = Rows(
        np.concatenate([_wide(batch.input_ids, longest, 0) for batch in drawn]),
        np.concatenate([_wide(batch.labels, longest, NO_LABEL) for batch in drawn]),
        _positions(drawn, longest),
    )
    each = token_losses(bucket.base.model, together).chunk(len(drawn))
    learned = [int((batch.labels[:, 1:] != NO_LABEL).sum()) for batch in drawn]
    return torch.stack([own.sum() / count for own, count in zip(each, learned, strict=True)])


def _positions(drawn: Sequence[Batch], longest: int) -> np.ndarray | None:
    """Positions that restart in each record of a row, (rows, longest); None if a row is one text.

    Padding at the end of a row is a record of its own at each place, which nothing looks at.
    """
    if all(batch.position_ids is None for batch in drawn):
        return None
    each = [
        np.broadcast_to(np.arange(batch.input_ids.shape[1]), batch.input_ids.shape)
        if batch.position_ids is None
        else batch.position_ids
        for batch in drawn
    ]
    return np.concatenate([_wide(positions, longest, 0) for positions in each])


def _wide(rows: np.ndarray, longest: int, filling: int) -> np.ndarray:
    """Pad rows on the right, which in a causal model does not change the tokens before."""
    return np.pad(rows, ((0, 0), (0, longest - rows.shape[1])), constant_values=filling)


def _clip(bucket: BucketLoRA) -> torch.Tensor:
    """Clip each member's gradient to its recipe's norm; return the norms before, (members,)."""
    recipes = [bucket.members[place].recipe for place in bucket.present]
    norms = bucket.gradients.norm(dim=1)
    largest = torch.tensor([recipe.clip_norm or math.inf for recipe in recipes]).to(norms)
    bucket.gradients *= (largest / (norms + CLIP_EPSILON)).clamp(max=1.0)[:, None]
    return norms


def _optimiser(bucket: BucketLoRA) -> torch.optim.AdamW:
    """AdamW with a group for each active member: one row of weights, all of matrices."""
    groups = []
    for place, number in enumerate(bucket.present):
        recipe = bucket.members[number].recipe
        groups.append(
            {
                "params": [bucket.row(place)],
                "betas": (0.9, recipe.beta2),
                "weight_decay": recipe.weight_decay,
            }
        )
    return torch.optim.AdamW(groups, fused=True)


def _without(
    gone: Collection[int], bucket: BucketLoRA, streams: Streams, adam: torch.optim.AdamW
) -> torch.optim.AdamW:
    """Drop members from the batch; return the optimiser of the others, with its moments."""
    kept = [place for place, number in enumerate(bucket.present) if number not in gone]
    if len(kept) == len(bucket.present):
        return adam
    moments = [adam.state[group["params"][0]] for group in adam.param_groups]
    rates = [group["lr"] for group in adam.param_groups]
    bucket.keep(kept)
    streams.keep(kept)
    if not kept:
        return adam
    smaller = _optimiser(bucket)
    for group, place in zip(smaller.param_groups, kept, strict=True):
        group["lr"] = rates[place]
        if moments[place]:
            smaller.state[group["params"][0]] = moments[place]
    return smaller
