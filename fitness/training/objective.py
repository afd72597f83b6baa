"""The loss of a batch under a recipe's method: of what is learned, compared, rated, answered."""

from typing import Any

from fitness.mixing import Batch
from fitness.recipe import Recipe
from fitness.training.preference import Reference, preference_loss
from fitness.training.supervised import Loss, cross_entropy


def objective(recipe: Recipe, reference: Reference) -> Loss:
    """The mean over a batch's draws, each part of them by its own loss."""

    def loss_of(model: Any, batch: Batch) -> Any:
        learned = len(batch.input_ids)
        if not batch.others:
            return cross_entropy(model, batch)
        compared = [draw for draw in batch.others if draw.use == "compare"]
        rated = [draw for draw in batch.others if draw.use == "rate"]
        judged = preference_loss(model, compared, rated, recipe, reference) * len(batch.others)
        if learned:
            judged = judged + cross_entropy(model, batch) * learned
        return judged / (learned + len(batch.others))

    return loss_of
