"""Training a head on a base: cross-entropy of classes, and comparisons of a reward model.

A reward model gives the chosen of two answers to a prompt the higher reward: Bradley and Terry
1952, as in InstructGPT (Ouyang et al. 2022, eq. 1).
"""

from collections.abc import Sequence as Listed
from typing import TYPE_CHECKING

import numpy as np

from fitness.mixture.decks import Draw, Sequence
from fitness.mixture.mixing import stacked

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def class_logits(model: "PreTrainedModel", texts: Listed[Sequence]) -> "Tensor":
    """Logits of texts, (texts, classes), float32; of each token, (texts, longest, classes), by a
    head for tags.

    Texts are padded at the end with the model's own padding token, by which a causal architecture
    finds where a text ends: its head reads the last other token.
    """
    import torch

    device = next(model.parameters()).device
    rows = stacked(list(texts)).input_ids
    lengths = np.array([len(text.tokens) for text in texts])
    there = np.arange(rows.shape[1]) < lengths[:, None]
    padded = np.where(there, rows, model.config.get_text_config().pad_token_id)
    return model(
        input_ids=torch.from_numpy(padded).to(device),
        attention_mask=torch.from_numpy(there.astype(np.int64)).to(device),
    ).logits.float()


def loss(model: "PreTrainedModel", draws: Listed[Draw], learning: object = None) -> "Tensor":
    """Mean cross-entropy of the draws' classes, nats per text; the loss of the use `classify`."""
    import torch

    logits = class_logits(model, [draw.sequences[0] for draw in draws])
    wanted = torch.tensor([draw.label for draw in draws], device=logits.device)
    return torch.nn.functional.cross_entropy(logits, wanted)


def rewards_of(model: "PreTrainedModel", texts: Listed[Sequence]) -> "Tensor":
    """Rewards of prompts with their answers, (texts,), float32; log-odds."""
    return class_logits(model, texts)[:, 0]


def margins(model: "PreTrainedModel", draws: Listed[Draw]) -> "Tensor":
    """Rewards of the chosen answers less those of the rejected ones, (draws,)."""
    sides = [draw.sequences[side] for side in (0, 1) for draw in draws]
    chosen, rejected = rewards_of(model, sides).chunk(2)
    return chosen - rejected


def comparison_loss(
    model: "PreTrainedModel", draws: Listed[Draw], learning: object = None
) -> "Tensor":
    """Mean loss of comparisons, -log sigmoid(margin), nats; the loss of the use `prefer`."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(margins(model, draws)).mean()
