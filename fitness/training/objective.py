"""The loss of a batch under a recipe's method: supervised, preference, or reinforcement draws."""

from typing import TYPE_CHECKING, Any

from fitness.mixture.mixing import Batch
from fitness.recipe import Recipe
from fitness.training.classification import classification_loss
from fitness.training.preference import Reference, preference_loss
from fitness.training.reinforce import reinforced
from fitness.training.supervised import Loss, cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STEPS = 1_000_003  # more than a fine-tune has, so that every step has answers of its own


def objective(
    recipe: Recipe,
    reference: Reference,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    seed: int,
    learn: Loss = cross_entropy,
) -> Loss:
    """The mean loss over a batch's draws, each by the loss of its use.

    `learn` is the loss of draws for plain supervised learning.
    """

    def loss_of(model: Any, batch: Batch, step: int) -> Any:
        if not batch.others:
            return learn(model, batch, step)
        total = 0.0
        if len(batch.input_ids):
            total += learn(model, batch, step) * batch.rows_drawn
        for use in sorted({draw.use for draw in batch.others}):
            draws = [draw for draw in batch.others if draw.use == use]
            if use == "classify":
                loss = classification_loss(model, draws)
            elif use == "answer":
                own = seed * STEPS + step
                loss = reinforced(model, draws, recipe, reference, tokenizer, seed=own)
            else:
                loss = preference_loss(model, draws, recipe, reference)
            total += loss * len(draws)
        return total / (batch.rows_drawn + len(batch.others))

    return loss_of
