"""Classifiers: heads old and new, padded batches, training, scores, and what is written out."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fitness.cost import Shape, cost_of, training_flops
from fitness.data.documents import Source
from fitness.data.sources import tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Task
from fitness.metrics import HELD_OUT
from fitness.metrics.classes import class_scores
from fitness.mixture.decks import Draw, RecordDeck, Sequence
from fitness.models import head_checks, weights
from fitness.models.base import Base
from fitness.models.heads import Head
from fitness.models.loading import own_parts
from fitness.recipe import Recipe
from fitness.training import classification
from fitness.training.classification import balanced, class_logits
from fitness.training.objective import Learning, objective
from fitness.training.reference import Reference
from fitness.training.supervised import finetune
from tests.fitness.classes import (
    HEAD,
    LENGTH,
    NAMES,
    classifying,
    encoder,
    labelled,
    passages,
    write_labelled,
)
from tests.fitness.models.test_base import assert_same, state
from tests.fitness.quickstart import MODEL, batches_of

FIELDS = {"mixture": {"passages": 1.0}, "batch_size": 8, "sequence_length": LENGTH}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module", params=["causal", "encoder"])
def folder(request: pytest.FixtureRequest, bert: Path) -> Path:
    return MODEL if request.param == "causal" else bert


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Base:
    return Base(folder, head=HEAD)


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{**FIELDS, "learning_rate": 3e-3, **changes})


def evaluated(task: Task, *, fidelity: float = 1.0, **changes: Any) -> Evaluation:
    spec = EvaluationSpec(1, recipe(**changes).model_dump(mode="json"), 0, fidelity=fidelity)
    evaluation = Evaluator(task).evaluate(spec)
    assert evaluation.status == "ok", evaluation.message
    return evaluation


def draws_of(folder: Path, cache: Path, count: int = 6) -> list[Draw]:
    content: Any = labelled(cache, folder, first=0, last=80).open()
    deck = RecordDeck(content, "classify", LENGTH)
    return [deck.draw("passages", number, LENGTH) for number in range(count)]


def cut(text: Sequence, length: int) -> Sequence:
    return Sequence(text.tokens[:length], text.labels[:length])


# ---------------------------------------------------------------- the head


def test_a_new_head_is_always_drawn_alike_and_leaves_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = Base(folder, head=HEAD)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    second = Base(folder, head=HEAD)
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore")
def test_all_other_weights_must_be_there(bert: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bert, tmp_path / "copy"))
    held = load_file(copy / "model.safetensors")
    gone = "bert.encoder.layer.1.output.dense.weight"
    held.pop(gone)
    save_file(held, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"1 weights of BertForSequenceClassification .* {gone}"):
        Base(copy, head=HEAD)


@pytest.mark.parametrize("adapter", ["none", "lora", "dora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_classifier_is_given_back_as_it_was(
    folder: Path, adapter: str, dtype: str, tmp_path: Path
) -> None:
    base = Base(folder, dtype, HEAD)
    before = state(base.model)
    task = classifying(tmp_path, folder, budget_tokens=8 * LENGTH * 2)
    told = recipe(adapter=adapter, dropout=0.1)
    loss_of = objective(told, Reference(base), base.tokenizer, seed=0)
    with base.prepared(told, seed=0) as model:
        parts = own_parts(base.model, HEAD)
        heads_before = {n: w.detach().clone() for n, w in model.named_parameters()}
        finetune(model, told, batches_of(task, told), steps=2, seed=0, loss_of=loss_of)
        moved = [n for n, w in model.named_parameters() if not torch.equal(w, heads_before[n])]
        for part in parts:
            assert any(part in name for name in moved), f"{part} was not trained"
            assert all(
                w.dtype == torch.float32
                for n, w in model.named_parameters()
                if part in n and w.requires_grad
            )
    assert_same(before, state(base.model))


def test_the_head_of_a_classifier_is_kept(bert: Path, tmp_path: Path) -> None:
    base = Base(bert, head=HEAD)
    with torch.no_grad():
        base.model.classifier.weight.fill_(0.5)
    own = tmp_path / "own"
    base.model.save_pretrained(own)
    base.tokenizer.save_pretrained(own)
    assert head_checks.own_labels(own) == NAMES
    assert head_checks.labels_of((), own, [], tmp_path) == NAMES
    assert (Base(own, head=HEAD).model.classifier.weight == 0.5).all()
    with pytest.raises(InputError, match=r"classifies into 'austen', .* already, in this order"):
        head_checks.labels_of(NAMES[::-1], own, [], tmp_path)
    config = json.loads((own / "config.json").read_text())
    made_up = {str(n): f"LABEL_{n}" for n in range(4)}
    (own / "config.json").write_text(json.dumps({**config, "id2label": made_up}))
    assert head_checks.labels_of(NAMES, own, [], tmp_path) == NAMES


def test_labels_left_out_are_those_of_the_data_to_be_copied(tmp_path: Path) -> None:
    labelled(tmp_path, MODEL, first=0, last=2)
    source = Source(path="0-2.jsonl", kind="label")
    told = r"the data have 4: labels: \[austen, devil, factbook, python\]"
    with pytest.raises(InputError, match=told):
        head_checks.labels_of((), MODEL, [source], tmp_path)


def test_a_causal_base_without_padding_pads_with_what_ends_documents(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(MODEL, tmp_path / "copy"))
    for name, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        told = json.loads((copy / name).read_text())
        told.pop(key)
        (copy / name).write_text(json.dumps(told))
    assert load_tokenizer(copy).pad_token_id is None
    base = Base(copy, head=HEAD)
    assert base.model.config.pad_token_id == base.tokenizer.eos_token_id
    texts = [draw.sequences[0] for draw in draws_of(copy, tmp_path)]
    texts[0] = cut(texts[0], 4)
    with torch.no_grad():
        alone = base.model(input_ids=torch.from_numpy(texts[0].tokens)[None]).logits[0]
        assert torch.allclose(class_logits(base.model, texts)[0], alone, atol=1e-5)
    base.model.save_pretrained(tmp_path / "kept")
    weights.assemble(copy, tmp_path / "kept", tmp_path / "to", head=HEAD)
    assert load_tokenizer(tmp_path / "to").pad_token_id == base.model.config.pad_token_id


# ---------------------------------------------------------------- training and scores


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora", "dora"])
def test_a_causal_model_learns_which_source_a_passage_is_from(adapter: str, tmp_path: Path) -> None:
    task = classifying(tmp_path)
    untouched = evaluated(task, fidelity=0).measurements
    trained = evaluated(task, adapter=adapter).measurements
    assert set(trained) == {f"held/{name}" for name in HELD_OUT["label"]}
    assert untouched["held/f1"] < 0.4
    assert trained["held/f1"] > 0.9
    assert trained["held/loss"] < untouched["held/loss"] / 3


@pytest.mark.slow
def test_an_encoder_learns_which_source_a_passage_is_from(bert: Path, tmp_path: Path) -> None:
    task = classifying(tmp_path, bert, budget_tokens=80 * 48 * LENGTH)
    assert evaluated(task, fidelity=0).measurements["held/f1"] < 0.4
    assert evaluated(task).measurements["held/f1"] > 0.85


@pytest.mark.parametrize("saving", [{"micro_batch": 3}, {"checkpointing": True}])
def test_what_saves_memory_changes_nothing(
    folder: Path, saving: dict[str, Any], tmp_path: Path
) -> None:
    task = classifying(tmp_path, folder, budget_tokens=8 * LENGTH * 4)
    plain, saved = evaluated(task), evaluated(replace(task, **saving))
    exact = "checkpointing" in saving
    for name, value in plain.measurements.items():
        assert saved.measurements[name] == (value if exact else pytest.approx(value, abs=1e-4))


def test_early_stopping_goes_by_the_loss_of_classes(bert: Path, tmp_path: Path) -> None:
    task = classifying(
        tmp_path, bert, budget_tokens=8 * LENGTH * 4, patience=1, stop_on="held/loss"
    )
    assert evaluated(task).details["best_step"] >= 1


def test_scores_are_means_over_the_classes_that_occur() -> None:
    wanted = np.array([0, 0, 1, 1])
    logits = np.array([[2.0, 0, 0], [2, 0, 0], [2, 0, 0], [0, 2, 0]])
    scores = class_scores(wanted, logits)
    assert scores["accuracy"] == 3 / 4
    assert scores["precision"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["recall"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    right, wrong = np.log(np.e**2 + 2) - 2, np.log(np.e**2 + 2)
    assert scores["loss"] == pytest.approx((3 * right + wrong) / 4)


def test_weights_of_classes_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    rare = tmp_path / "rare.jsonl"
    lines = write_labelled(tmp_path / "all.jsonl", first=0, last=10).read_text().splitlines()
    austen = [line for line in lines if "austen" in line]
    rare.write_text("\n".join([*lines, *austen * 4]) + "\n")
    source = Source(path=str(rare), kind="label")
    file = tokenise("sources.rare", source, tmp_path, MODEL, tmp_path, labels=NAMES)
    content: Any = file.open()
    deck = RecordDeck(content, "classify", LENGTH)
    labels = content.index[:, 3]
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    found = balanced([deck], [1.0], 4)
    np.testing.assert_allclose(found, expected)
    assert found[labels].mean() == pytest.approx(1)
    np.testing.assert_allclose(balanced([deck, deck], [0.3, 0.7], 4), expected)
    assert balanced([deck], [1.0], 5)[4] == 1, "a class without a text"


def test_balanced_classes_are_weighted_in_the_loss(bert: Path, tmp_path: Path) -> None:
    base = Base(bert, head=HEAD)
    draws = draws_of(bert, tmp_path)
    scale = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64)
    learning = Learning(recipe(), Reference(base), base.tokenizer, 0, scale)
    with base.prepared(recipe(), seed=0) as model, torch.no_grad():
        model.eval()
        logits = class_logits(model, [draw.sequences[0] for draw in draws])
        each = torch.nn.functional.cross_entropy(
            logits, torch.tensor([draw.label for draw in draws]), reduction="none"
        )
        wanted = sum(scale[d.label] * one for d, one in zip(draws, each, strict=True)) / len(draws)
        assert float(classification.loss(model, draws, learning)) == pytest.approx(float(wanted))
    task = classifying(tmp_path, bert, budget_tokens=4 * LENGTH * 4)
    equal, other = evaluated(task), evaluated(task, class_weights="balanced")
    counts = np.array(other.details["confusion"]["held"])
    assert counts.sum() == other.details["items"]["held/accuracy"]["count"]
    right = np.trace(counts) / counts.sum()
    assert right == pytest.approx(other.measurements["held/accuracy"])
    # each class is as frequent here, so that the weights are all 1
    assert other.measurements["held/loss"] == pytest.approx(equal.measurements["held/loss"])


def test_the_cost_leaves_the_vocabulary_out(bert: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForMaskedLM

    causal, shape = Shape.of(MODEL), Shape.of(MODEL, HEAD)
    assert shape.weights == causal.weights - 1024 * 96
    assert shape.head == 0
    masked = Shape.of(bert, Head("masked"))
    assert masked.weights - Shape.of(bert, HEAD).weights == masked.head > 0
    for name, settings in (
        ("distilbert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
        ("electra", {"embedding_size": 32, "hidden_size": 64, "num_attention_heads": 2}),
    ):
        config = AutoConfig.for_model(name, vocab_size=500, **settings)
        AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / name)
        of_words = Shape.of(tmp_path / name, Head("masked"))
        assert of_words.weights - Shape.of(tmp_path / name, HEAD).weights == 500 * 32
    task = classifying(tmp_path)
    tokens = sum(len(one) for one in _texts(task))
    training = training_flops(shape, recipe(), task.budget_tokens, task.kinds)
    scoring = shape.forward(LENGTH) * tokens
    told = cost_of(task)(recipe().model_dump(mode="json"), 1.0)
    assert told == pytest.approx(training + scoring, rel=0.1)


def _texts(task: Task) -> list[np.ndarray]:
    content: Any = task.domains["held"]["selection"].open()
    return [content.text(row, LENGTH) for row in range(len(content.index))]


# ---------------------------------------------------------------- what is written out


@pytest.mark.parametrize("adapter", ["none", "lora", "dora"])
def test_a_classifier_is_written_out_as_it_predicts(
    folder: Path, adapter: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    task = classifying(tmp_path, folder, budget_tokens=8 * LENGTH * 6, artifacts=artifacts)
    measured = evaluated(task, adapter=adapter).measurements
    to = tmp_path / "to"
    weights.assemble(folder, weights.folder_of(artifacts, 1), to, head=HEAD)
    model = AutoModelForSequenceClassification.from_pretrained(to).eval()
    tokenizer = AutoTokenizer.from_pretrained(to)
    assert model.config.id2label == dict(enumerate(NAMES))
    held_out = [(passages(name)[n], name) for n in range(80, 120) for name in NAMES]
    rows = tokenizer(
        [text for text, _ in held_out],
        padding=True,
        truncation=True,
        max_length=LENGTH,
        return_tensors="pt",
    )
    with torch.no_grad():
        logits = model(rows["input_ids"], attention_mask=rows["attention_mask"]).logits
    wanted = np.array([NAMES.index(name) for _, name in held_out])
    for name, value in class_scores(wanted, logits.double().numpy()).items():
        assert measured[f"held/{name}"] == pytest.approx(value, abs=1e-4), name


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"text": "a", "label": "austin"}, r"x\.jsonl:2: label 'austin' .*did you mean 'austen'"),
        ({"text": "a", "label": "poem"}, r"not among model\.labels 'austen', .* drop this record"),
        ({"text": "a", "label": 3}, r"label '3' is not among"),
        ({"text": "a", "label": True}, r"'label' must be a name or a whole number, got True"),
        ({"text": "a", "label": 0.5}, r"must be a name or a whole number, got 0\.5"),
        ({"text": "a"}, r"must be a name or a whole number, got none among 'text'"),
        ({"label": "austen"}, r"no column 'text', it has 'label'"),
        ({"text": "  ", "label": "austen"}, r"x\.jsonl:2: 'text' is blank; drop this record"),
        ({"text": 7, "label": "austen"}, r"'text' is 7, a int; it must be a string"),
    ],
)
def test_a_record_that_cannot_be_classified_is_told_with_its_line(
    record: dict[str, Any], told: str, tmp_path: Path
) -> None:
    lines = [{"text": "fine", "label": "devil"}, record]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Source(path="x.jsonl", kind="label")
    with pytest.raises(InputError, match=told):
        tokenise("sources.x", source, tmp_path, MODEL, tmp_path, labels=NAMES)


def test_whole_numbers_are_names_too_and_the_order_of_labels_decides(tmp_path: Path) -> None:
    lines = [{"body": "one", "label": 1}, {"body": "two", "label": "0"}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Source(path="x.jsonl", kind="label", text="body")
    for labels, wanted in ((("0", "1"), [1, 0]), (("1", "0"), [0, 1])):
        file = tokenise("x", source, tmp_path, MODEL, tmp_path, labels=labels)
        content: Any = file.open()
        assert [content.label(row) for row in range(2)] == wanted


def test_halves_of_labelled_texts_go_by_the_text(tmp_path: Path) -> None:
    labelled(tmp_path, MODEL, first=0, last=20)
    source = Source(path="0-20.jsonl", kind="label")
    halves = [
        tokenise("x", source, tmp_path, MODEL, tmp_path, half=half, labels=NAMES).rows
        for half in ("selection", "test")
    ]
    assert sum(halves) == 80
    assert min(halves) > 20


@pytest.mark.parametrize(
    ("task", "change", "told"),
    [
        ("masked", lambda bert: MODEL, r"architecture llama .* has no head for it .*MaskedLM"),
        ("causal", lambda bert: bert, r"BertForMaskedLM is an encoder, .* set `model.task`"),
    ],
)
def test_an_architecture_without_the_head_is_refused(
    bert: Path, task: Any, change: Callable[[Path], Path], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        head_checks.check(change(bert), task)
