"""Fine-tunes by TRL's SFTTrainer on the quickstart model, beside the builtin trainer's."""

import importlib
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.trl import HONOURED, sft_arguments, unhonoured
from fitness.evaluation import Evaluation, Status, Task
from fitness.evaluators import Trl, TrlSettings
from fitness.models import weights
from fitness.recipe import Recipe
from tests.fitness.quickstart import BATCH, LENGTH, STEPS, evaluate, small_recipe
from tests.randomness import global_states

LONG = 24  # steps of a fine-tune that visibly learns


def with_trl(task: Task, **settings: Any) -> Task:
    return replace(task, evaluator=Trl(trl=TrlSettings(**settings)))


@pytest.fixture(scope="module")
def trl(task: Task) -> Evaluator:
    return Evaluator(with_trl(task))


@pytest.fixture(scope="module")
def builtin(task: Task) -> Evaluator:
    return Evaluator(task)


def same(one: Evaluation, other: Evaluation) -> bool:
    assert one.status is Status.OK, one.message
    curves = [evaluation.details.get("learning_curve") for evaluation in (one, other)]
    return one.measurements == other.measurements and curves[0] == curves[1]


def test_every_field_it_claims_to_honour_is_one_of_a_recipe() -> None:
    assert set(Recipe.model_fields) >= HONOURED


def test_a_field_it_does_not_know_is_told_unless_it_is_at_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert unhonoured(small_recipe(beta2=0.9).model_dump()) == []
    monkeypatch.setattr("fitness.evaluate.trl.HONOURED", HONOURED - {"beta2", "clip_norm"})
    assert unhonoured(small_recipe(beta2=0.9).model_dump()) == ["beta2"]
    assert unhonoured({"own": 1}) == ["own"]


def test_a_recipe_is_what_sft_is_told() -> None:
    recipe = small_recipe(
        learning_rate=2e-3, warmup_share=0.25, decay="constant", beta2=0.9, weight_decay=0.3
    )
    told = sft_arguments(recipe, TrlSettings(loss_type="dft"), steps=40, seed=9)
    assert told["max_steps"] == 40
    assert told["warmup_steps"] == 10
    assert told["lr_scheduler_type"] == "constant_with_warmup"
    assert (told["learning_rate"], told["adam_beta2"], told["weight_decay"]) == (2e-3, 0.9, 0.3)
    assert (told["per_device_train_batch_size"], told["max_length"]) == (BATCH, LENGTH)
    assert (told["seed"], told["max_grad_norm"], told["bf16"]) == (9, 1.0, False)
    assert (told["loss_type"], told["neftune_noise_alpha"]) == ("dft", None)


@pytest.mark.slow
def test_a_fine_tune_leaves_nothing_behind(trl: Evaluator, builtin: Evaluator, task: Task) -> None:
    """Whatever ran before in the worker, the same recipe and seed give the same numbers."""
    full: dict[str, Any] = {"dropout": 0.1}
    lora = {"adapter": "lora", **full}
    importlib.import_module("trl.trainer.sft_trainer")  # imports rich, which draws an id at random
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = global_states(), dict(os.environ)
    first = [evaluate(trl, seed=4, **recipe) for recipe in (full, lora)]
    untouched = evaluate(trl, fidelity=0.0)
    assert evaluate(trl, precision="bfloat16").status is Status.OK
    assert evaluate(trl, learning_rate=10.0).status is Status.DIVERGED
    checkpointing = Evaluator(with_trl(task, gradient_checkpointing=True))
    for recipe, expected in zip((lora, full), first[::-1], strict=True):
        assert same(evaluate(trl, seed=4, **recipe), expected)
        assert same(evaluate(checkpointing, seed=4, **recipe), expected)
    assert not same(evaluate(checkpointing, seed=5, **full), first[0])
    assert same(evaluate(trl, fidelity=0.0), untouched)
    assert same(evaluate(builtin, fidelity=0.0), untouched)
    assert (global_states(), dict(os.environ)) == states


@pytest.mark.slow
def test_a_lower_fidelity_is_the_beginning_and_weights_are_kept_at_the_full_one(
    task: Task, tmp_path: Path
) -> None:
    evaluator = Evaluator(replace(with_trl(task), artifacts=tmp_path))
    part = evaluate(evaluator, individual=3, fidelity=0.67, keep_state=True)
    assert list(tmp_path.iterdir()) == []
    whole = evaluate(evaluator, individual=3)
    assert part.details["learning_curve"] == whole.details["learning_curve"][:2]
    assert part.cost["tokens"] == 2 * BATCH * LENGTH
    assert whole.cost["tokens"] == STEPS * BATCH * LENGTH
    kept = weights.folder_of(tmp_path, 3)
    assert list(tmp_path.iterdir()) == [kept]
    assert (kept / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nf4"])
def test_an_adapter_beside_quantised_weights_is_trained_in_float32(task: Task, kind: Any) -> None:
    """TRL itself rounds the adapter beside 4 bits to bfloat16."""
    task = replace(task, quantisation=kind)
    recipe: dict[str, Any] = {"adapter": "lora", "learning_rate": 5e-3, "warmup_share": 0.0}
    losses = [
        evaluate(Evaluator(one), **recipe).measurements["target/loss"]
        for one in (with_trl(task), task)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=3e-5)
