"""Training a reward model: the chosen of two answers to a prompt has the higher reward.

Bradley and Terry 1952, as in InstructGPT (Ouyang et al. 2022, eq. 1).
"""

from collections.abc import Sequence as Listed
from typing import TYPE_CHECKING

from fitness.mixture.decks import Draw, Sequence
from fitness.training.classification import class_logits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def rewards_of(model: "PreTrainedModel", texts: Listed[Sequence]) -> "Tensor":
    """Rewards of prompts with their answers, (texts,), float32; log-odds."""
    return class_logits(model, texts)[:, 0]


def margins(model: "PreTrainedModel", draws: Listed[Draw]) -> "Tensor":
    """Rewards of the chosen answers less those of the rejected ones, (draws,)."""
    sides = [draw.sequences[side] for side in (0, 1) for draw in draws]
    chosen, rejected = rewards_of(model, sides).chunk(2)
    return chosen - rejected


def loss(model: "PreTrainedModel", draws: Listed[Draw], learning: object = None) -> "Tensor":
    """Mean loss of comparisons, -log sigmoid(margin), nats; the loss of the use `prefer`."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(margins(model, draws)).mean()
