"""Fine-tunes against a plain loop of torch, and against TRL's SFTTrainer."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evo import config as configuration
from evo.export.formats import export_as
from evo.prepare.task import prepare
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.held_out import held_out_loss
from fitness.evaluation import EvaluationSpec, Status, Task
from fitness.evaluators import Trl
from fitness.models.base import Base
from fitness.recipe import Recipe
from fitness.training.supervised import finetune
from tests.evo.export.test_formats import GENOMES, LEARNS, QUANTISED, TOP, run_of
from tests.fitness.evaluate.test_trl import LONG, with_trl
from tests.fitness.quickstart import BATCH, LENGTH, MODEL, batches_of, evaluate, small_recipe
from tests.fitness.training.test_supervised import assert_equal
from tests.fitness.training.test_supervised import longer as longer


def plain_loop(
    recipe: Recipe, batches: list[Any], model: Any = None
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The fine-tune as a reader of the recipe would write it, from nothing but torch."""
    from transformers import AutoModelForCausalLM

    model = model or AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    trained = [w for w in model.train().parameters() if w.requires_grad]
    matrices = [w for w in trained if w.ndim > 1]
    vectors = [w for w in trained if w.ndim == 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(
        groups,
        betas=(0.9, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    warmup, losses = round(recipe.warmup_share * len(batches)), []
    for step, (inputs, labels, *_) in enumerate(batches):
        rate = (step + 1) / warmup if step < warmup else 1.0
        if step >= warmup and recipe.decay != "constant":
            past = (step - warmup) / (len(batches) - warmup)
            rate = 1 - past if recipe.decay == "linear" else (1 + math.cos(math.pi * past)) / 2
        for group in adam.param_groups:
            group["lr"] = rate * recipe.learning_rate
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = model(input_ids=torch.tensor(inputs)).logits.float()
        following = torch.nn.functional.pad(torch.tensor(labels)[:, 1:], (0, 1), value=-100)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())
        adam.zero_grad()
        loss.backward()
        if recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(matrices + vectors, recipe.clip_norm)
        adam.step()
        losses.append(loss.item())
    return {name: w.detach() for name, w in model.named_parameters()}, losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"decay": "linear", "warmup_share": 0.5, "weight_decay": 0.3, "beta2": 0.9},
        {"decay": "constant", "warmup_share": 0, "clip_norm": 0, "learning_rate": 4e-3},
        {"clip_norm": 0.1, "batch_size": 3, "sequence_length": 41},
        {"precision": "bfloat16", "learning_rate": 4e-3},
    ],
)
def test_a_fine_tune_is_a_plain_loop(base: Base, longer: Task, changes: dict[str, Any]) -> None:
    recipe = small_recipe(**changes)
    batches = batches_of(longer, recipe)
    wanted, losses = plain_loop(recipe, batches)
    with base.prepared(recipe, seed=0) as model:
        report = finetune(model, recipe, batches, steps=len(batches), seed=0)
        assert_equal(wanted, dict(model.named_parameters()))
    assert [loss for _, loss in report.learning_curve] == losses
    assert report.steps == len(batches)
    assert report.tokens == longer.budget_tokens == report.learning_curve[-1][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [{"learning_rate": 1e-3}, {"adapter": "lora", "lora_layers": 2, "learning_rate": 5e-3}],
)
def test_it_learns_what_the_builtin_trainer_learns(task: Task, recipe: dict[str, Any]) -> None:
    task = replace(task, budget_tokens=LONG * BATCH * LENGTH, prompt_sets={}, prompts={})
    recipe = {"mixture": {"jargon": 0.7, "wordnet": 0.3}, "warmup_share": 0.25, **recipe}
    by_trl, by_builtin = (evaluate(Evaluator(one), **recipe) for one in (with_trl(task), task))
    assert by_trl.status is Status.OK, by_trl.message
    untouched = evaluate(Evaluator(task), fidelity=0.0).measurements["target/loss"]
    learned = untouched - by_trl.measurements["target/loss"]
    assert learned > 0.05
    assert learned == pytest.approx(untouched - by_builtin.measurements["target/loss"], rel=0.1)
    assert by_trl.cost["tokens"] == by_builtin.cost["tokens"] == task.budget_tokens
    assert by_trl.cost["flops"] == by_builtin.cost["flops"]
    assert by_trl.details["shares"] == by_builtin.details["shares"]
    curve, expected = (one.details["learning_curve"] for one in (by_trl, by_builtin))
    assert [tokens for tokens, _ in curve] == [tokens for tokens, _ in expected]
    assert curve[0][1] == pytest.approx(expected[0][1], abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TRL and PEFT
@pytest.mark.parametrize("quantisation", ["none", "nf4"])
def test_what_trl_makes_of_it_is_what_the_evaluator_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantisation: str
) -> None:
    """Train by the code that `trl sft --config sft.yaml` runs, but in this process."""
    from peft import PeftModel
    from trl.scripts.sft import main as sft
    from trl.scripts.sft import make_parser

    overrides = [*QUANTISED, "budget.tokens=4608", "recipe.lora_alpha=16"]
    overrides.append(f"model.quantisation={quantisation}")
    monkeypatch.setitem(GENOMES, TOP, GENOMES[TOP] | LEARNS)
    run, to = run_of(tmp_path, TOP, *overrides), tmp_path / "elsewhere"
    config = configuration.load(tmp_path / "little.yaml", overrides)
    task = replace(prepare(config).task, evaluator=Trl())
    export_as(run, str(TOP), "trl", to)

    assert task.model is not None
    base = Base(task.model, quantisation=quantisation)  # 4 bits are decoded right from now on
    monkeypatch.chdir(to)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with torch.random.fork_rng():
        parser = make_parser()
        sft(*parser.parse_args_and_config(["--config", "sft.yaml"], fail_with_unknown_args=True))

    model = PeftModel.from_pretrained(base.model, to / "output").eval()
    loss = held_out_loss(model, task.domains["target"]["selection"], task.held_out_length)
    evaluator = Evaluator(task)
    recipe = configuration.decode(config, GENOMES[TOP])
    expected, untouched = (
        evaluator.evaluate(EvaluationSpec(0, recipe, 0, fidelity)) for fidelity in (1.0, 0.0)
    )
    assert expected.status is Status.OK, expected.message
    before = untouched.measurements["target/loss"]
    assert before - loss > 0.02
    assert before - loss == pytest.approx(before - expected.measurements["target/loss"], rel=0.1)
