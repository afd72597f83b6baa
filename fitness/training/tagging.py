"""Training a tagger: cross-entropy over the tags of words, one sentence a draw."""

from collections.abc import Sequence as Listed
from typing import TYPE_CHECKING

import numpy as np

from fitness.mixture.decks import NO_LABEL, Draw, Sequence
from fitness.mixture.mixing import stacked
from fitness.training.classification import class_logits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def tag_logits(model: "PreTrainedModel", texts: Listed[Sequence]) -> tuple["Tensor", np.ndarray]:
    """Logits, (words, tags), and tags, (words,), of the tokens that have one, text after text."""
    import torch

    logits, labels = class_logits(model, texts), stacked(list(texts)).labels
    tagged = labels != NO_LABEL
    return logits[torch.from_numpy(tagged).to(logits.device)], labels[tagged]


def loss(model: "PreTrainedModel", draws: Listed[Draw], learning: object = None) -> "Tensor":
    """Mean cross-entropy of the words' tags, nats per word; the loss of the use `tag`."""
    import torch

    logits, tags = tag_logits(model, [draw.sequences[0] for draw in draws])
    wanted = torch.from_numpy(tags).to(logits.device)
    summed = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    return summed / max(1, len(tags))  # sentences cut to fewer words than one have none
