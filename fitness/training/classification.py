"""Training a head on a base: cross-entropy of classes or tags, comparisons of a reward model.

A reward model gives the chosen of two answers to a prompt the higher reward: Bradley and Terry
1952, as in InstructGPT (Ouyang et al. 2022, eq. 1).
"""

from collections.abc import Sequence as Listed
from typing import TYPE_CHECKING

import numpy as np

from fitness.mixture.decks import NO_LABEL, Draw, RecordDeck, Sequence
from fitness.mixture.mixing import stacked

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from fitness.training.objective import Learning


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


def loss(
    model: "PreTrainedModel", draws: Listed[Draw], learning: "Learning | None" = None
) -> "Tensor":
    """Mean cross-entropy of the draws' classes, nats per text; the loss of the use `classify`.

    With weights of the classes, the mean of weight times cross-entropy.
    """
    import torch

    logits = class_logits(model, [draw.sequences[0] for draw in draws])
    wanted = torch.tensor([draw.label for draw in draws], device=logits.device)
    weights = None if learning is None else learning.class_weights
    if weights is not None:
        weights = weights.to(logits)
    summed = torch.nn.functional.cross_entropy(logits, wanted, weights, reduction="sum")
    return summed / len(draws)


def balanced(decks: Listed[RecordDeck], shares: Listed[float], classes: int) -> np.ndarray:
    """Weights of classes, (classes,), whose mean over the mixture is 1: 1 / (occurring x share).

    As `balanced` in scikit-learn (King and Zeng 2001), with the shares of the mixture.
    """
    there = np.zeros(classes)
    for deck, share in zip(decks, shares, strict=True):
        labels = deck.records.index[deck.rows, 3]
        there += share * np.bincount(labels, minlength=classes) / max(1, len(labels))
    occurring = int((there > 0).sum())
    return np.divide(1.0, occurring * there, out=np.ones(classes), where=there > 0)


def tag_logits(model: "PreTrainedModel", texts: Listed[Sequence]) -> tuple["Tensor", np.ndarray]:
    """Logits, (words, tags), and tags, (words,), of the tokens that have one, text after text."""
    import torch

    logits, labels = class_logits(model, texts), stacked(list(texts)).labels
    tagged = labels != NO_LABEL
    return logits[torch.from_numpy(tagged).to(logits.device)], labels[tagged]


def tag_loss(model: "PreTrainedModel", draws: Listed[Draw], learning: object = None) -> "Tensor":
    """Mean cross-entropy of the words' tags, nats per word; the loss of the use `tag`."""
    import torch

    logits, tags = tag_logits(model, [draw.sequences[0] for draw in draws])
    wanted = torch.from_numpy(tags).to(logits.device)
    summed = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    return summed / max(1, len(tags))  # sentences cut to fewer words than one have none


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
