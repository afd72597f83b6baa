"""Losses of classes and of tags against those of transformers, and their tokens."""

from pathlib import Path

import pytest
import torch

from fitness.data.tokenizer import load_tokenizer
from fitness.mixture.decks import NO_LABEL
from fitness.models.base import Base
from fitness.training.classification import class_logits, loss, tag_loss
from tests.fitness.classes import LENGTH, NAMES, passages
from tests.fitness.sentences import HEAD, TAGS, sentences
from tests.fitness.training import test_tagging
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


def test_the_loss_of_tags_is_that_of_transformers(folder: Path, tmp_path: Path) -> None:
    model = Base(folder, head=HEAD).model
    draws = test_tagging.draws_of(folder, tmp_path)
    texts = [draw.sequences[0] for draw in draws]
    assert len({len(one.tokens) for one in texts}) > 2
    longest = max(len(one.tokens) for one in texts)
    ids = torch.zeros((len(texts), longest), dtype=torch.long)
    labels, there = torch.full_like(ids, NO_LABEL), torch.zeros_like(ids)
    for place, one in enumerate(texts):
        ids[place, : len(one.tokens)] = torch.from_numpy(one.tokens)
        labels[place, : len(one.tokens)] = torch.from_numpy(one.labels)
        there[place, : len(one.tokens)] = 1
    with torch.no_grad():
        told = model(input_ids=ids, attention_mask=there, labels=labels).loss
        assert tag_loss(model, draws).item() == pytest.approx(told.item(), abs=1e-5)


def test_words_are_tokenised_and_tagged_as_in_the_example_of_transformers(
    bert: Path, tmp_path: Path
) -> None:
    """examples/pytorch/token-classification/run_ner.py, without `label_all_tokens`."""
    tokenizer = load_tokenizer(bert)
    for draw, (words, tags) in zip(
        test_tagging.draws_of(bert, tmp_path, 40), sentences(), strict=False
    ):
        encoded = tokenizer(words, is_split_into_words=True)
        wanted, before = [], None
        for word in encoded.word_ids():
            new = word is not None and word != before
            wanted.append(TAGS.index(tags[word]) if new else NO_LABEL)
            before = word
        (text,) = draw.sequences
        assert text.tokens.tolist() == encoded["input_ids"]
        assert text.labels.tolist() == wanted
