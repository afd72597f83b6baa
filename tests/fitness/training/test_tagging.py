"""Taggers: words and their tokens, training, scores of spans, and what is written out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fitness.cost import Shape
from fitness.data.documents import Source
from fitness.data.sources import tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.items import tag_items
from fitness.evaluation import Evaluation, EvaluationSpec, Task
from fitness.metrics import HELD_OUT
from fitness.metrics.spans import Tagged, tag_scores
from fitness.mixture.decks import NO_LABEL, Draw, RecordDeck
from fitness.mixture.mixing import Batch, stacked
from fitness.models import head_checks, weights
from fitness.models.base import Base
from fitness.models.heads import Head
from fitness.recipe import Recipe
from fitness.training.accumulation import parts
from fitness.training.classification import tag_loss
from tests.fitness.classes import HEAD as CLASSES
from tests.fitness.classes import encoder
from tests.fitness.quickstart import MODEL
from tests.fitness.sentences import HEAD, LENGTH, TAGS, sentences, tagged, tagging, write_tagged

FIELDS = {"mixture": {"facts": 1.0}, "batch_size": 8, "sequence_length": LENGTH}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module", params=["causal", "encoder"])
def folder(request: pytest.FixtureRequest, bert: Path) -> Path:
    return MODEL if request.param == "causal" else bert


def evaluated(task: Task, *, fidelity: float = 1.0, **changes: Any) -> Evaluation:
    told = Recipe(**{**FIELDS, "learning_rate": 3e-3, **changes}).model_dump(mode="json")
    evaluation = Evaluator(task).evaluate(EvaluationSpec(1, told, 0, fidelity=fidelity))
    assert evaluation.status == "ok", evaluation.message
    return evaluation


def draws_of(folder: Path, cache: Path, count: int = 6, length: int = LENGTH) -> list[Draw]:
    content: Any = tagged(cache, folder, first=0, last=40).open()
    deck = RecordDeck(content, "tag", length)
    return [deck.draw("facts", number, length) for number in range(count)]


def read(folder: Path, record: dict[str, Any], labels: tuple[str, ...] = TAGS) -> Any:
    """A source of one record, tokenised into a folder of its own."""
    (folder / "x.jsonl").write_text(json.dumps(record) + "\n")
    source = Source(path="x.jsonl", kind="tags")
    return tokenise("sources.x", source, folder, MODEL, folder, labels=labels)


# ---------------------------------------------------------------- words and tokens


def test_the_first_token_of_each_word_has_its_tag(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    for draw, (words, tags) in zip(draws_of(folder, tmp_path), sentences(), strict=False):
        (text,) = draw.sequences
        first = [tokenizer.decode(text.tokens[text.labels != NO_LABEL][n]) for n in range(3)]
        assert [TAGS[n] for n in text.labels[text.labels != NO_LABEL]] == tags
        assert all(
            word.lower().startswith(token.strip().lower().replace("##", ""))
            for token, word in zip(first, words, strict=False)
        )


def test_a_long_sentence_loses_its_last_words_and_their_tags(bert: Path, tmp_path: Path) -> None:
    whole, short = (draws_of(bert, tmp_path, length=n)[0].sequences[0] for n in (LENGTH, 8))
    assert len(short.tokens) == len(short.labels) == 8
    assert (short.tokens[:7] == whole.tokens[:7]).all()
    assert (short.labels[:7] == whole.labels[:7]).all()
    assert (short.tokens[7], short.labels[7]) == (whole.tokens[-1], NO_LABEL)


def test_a_damaged_tag_in_the_cache_is_found(tmp_path: Path) -> None:
    file = tagged(tmp_path, MODEL, first=0, last=5)
    content = bytearray(Path(file.path).read_bytes())
    assert len(content) == file.size
    content[-1] ^= 1
    Path(file.path).write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        file.open()


# ---------------------------------------------------------------- one batch


def test_parts_of_a_batch_sum_to_its_loss(bert: Path, tmp_path: Path) -> None:
    model = Base(bert, head=HEAD).model
    short, *rest = draws_of(bert, tmp_path)
    (text,) = short.sequences
    labels = np.where(np.arange(len(text.labels)) < 3, text.labels, NO_LABEL)
    draws = (short._replace(sequences=(text._replace(labels=labels),)), *rest)
    batch = Batch(*stacked([]), others=draws)
    with torch.no_grad():
        whole = tag_loss(model, draws).item()
        split = [(tag_loss(model, part.others).item(), share) for part, share in parts(batch, 2)]
    assert len(split) == 3
    assert sum(share for _, share in split) == pytest.approx(1)
    assert sum(value * share for value, share in split) == pytest.approx(whole, abs=1e-5)


# ---------------------------------------------------------------- training and scores


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_causal_model_learns_to_find_dates_and_places(adapter: str, tmp_path: Path) -> None:
    task = tagging(tmp_path)
    untouched = evaluated(task, fidelity=0).measurements
    trained = evaluated(task, adapter=adapter).measurements
    assert set(trained) == {f"held/{name}" for name in HELD_OUT["tags"]}
    assert untouched["held/f1"] < 0.3
    assert trained["held/f1"] > 0.7
    assert trained["held/loss"] < untouched["held/loss"] / 3


@pytest.mark.slow
def test_an_encoder_learns_to_find_dates_and_places(bert: Path, tmp_path: Path) -> None:
    task = tagging(tmp_path, bert)
    assert evaluated(task, fidelity=0).measurements["held/f1"] < 0.3
    assert evaluated(task).measurements["held/f1"] > 0.6


@pytest.mark.parametrize("saving", [{"micro_batch": 3}, {"checkpointing": True}])
def test_what_saves_memory_changes_nothing(
    folder: Path, saving: dict[str, Any], tmp_path: Path
) -> None:
    task = tagging(tmp_path, folder, budget_tokens=8 * LENGTH * 4)
    plain, saved = evaluated(task), evaluated(replace(task, **saving))
    exact = "checkpointing" in saving
    for name, value in plain.measurements.items():
        assert saved.measurements[name] == (value if exact else pytest.approx(value, abs=1e-4))


@pytest.mark.parametrize(("name", "sign"), [("held/loss", 1), ("held/f1", -1)])
def test_early_stopping_goes_by_words_or_spans(
    name: str, sign: int, bert: Path, tmp_path: Path
) -> None:
    stopping = {"patience": 1, "stop_on": name, "stop_sign": sign}
    task = tagging(tmp_path, bert, budget_tokens=8 * LENGTH * 4, **stopping)
    assert evaluated(task).details["best_step"] >= 1


def test_scores_by_sentence_come_to_the_measurements() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        wanted = rng.choice(TAGS, 12, p=(0.5, 0.1, 0.1, 0.2, 0.1)).tolist()
        predicted = [t if rng.random() < 0.8 else str(rng.choice(TAGS)) for t in wanted]
        found.append(Tagged(rng.random(12), wanted, predicted))
    found[0] = Tagged(np.zeros(0), [], [])  # cut to no word
    scores, each = tag_scores(found), tag_items(found)
    assert scores.keys() == each.keys()
    for name, items in each.items():
        weights = items.get("weights", np.ones(100))
        exact = name in ("loss", "accuracy")
        close = pytest.approx(scores[name], rel=1e-5 if exact else 0.01)
        assert sum(items["sums"]) / sum(weights) == close, name
        assert 0 < scores[name] < 1


def test_the_cost_leaves_the_vocabulary_out() -> None:
    assert Shape.of(MODEL, HEAD) == Shape.of(MODEL, CLASSES)
    assert Shape.of(MODEL, HEAD).weights < Shape.of(MODEL).weights


# ---------------------------------------------------------------- what is written out


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_tagger_is_written_out_as_it_predicts(folder: Path, adapter: str, tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification

    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    task = tagging(tmp_path, folder, budget_tokens=8 * LENGTH * 6, artifacts=artifacts)
    measured = evaluated(task, adapter=adapter).measurements
    to = tmp_path / "to"
    weights.assemble(folder, weights.folder_of(artifacts, 1), to, head=HEAD)
    model = AutoModelForTokenClassification.from_pretrained(to).eval()
    assert model.config.id2label == dict(enumerate(TAGS))
    right = count = 0
    content: Any = task.domains["held"]["selection"].open()
    for row in range(len(content.index)):
        tokens = torch.from_numpy(content.text(row, LENGTH))
        wanted = content.tags_of(row, LENGTH)
        with torch.no_grad():
            guesses = model(input_ids=tokens[None]).logits[0].argmax(dim=1).numpy()
        right += int((guesses == wanted)[wanted != NO_LABEL].sum())
        count += int((wanted != NO_LABEL).sum())
    assert right / count == pytest.approx(measured["held/accuracy"], abs=1e-3)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("tokens", "tags", "told"),
    [
        (["a", "b"], ["O"], r"x\.jsonl:1: has 2 tokens and 1 tags; give each token one tag"),
        (["a"], ["PLACE"], r"tag 1 is 'PLACE', which is not BIO; write O outside"),
        (["a", "b"], ["O", "B-"], r"tag 2 is 'B-', which is not BIO"),
        (["a"], ["B-DATES"], r"tag 'B-DATES' is not among model\.labels .*did you mean 'B-DATE'"),
        (["a"], ["B-X"], r"tag 'B-X' is not among .* add it there, or drop this record"),
        (["a"], [3], r"'tags' must be a list of texts, number 1 is 3; give tags by name"),
        ([7], ["O"], r"'tokens' must be a list of texts, number 1 is 7; make it text"),
        ("a", ["O"], r"'tokens' must be a list of texts, got 'a'"),
        ([" "], ["O"], r"token 1 is blank; drop it and its tag"),
        ([], [], r"'tokens' is an empty list; drop this record"),
        (["\ud800"], ["O"], r"'tokens', number 1, holds half a surrogate pair"),
    ],
)
def test_a_record_that_cannot_be_tagged_is_told_with_its_line(
    tokens: Any, tags: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        read(tmp_path, {"tokens": tokens, "tags": tags})


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"tokens": ["a"]}, r"no column 'tags', it has 'tokens'"),
        ({"text": "a", "label": "b"}, r"no column 'tokens', .* texts with labels: set `kind: lab"),
    ],
)
def test_a_record_of_another_kind_is_told(
    record: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        read(tmp_path, record)


def test_a_tokenizer_that_knows_no_places_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = type(load_tokenizer(MODEL))
    monkeypatch.setattr(tokenizer, "is_fast", False)
    with pytest.raises(InputError, match=r"does not tell where a word's tokens begin"):
        read(tmp_path, {"tokens": ["a"], "tags": ["O"]})


def test_tags_left_out_are_those_of_the_data_to_be_copied(bert: Path, tmp_path: Path) -> None:
    write_tagged(tmp_path / "x.jsonl", first=0, last=300)
    source = Source(path="x.jsonl", kind="tags")
    told = r"have 5: labels: \[O, B-DATE, I-DATE, B-PLACE, I-PLACE\]"
    with pytest.raises(InputError, match=told):
        head_checks.labels_of((), bert, [source], tmp_path, "token_classification")


def test_a_base_that_tags_already_keeps_its_head_and_a_classifier_does_not_count(
    bert: Path, tmp_path: Path
) -> None:
    for name, head in (("tags", HEAD), ("classes", CLASSES)):
        base = Base(bert, head=head)
        base.model.save_pretrained(tmp_path / name)
        base.tokenizer.save_pretrained(tmp_path / name)
    assert (
        head_checks.labels_of((), tmp_path / "tags", [], tmp_path, "token_classification") == TAGS
    )
    assert head_checks.own_labels(tmp_path / "classes", "token_classification") == ()
    with pytest.raises(InputError, match="already, in this order"):
        head_checks.labels_of(TAGS[::-1], tmp_path / "tags", [], tmp_path, "token_classification")


def test_an_architecture_without_the_head_is_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(MODEL, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "cohere"}))
    with pytest.raises(InputError, match=r"architecture cohere .* no head .*TokenClassification"):
        head_checks.check(copy, Head("token_classification").task)
