"""Masked language modelling: what is hidden, its loss, training in parts, held-out text."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fitness.data.documents import Source
from fitness.data.sources import tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.held_out import held_out_loss
from fitness.evaluation import Ancestor, Evaluation, EvaluationSpec, Task
from fitness.inference import log_probabilities
from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Batch
from fitness.models import weights
from fitness.models.base import Base
from fitness.models.heads import Head
from fitness.recipe import Recipe
from fitness.training import masked
from fitness.training.masked import Masking
from tests.fitness.classes import encoder
from tests.fitness.quickstart import CORPUS, MODEL, batches_of

LENGTH, BATCH = 32, 8
MASKED = Head("masked")
FIELDS = {"mixture": {"devil": 0.5, "austen": 0.5}, "batch_size": BATCH, "sequence_length": LENGTH}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def base(bert: Path) -> Base:
    return Base(bert, head=MASKED)


@pytest.fixture(scope="module")
def masking(base: Base) -> Masking:
    return Masking.of(base.tokenizer)


@pytest.fixture(scope="module")
def task(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    cache = tmp_path_factory.mktemp("tokens")

    def file(name: str, limit: int) -> Any:
        return tokenise(name, Source(path=name, limit=limit), CORPUS, bert, cache)

    domain = file("held_out/general.selection.jsonl", 30)
    return Task(
        "builtin",
        model=bert,
        head=MASKED,
        sources={name: file(f"sources/{name}.jsonl", 100) for name in ("devil", "austen")},
        domains={"general": {"selection": domain, "test": domain}},
        budget_tokens=LENGTH * BATCH * 6,
        held_out_length=LENGTH,
    )


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{**FIELDS, "learning_rate": 3e-3, **changes})


def evaluated(task: Task, individual: int = 1, **changes: Any) -> Evaluation:
    asked = {name: changes.pop(name) for name in ASKED if name in changes}
    plain = recipe(**changes).model_dump(mode="json")
    evaluation = Evaluator(task).evaluate(EvaluationSpec(individual, plain, 0, **asked))
    assert evaluation.status == "ok", evaluation.message
    return evaluation


ASKED = ("fidelity", "continue_from", "keep_state", "parents", "ancestors")


def many(task: Task) -> Batch:
    """A batch of 200 rows and more, of which the last is short."""
    large = recipe(batch_size=400)
    (batch,) = batches_of(replace(task, budget_tokens=LENGTH * 300 + 10), large)
    return batch


# ---------------------------------------------------------------- masks


def test_tokens_are_chosen_hidden_exchanged_and_left_by_their_shares(
    task: Task, masking: Masking
) -> None:
    batch = many(task)
    (hidden,) = masking.batches([batch], 0.3, seed=1, step=0)
    chosen = hidden.labels != NO_LABEL
    there = batch.labels != NO_LABEL
    ordinary = there & ~np.isin(batch.input_ids, masking.special)
    ordinary[:, 0] = False
    assert np.isin(batch.input_ids, masking.special).any()
    assert not (chosen & ~ordinary).any(), "special tokens, padding and first ones stay"
    assert chosen.sum() / ordinary.sum() == pytest.approx(0.3, abs=0.02)
    assert (hidden.labels[chosen] == batch.input_ids[chosen]).all()
    replaced = hidden.input_ids[chosen] == masking.mask
    changed = hidden.input_ids[chosen] != batch.input_ids[chosen]
    assert replaced.mean() == pytest.approx(0.8, abs=0.03)
    assert (changed & ~replaced).mean() == pytest.approx(0.1, abs=0.02)
    assert not np.isin(hidden.input_ids[chosen][~replaced], masking.special).any()
    rest = there & ~chosen
    assert (hidden.input_ids[rest] == batch.input_ids[rest]).all()
    assert (hidden.input_ids[~there] == masking.pad).all()


def test_masks_follow_from_the_seed_and_the_step_alone(task: Task, masking: Masking) -> None:
    batch = many(task)

    def labels(seed: int, step: int, skipped: int = 0) -> np.ndarray:
        batches = masking.batches([batch] * (step - skipped + 1), 0.15, seed=seed, step=skipped)
        return list(batches)[-1].labels

    assert (labels(3, 2) == labels(3, 2, skipped=2)).all()
    for seed, step in ((3, 1), (4, 2)):
        assert (labels(3, 2) != labels(seed, step)).any()


def test_a_tokenizer_without_masks_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.task masked: the base's tokenizer has no mask"):
        Masking.of(load_tokenizer(MODEL))


def test_an_encoder_is_no_causal_base(bert: Path) -> None:
    with pytest.raises(InputError, match="has no token that ends a text; set `eos_token`"):
        Base(bert)


def test_documents_begin_and_end_with_the_tokens_of_an_encoder(task: Task, base: Base) -> None:
    tokens: Any = task.sources["devil"].open()
    ends = np.flatnonzero(tokens == base.tokenizer.sep_token_id)
    assert len(ends) == task.sources["devil"].documents
    assert tokens[0] == base.tokenizer.cls_token_id
    assert (tokens[ends[:-1] + 1] == base.tokenizer.cls_token_id).all()


# ---------------------------------------------------------------- losses


def test_a_batch_with_nothing_to_predict_teaches_nothing(base: Base, masking: Masking) -> None:
    tokens = np.array([[masking.mask, masking.pad]])
    batch = Batch(tokens, np.full_like(tokens, NO_LABEL))
    with base.prepared(recipe(), seed=0) as model:
        loss = masking.loss(model, batch, 0)
        loss.backward()
        assert loss.item() == 0
        assert all(w.grad is None or not w.grad.any() for w in model.parameters())


def test_held_out_text_has_one_mask_whatever_the_batch(
    task: Task, base: Base, masking: Masking, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = task.domains["general"]["selection"]
    wanted = held_out_loss(base.model, file, LENGTH, masking)
    assert wanted == pytest.approx(np.log(800), rel=0.1), "of an untrained model"
    for tokens in (1, LENGTH * 7):
        monkeypatch.setattr(log_probabilities, "BATCH_TOKENS", tokens)
        again = held_out_loss(base.model, file, LENGTH, masking)
        assert again == pytest.approx(wanted, abs=1e-5)


def test_held_out_text_too_short_for_a_mask_is_told(
    task: Task, base: Base, masking: Masking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked, "HELD_OUT_SHARE", 1e-9)
    short = replace(task.domains["general"]["selection"], tokens=40)
    with pytest.raises(InputError, match="its 40 tokens are too few to mask one; add text"):
        held_out_loss(base.model, short, LENGTH, masking)


def test_the_held_out_mask_does_not_follow_the_recipe(task: Task) -> None:
    untouched = [
        evaluated(task, fidelity=0.0, mask_share=share).measurements for share in (0.1, 0.5)
    ]
    assert untouched[0] == untouched[1]
    trained = [evaluated(task, mask_share=share).measurements for share in (0.1, 0.5)]
    assert trained[0] != trained[1]


# ---------------------------------------------------------------- fine-tunes


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_training_on_masked_text_lowers_the_held_out_loss(adapter: str, task: Task) -> None:
    longer = replace(task, budget_tokens=LENGTH * BATCH * 150)
    untouched = evaluated(task, fidelity=0.0).measurements["general/loss"]
    trained = evaluated(longer, adapter=adapter).measurements["general/loss"]
    assert trained < untouched - (0.7 if adapter == "none" else 0.02)


@pytest.mark.parametrize("saving", [{"micro_batch": 3}, {"checkpointing": True}])
def test_what_saves_memory_changes_nothing(task: Task, saving: dict[str, Any]) -> None:
    plain = evaluated(task).measurements["general/loss"]
    saved = evaluated(replace(task, **saving)).measurements["general/loss"]
    assert saved == (plain if "checkpointing" in saving else pytest.approx(plain, abs=1e-5))


def test_a_fine_tune_that_pauses_meets_the_same_masks(task: Task, tmp_path: Path) -> None:
    whole = evaluated(task)
    paused = replace(task, artifacts=tmp_path)
    evaluated(paused, fidelity=0.5, keep_state=True)
    rest = evaluated(paused, continue_from=0.5)
    assert rest.details["continued_from"] == 0.5
    assert rest.measurements == whole.measurements


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_an_encoder_inherits_and_is_merged(adapter: str, task: Task, tmp_path: Path) -> None:
    kept = replace(task, artifacts=tmp_path)
    for number, share in ((1, 0.1), (2, 0.4)):
        evaluated(kept, number, adapter=adapter, mask_share=share)
    lineage = tuple(
        Ancestor(number, recipe(adapter=adapter).model_dump(mode="json"), 0) for number in (1, 2)
    )
    for start, parents in (("parent", (1,)), ("merge", (1, 2))):
        heir = evaluated(kept, 3, adapter=adapter, start=start, parents=parents, ancestors=lineage)
        assert heir.details["inherited_from"] == list(parents)
        scratch = evaluated(task, 3, adapter=adapter)
        assert heir.measurements["general/loss"] < scratch.measurements["general/loss"]


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_an_encoder_is_written_out_as_it_was_measured(
    adapter: str, task: Task, masking: Masking, tmp_path: Path
) -> None:
    from transformers import AutoModelForMaskedLM

    measured = evaluated(replace(task, artifacts=tmp_path), adapter=adapter).measurements
    assert task.model is not None
    kept, to = weights.folder_of(tmp_path, 1), tmp_path / "to"
    weights.assemble(task.model, kept, to, head=MASKED)
    model = AutoModelForMaskedLM.from_pretrained(to).eval()
    loss = held_out_loss(model, task.domains["general"]["selection"], LENGTH, masking)
    assert loss == pytest.approx(measured["general/loss"], abs=1e-5)
    assert load_tokenizer(to).mask_token == "[MASK]"
