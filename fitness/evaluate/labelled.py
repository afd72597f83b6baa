"""Predictions for a domain: of a classifier for texts, a tagger for sentences, a reward model."""

from typing import TYPE_CHECKING

import numpy as np

from fitness.data.records import Records
from fitness.data.sources import TokenFile
from fitness.inference.log_probabilities import rows_at_once
from fitness.metrics.spans import Tagged
from fitness.mixture.decks import NO_LABEL, RecordDeck
from fitness.training.classification import class_logits, margins
from fitness.training.tagging import tag_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def classified(
    model: "PreTrainedModel", file: TokenFile, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The classes of a domain's texts, (texts,), and the model's logits, (texts, classes)."""
    import torch

    content = file.open()
    if not isinstance(content, Records):
        raise TypeError(f"{file.name} holds no records")
    deck = RecordDeck(content, "classify", length)
    size = rows_at_once(length)
    draws = [deck.draw("", number, length) for number in range(deck.draws)]
    with torch.inference_mode():
        found = [
            class_logits(model, [draw.sequences[0] for draw in draws[first : first + size]])
            for first in range(0, len(draws), size)
        ]
    return np.array([draw.label for draw in draws]), torch.cat(found).double().cpu().numpy()


def compared(model: "PreTrainedModel", file: TokenFile, length: int) -> np.ndarray:
    """The margins of a domain's comparisons by a reward model, (comparisons,) float64."""
    import torch

    content = file.open()
    if not isinstance(content, Records):
        raise TypeError(f"{file.name} holds no records")
    deck = RecordDeck(content, "prefer", length)
    size = max(1, rows_at_once(length) // 2)
    found = []
    with torch.inference_mode():
        for first in range(0, deck.draws, size):
            numbers = range(first, min(first + size, deck.draws))
            found.append(margins(model, [deck.draw("", number, length) for number in numbers]))
    return torch.cat(found).double().cpu().numpy()


def tagged(model: "PreTrainedModel", file: TokenFile, length: int) -> list[Tagged]:
    """The words of a domain's sentences with right and predicted tags, named as in the head."""
    import torch

    content = file.open()
    if not isinstance(content, Records):
        raise TypeError(f"{file.name} holds no records")
    deck, names = RecordDeck(content, "tag", length), model.config.id2label
    size = rows_at_once(length)
    sentences: list[Tagged] = []
    with torch.inference_mode():
        for first in range(0, deck.draws, size):
            numbers = range(first, min(first + size, deck.draws))
            texts = [deck.draw("", number, length).sequences[0] for number in numbers]
            logits, wanted = tag_logits(model, texts)
            right = torch.from_numpy(wanted).to(logits.device)
            losses = torch.nn.functional.cross_entropy(logits.double(), right, reduction="none")
            ends = np.cumsum([int((one.labels != NO_LABEL).sum()) for one in texts])[:-1]
            parts = (losses.cpu().numpy(), wanted, logits.argmax(dim=1).cpu().numpy())
            for nats, *tags in zip(*(np.split(one, ends) for one in parts), strict=True):
                named = ([names[number] for number in one.tolist()] for one in tags)
                sentences.append(Tagged(nats, *named))
    return sentences
