"""Sequence classification: the loss of labelled texts, and how well held-out ones are labelled."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fitness.decks import Draw, RecordDeck
from fitness.records import Records
from fitness.sources import TokenFile


def classification_loss(model: Any, draws: Sequence[Draw]) -> Any:
    """Mean cross-entropy of the draws' labels, nats."""
    import torch

    logits = label_logits(model, draws)
    wanted = torch.tensor([draw.label for draw in draws], device=logits.device)
    return torch.nn.functional.cross_entropy(logits.float(), wanted)


def label_logits(model: Any, draws: Sequence[Draw]) -> Any:
    """(draws, labels); each text is padded behind, which no other token attends to."""
    import torch

    texts = [torch.from_numpy(draw.sequences[0].tokens) for draw in draws]
    device = next(model.parameters()).device
    pad = torch.nn.utils.rnn.pad_sequence
    filling = model.config.get_text_config().pad_token_id
    ids = pad(texts, batch_first=True, padding_value=filling)
    attended = pad([torch.ones_like(text) for text in texts], batch_first=True)
    return model(input_ids=ids.to(device), attention_mask=attended.to(device)).logits


def scores(model: Any, file: TokenFile, length: int, batch: int) -> dict[str, float]:
    """Loss, accuracy, and precision, recall and F1 as means over the labels that occur.

    A label that was never predicted has a precision of 0.
    """
    import torch
    from sklearn.metrics import precision_recall_fscore_support

    content = file.open()
    if not isinstance(content, Records):
        raise TypeError(f"{file.name} holds no labels")
    deck = RecordDeck(content, "classify", length)
    told, wanted, summed = [], [], 0.0
    with torch.inference_mode():
        for first in range(0, deck.draws, batch):
            numbers = range(first, min(first + batch, deck.draws))
            draws = [deck.draw("", number, length) for number in numbers]
            logits = label_logits(model, draws).float()
            labels = torch.tensor([draw.label for draw in draws], device=logits.device)
            summed += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            told += logits.argmax(1).tolist()
            wanted += labels.tolist()
    precision, recall, f1, _ = precision_recall_fscore_support(
        wanted, told, labels=sorted(set(wanted)), average="macro", zero_division=0.0
    )
    return {
        "loss": summed / deck.draws,
        "accuracy": float(np.mean(np.equal(told, wanted))),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }
