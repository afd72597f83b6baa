"""The training loop on a stream of batches, and its plainest loss: cross-entropy."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from fitness.inference.log_probabilities import inputs_of, large_head, token_losses
from fitness.methods import USES
from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Batch, separate, stacked
from fitness.models.base import cuda_devices
from fitness.models.repeatable import repeatable
from fitness.recipe import Recipe
from fitness.training import accumulation
from fitness.training.optimisers import optimisers, rate_at, trained_by
from fitness.training.ranks import ALONE, Ranks
from fitness.training.sharding import whole
from fitness.training.state import NOT_BEGUN, Curve, TrainingState, capture, restore

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

CURVE_POINTS = 20
# Of a model on the batch of a step: a scalar.
Loss = Callable[["PreTrainedModel", Batch, int], "Tensor"]


class Diverged(Exception):
    """The loss or the gradient is not finite; the message gives the step."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """Result of a fine-tune: optimiser steps and tokens, without those before it was resumed.

    The learning curve, (tokens, nats per token) pairs, is that of the whole fine-tune so far, each
    the mean over the steps since the pair before. `micro_batch` rows were computed at once, None:
    all of them.
    """

    steps: int
    tokens: int
    learning_curve: Curve = field(default_factory=list)
    micro_batch: int | None = None


def precise(device: "torch.device", recipe: Recipe) -> "torch.autocast":
    """A context in which a model computes in the recipe's precision.

    The cache of rounded weights is off: a copy made without gradients, or of other weights put in
    place of the model's, would be reused for the model's own.
    """
    import torch

    rounded = recipe.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=rounded, cache_enabled=False)


def cross_entropy(model: "PreTrainedModel", rows: Batch, step: int) -> "Tensor":
    """Mean next-token cross-entropy over the labels of all rows, nats per token, at any step."""
    import torch

    if large_head(model, rows) is not None:
        return token_losses(model, rows).sum() / int((rows.labels[:, 1:] != NO_LABEL).sum())
    inputs = inputs_of(model, rows)
    labels = torch.from_numpy(rows.labels).to(inputs["input_ids"].device)
    return model(**inputs, labels=labels).loss


def extended(curve: Curve, tokens: int, loss: float, *, step: int, every: int) -> Curve:
    """A learning curve with one more step: a point for the first step, then one for `every` steps.

    A point is the mean over its steps, as a single batch is noisy; the latest may have fewer steps.
    """
    count = (step - 1) % every + 1 if step else 1
    if count > 1:
        _, before = curve[-1]
        return [*curve[:-1], (tokens, before + (loss - before) / count)]
    return [*curve, (tokens, loss)]


def finetune(
    model: "PreTrainedModel",
    recipe: Recipe,
    batches: Iterable[Batch],
    *,
    steps: int,
    seed: int,
    loss_of: Loss = cross_entropy,
    begin: TrainingState = NOT_BEGUN,
    until: int | None = None,
    keep: Callable[[TrainingState], None] | None = None,
    micro_batch: int | None = None,
    halving: bool = False,
    undo: Callable[[int], object] = lambda step: None,
    stop: Callable[[int], bool] | None = None,
    ranks: Ranks = ALONE,
) -> TrainingReport:
    """Train `model` in place on batches, by default to predict their labels.

    A fine-tune has `steps` steps; this call does those from `begin` to `until` (by default all),
    and `batches` starts with the first of them. In parts or at once, the weights are the same.
    `keep` is called with the final state, before anything else can change it.
    `micro_batch` rows are computed at a time and their gradients summed; None is the whole batch.
    With `halving`, they are halved as often as memory runs short, and stay so; `undo` is called
    with the step that is computed again.
    `stop` is called after each step with the number of steps done; true ends the fine-tune.
    With several `ranks`, each calls this function and computes its part of every batch.
    `seed` decides the dropout masks; the global random state is restored. Raises Diverged.
    """
    import torch

    model.train()
    every_optimiser = optimisers(model, recipe)
    trained = trained_by(*every_optimiser)
    device = trained[0].device
    every = max(1, steps // CURVE_POINTS)
    curve, tokens, done = list(begin.learning_curve), begin.tokens, begin.step
    with torch.random.fork_rng(devices=cuda_devices()), repeatable(model, trained):
        torch.manual_seed(ranks.seed(seed))
        if begin.tensors:
            restore(begin, every_optimiser)
        coming = range(begin.step, steps if until is None else until)
        for step, batch in zip(coming, batches, strict=False):
            for group in (group for one in every_optimiser for group in one.param_groups):
                group["lr"] = recipe.learning_rate * rate_at(step, steps, recipe)
            derived = partial(_derived, model, recipe, batch, step, loss_of, ranks)
            if halving:
                total, micro_batch = accumulation.halving(
                    derived,
                    micro_batch,
                    batch=batch.sequences,
                    device=device,
                    undo=partial(_forget, model, undo, step),
                )
            else:
                total = derived(micro_batch)
            total = ranks.add(total, trained)
            limit = recipe.clip_norm or math.inf
            norm = float(whole(torch.nn.utils.clip_grad_norm_(trained, limit)))
            if not (math.isfinite(total) and math.isfinite(norm)):
                fault = _at_fault(model, recipe, batch, step, loss_of)
                raise Diverged(f"loss {total} and gradient norm {norm} at step {step}{fault}")
            for one in every_optimiser:
                one.step()
                one.zero_grad(set_to_none=True)
            tokens += batch.tokens
            done = step + 1
            curve = extended(curve, tokens, total, step=step, every=every)
            if stop is not None and stop(done):
                break
        model.eval()
        if not all(whole(weight.isfinite().all()) for weight in trained):
            raise Diverged("the last step left weights that are not finite")
        if keep is not None:
            keep(capture(every_optimiser, step=done, tokens=tokens, learning_curve=curve))
    return TrainingReport(done - begin.step, tokens - begin.tokens, curve, micro_batch)


def _forget(model: "PreTrainedModel", undo: Callable[[int], object], step: int) -> None:
    model.zero_grad(set_to_none=True)
    undo(step)


def _derived(
    model: "PreTrainedModel",
    recipe: Recipe,
    batch: Batch,
    step: int,
    loss_of: Loss,
    ranks: Ranks,
    rows: int | None,
) -> float:
    """Add the gradients of a batch's loss to those of the weights, `rows` rows at once.

    Returns this process's share of the loss.
    """
    device, total = next(model.parameters()).device, 0.0
    for part, share in ranks.parts(batch, rows):
        with precise(device, recipe):
            loss = share * loss_of(model, part, step)
        loss.backward()
        total += loss.item()
    return total


def _at_fault(
    model: "PreTrainedModel", recipe: Recipe, batch: Batch, step: int, loss_of: Loss
) -> str:
    """Name the record of a batch whose loss is not finite; if all are, the weights are at fault.

    Each record is computed alone, once and without dropout, so that all processes name the same
    one; a diverged fine-tune ends here. Empty where every loss is finite: then a gradient is at
    fault.
    """
    import torch

    model.eval()
    device = next(model.parameters()).device
    faults, sound = [], False
    for name, alone in _each(batch):
        with torch.no_grad(), precise(device, recipe):
            loss = float(loss_of(model, alone, step))
        if math.isfinite(loss):
            sound = True
        else:
            faults.append(f"; the loss of {name} is {loss}")
        if faults and sound:
            break
    if len(faults) > 1 and not sound:
        return "; no record of its batch has a finite loss, so that the weights are at fault"
    return faults[0] if faults else ""


def _each(batch: Batch) -> Iterator[tuple[str, Batch]]:
    """The documents and records of a batch by name, each as a batch of its own."""
    for draw in batch.draws:
        begin = draw.number
        for place, part in enumerate(separate(draw.sequences[0])):
            name = f"the text from token {begin + 1:,} on"
            if draw.answers:
                name = f"answer {draw.answers[place] + 1:,}"
            begin += len(part.tokens)
            if (part.labels[1:] != NO_LABEL).any():  # else its mean loss would be no number
                yield f"{name} of source {draw.source!r}", Batch(*stacked([part]))
    for draw in batch.others:
        if USES[draw.use].shape != "prompt":
            empty = batch.input_ids[:0], batch.labels[:0]
            yield (
                f"record {draw.number + 1} of source {draw.source!r}",
                Batch(*empty, None, 0, (draw,)),
            )
