"""Choose the loss of a batch: plain text by the model's task, other records by the method."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fitness.inference.sampling import Answering, continued
from fitness.methods import USES
from fitness.mixture.mixing import Batch
from fitness.plugins import load_function
from fitness.recipe import Recipe
from fitness.training.reference import Reference
from fitness.training.supervised import Loss, cross_entropy

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STEPS = 1_000_003  # more than a fine-tune has, so that every step has answers of its own


@dataclass(frozen=True, slots=True)
class Learning:
    """Inputs of the loss of a use, besides the model and the draws; the seed is of one step."""

    recipe: Recipe
    reference: Reference
    tokenizer: "PreTrainedTokenizerBase"
    seed: int
    class_weights: "Tensor | None" = None  # (classes,)
    rewarded: list[Any] | None = None  # to which `reinforce` adds the rewards of each batch
    answer: Answering = continued  # that `reinforce` calls


def objective(
    recipe: Recipe,
    reference: Reference,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    seed: int,
    learn: Loss = cross_entropy,
    class_weights: "Tensor | None" = None,
    rewarded: dict[int, list[Any]] | None = None,
    answer: Answering = continued,
) -> Loss:
    """The mean loss over a batch's draws, each by the loss of its use.

    `learn` is the loss of packed sequences, for plain supervised learning. To `rewarded` the
    rewards of reinforced answers are added, by step; `answer` samples these answers.
    """

    def loss_of(model: "PreTrainedModel", batch: Batch, step: int) -> "Tensor":
        if not batch.others:
            return learn(model, batch, step)
        summed = []  # losses, by use
        if len(batch.input_ids):
            summed.append(learn(model, batch, step) * batch.rows_drawn)
        told = None if rewarded is None else rewarded.setdefault(step, [])
        now = seed * STEPS + step
        learning = Learning(recipe, reference, tokenizer, now, class_weights, told, answer)
        for use in sorted({draw.use for draw in batch.others}):
            draws = [draw for draw in batch.others if draw.use == use]
            loss = load_function(USES[use].loss, "loss")
            summed.append(loss(model, draws, learning) * len(draws))
        first, *more = summed
        return sum(more, first) / (batch.rows_drawn + len(batch.others))

    return loss_of
