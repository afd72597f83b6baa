"""Predictions for a domain: of a classifier for texts, a tagger for sentences, a reward model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fitness.data.records import Records
from fitness.data.sources import TokenFile
from fitness.inference.log_probabilities import rows_at_once
from fitness.metrics.spans import Tagged
from fitness.mixture.decks import NO_LABEL, Draw, RecordDeck
from fitness.training.classification import class_logits, margins, tag_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def draws_of(file: TokenFile, use: str, length: int, size: int) -> Iterator[list[Draw]]:
    """Stream the draws of held-out records for a use, in their order, `size` at once or one."""
    content = file.open()
    if not isinstance(content, Records):
        raise TypeError(f"{file.name} holds no records")
    deck, size = RecordDeck(content, use, length), max(1, size)
    for first in range(0, deck.draws, size):
        numbers = range(first, min(first + size, deck.draws))
        yield [deck.draw("", number, length) for number in numbers]


def classified(
    model: "PreTrainedModel", file: TokenFile, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The classes of a domain's texts, (texts,), and the model's logits, (texts, classes)."""
    import torch

    wanted: list[int] = []
    found = []
    with torch.inference_mode():
        for draws in draws_of(file, "classify", length, rows_at_once(length)):
            found.append(class_logits(model, [draw.sequences[0] for draw in draws]))
            wanted += [draw.label for draw in draws]
    return np.array(wanted), torch.cat(found).double().cpu().numpy()


def compared(model: "PreTrainedModel", file: TokenFile, length: int) -> np.ndarray:
    """The margins of a domain's comparisons by a reward model, (comparisons,) float64."""
    import torch

    pairs = draws_of(file, "prefer", length, rows_at_once(length) // 2)
    with torch.inference_mode():
        found = [margins(model, draws) for draws in pairs]
    return torch.cat(found).double().cpu().numpy()


def tagged(model: "PreTrainedModel", file: TokenFile, length: int) -> list[Tagged]:
    """The words of a domain's sentences with right and predicted tags, named as in the head."""
    import torch

    names = model.config.id2label
    sentences: list[Tagged] = []
    with torch.inference_mode():
        for draws in draws_of(file, "tag", length, rows_at_once(length)):
            texts = [draw.sequences[0] for draw in draws]
            logits, wanted = tag_logits(model, texts)
            right = torch.from_numpy(wanted).to(logits.device)
            losses = torch.nn.functional.cross_entropy(logits.double(), right, reduction="none")
            ends = np.cumsum([int((one.labels != NO_LABEL).sum()) for one in texts])[:-1]
            parts = (losses.cpu().numpy(), wanted, logits.argmax(dim=1).cpu().numpy())
            for nats, *tags in zip(*(np.split(one, ends) for one in parts), strict=True):
                named = ([names[number] for number in one.tolist()] for one in tags)
                sentences.append(Tagged(nats, *named))
    return sentences
