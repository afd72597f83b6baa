"""Losses of classes and of masked tokens against those of transformers."""

from pathlib import Path

import pytest
import torch

from fitness.data.tokenizer import load_tokenizer
from fitness.models.base import Base
from fitness.training.classification import class_logits, loss
from tests.fitness.classes import LENGTH, NAMES, passages
from tests.fitness.training.test_classification import bert as bert
from tests.fitness.training.test_classification import classifier as classifier
from tests.fitness.training.test_classification import cut, draws_of
from tests.fitness.training.test_classification import folder as folder


def test_a_padded_batch_is_classified_as_each_row_alone(
    classifier: Base, folder: Path, tmp_path: Path
) -> None:
    whole = [draw.sequences[0] for draw in draws_of(folder, tmp_path)]
    texts = [cut(one, 3 + 5 * place) for place, one in enumerate(whole)]
    assert len({len(one.tokens) for one in texts}) > 3
    with torch.no_grad():
        together = class_logits(classifier.model, texts)
        for place, one in enumerate(texts):
            alone = classifier.model(input_ids=torch.from_numpy(one.tokens)[None]).logits[0]
            assert torch.allclose(together[place], alone, atol=1e-5)


def test_the_loss_of_classes_is_that_of_transformers(
    classifier: Base, folder: Path, tmp_path: Path
) -> None:
    draws = draws_of(folder, tmp_path)
    tokenizer = load_tokenizer(folder)
    rows = tokenizer.pad({"input_ids": [d.sequences[0].tokens.tolist() for d in draws]})
    with torch.no_grad():
        told = classifier.model(
            input_ids=torch.tensor(rows["input_ids"]),
            attention_mask=torch.tensor(rows["attention_mask"]),
            labels=torch.tensor([draw.label for draw in draws]),
        ).loss
        assert loss(classifier.model, draws).item() == pytest.approx(told.item(), abs=1e-5)


def test_a_text_is_given_as_the_tokenizer_writes_it(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    for place, draw in enumerate(draws_of(folder, tmp_path)):
        text = passages(NAMES[place % 4])[place // 4]
        wanted = tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]
        assert draw.sequences[0].tokens.tolist() == wanted
        assert NAMES[draw.label] == NAMES[place % 4]
