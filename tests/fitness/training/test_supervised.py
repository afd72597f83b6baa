"""Fine-tuning against a plain torch loop, and what each of a recipe's hyperparameters does."""

from typing import Any

import numpy as np
import pytest
import torch

from fitness.evaluation import Task
from fitness.mixture.mixing import Batch
from fitness.models.base import Base
from fitness.training.state import NOT_BEGUN, TrainingState
from fitness.training.supervised import (
    Diverged,
    TrainingReport,
    extended,
    finetune,
)
from tests.fitness.quickstart import batches_of, small_recipe

STEPS = 6


@pytest.fixture(scope="module")
def longer(task: Task) -> Task:
    """Six steps, the last of them a sequence short."""
    from dataclasses import replace

    return replace(task, budget_tokens=2 * task.budget_tokens - 70)


def finetuned(
    base: Base, task: Task, *, seed: int = 0, **changes: Any
) -> tuple[dict[str, torch.Tensor], TrainingReport]:
    """The weights after a fine-tune, and its report."""
    recipe = small_recipe(**changes)
    with base.prepared(recipe, seed=seed) as model:
        report = finetune(model, recipe, batches_of(task, recipe), steps=STEPS, seed=seed)
        assert not model.training
        return {name: w.detach().clone() for name, w in model.named_parameters()}, report


def small(batch: Batch) -> Batch:
    return Batch(batch.input_ids[:1, :8], batch.labels[:1, :8], tokens=8)


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_bfloat16_stays_close_to_float32(base: Base, longer: Task, adapter: str) -> None:
    """It would not if each step saw the weights of the first one."""
    settings: dict[str, Any] = {"adapter": adapter, "learning_rate": 5e-3, "warmup_share": 0}
    settings["decay"] = "constant"
    _, exact = finetuned(base, longer, **settings)
    weights, rounded = finetuned(base, longer, precision="bfloat16", **settings)
    assert {w.dtype for w in weights.values()} == {torch.float32}
    gained = exact.learning_curve[0][1] - exact.learning_curve[-1][1]
    for (_, one), (_, two) in zip(exact.learning_curve, rounded.learning_curve, strict=True):
        assert one == pytest.approx(two, abs=0.02)
    assert abs(gained) > 0.1


def test_weight_decay_shrinks_matrices_only(base: Base, longer: Task) -> None:
    first = batches_of(longer, small_recipe())[:1]

    def after(weight_decay: float) -> dict[str, torch.Tensor]:
        recipe = small_recipe(weight_decay=weight_decay, warmup_share=0, learning_rate=1e-2)
        with base.prepared(recipe, seed=0) as model:
            finetune(model, recipe, first, steps=1, seed=0)
            return {name: w.detach().clone() for name, w in model.named_parameters()}

    before = {name: w.detach() for name, w in base.model.named_parameters()}
    kept, decayed = after(0.0), after(2.0)
    for name, weight in kept.items():
        if weight.ndim == 1:
            assert torch.equal(weight, decayed[name])
        else:
            torch.testing.assert_close(weight - decayed[name], 0.02 * before[name])


def test_the_seed_decides_the_dropout_masks_and_nothing_else_does(base: Base, longer: Task) -> None:
    state = torch.get_rng_state()
    one, _ = finetuned(base, longer, dropout=0.2, seed=3)
    torch.rand(5)
    again, _ = finetuned(base, longer, dropout=0.2, seed=3)
    torch.set_rng_state(state)
    other, _ = finetuned(base, longer, dropout=0.2, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal(one, again)
    assert not torch.equal(one["model.norm.weight"], other["model.norm.weight"])


def test_the_first_loss_is_the_untouched_model_s(base: Base, longer: Task) -> None:
    inputs = torch.from_numpy(batches_of(longer, small_recipe())[0].input_ids)
    with torch.no_grad():
        wanted = base.model(input_ids=inputs, labels=inputs).loss.item()
    _, report = finetuned(base, longer, learning_rate=10, warmup_share=1)
    assert report.learning_curve[0][1] == pytest.approx(wanted, abs=1e-6)


def test_a_long_learning_curve_is_thinned(base: Base, longer: Task) -> None:
    recipe = small_recipe(adapter="lora", lora_layers=1)
    batches = [small(batch) for batch in batches_of(longer, recipe)] * 15
    with base.prepared(recipe, seed=0) as model:
        report = finetune(model, recipe, batches, steps=len(batches), seed=0)
    curve = report.learning_curve
    assert report.steps == len(batches) == 90
    assert 20 <= len(curve) <= 30
    assert curve[-1][0] == report.tokens
    assert [tokens for tokens, _ in curve] == sorted({tokens for tokens, _ in curve})


def test_a_point_of_a_learning_curve_is_the_mean_over_its_steps() -> None:
    losses = [5.0, 4.0, 2.0, 3.0, 1.0, 8.0]
    curve: list[tuple[int, float]] = []
    for step, loss in enumerate(losses):
        curve = extended(curve, 10 * (step + 1), loss, step=step, every=3)
    assert curve == [(10, 5.0), (40, pytest.approx(3.0)), (60, pytest.approx(4.5))]


def test_a_pause_between_the_points_of_a_thinned_curve_leaves_none_behind(
    base: Base, longer: Task
) -> None:
    recipe = small_recipe(adapter="lora", lora_layers=1)
    batches = [small(batch) for batch in batches_of(longer, recipe)] * 8
    steps, pause = len(batches), 20
    paused: list[TrainingState] = []

    def curve(begin: TrainingState, **asked: Any) -> list[tuple[int, float]]:
        with base.prepared(recipe, seed=0) as model:
            coming = batches[begin.step :]
            report = finetune(model, recipe, coming, steps=steps, seed=0, begin=begin, **asked)
        return report.learning_curve

    part = curve(NOT_BEGUN, until=pause, keep=paused.append)
    assert part[-1][0] == paused[0].tokens == sum(batch.tokens for batch in batches[:pause])
    assert curve(paused[0]) == curve(NOT_BEGUN)
    assert len(part) == pause // 2 + 1


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_rate_of_ten_diverges(base: Base, task: Task, adapter: str) -> None:
    recipe = small_recipe(adapter=adapter, learning_rate=10, warmup_share=0, clip_norm=0)
    batches = batches_of(task, recipe) * 10
    with (
        base.prepared(recipe, seed=0) as model,
        pytest.raises(Diverged, match=r"loss .* and gradient norm .* at step \d"),
    ):
        finetune(model, recipe, batches, steps=len(batches), seed=0)


def test_a_last_step_that_ruins_the_weights_diverges(base: Base, longer: Task) -> None:
    """Nothing is trained after it that would show."""
    recipe = small_recipe()
    with base.prepared(recipe, seed=0) as model:
        weight = model.model.norm.weight

        def ruin(weight: torch.Tensor) -> None:
            weight.data.fill_(float("inf"))

        hook = weight.register_post_accumulate_grad_hook(ruin)
        with pytest.raises(Diverged, match="last step left weights that are not finite"):
            finetune(model, recipe, batches_of(longer, recipe)[:1], steps=1, seed=0)
        hook.remove()


def test_padding_is_not_learned(base: Base, longer: Task) -> None:
    recipe = small_recipe()
    batch = batches_of(longer, recipe)[0]
    wide = batch._replace(
        input_ids=np.pad(batch.input_ids, ((0, 0), (0, 30)), constant_values=7),
        labels=np.pad(batch.labels, ((0, 0), (0, 30)), constant_values=-100),
    )
    reports, weights = [], []
    for one in (batch, wide):
        with base.prepared(recipe, seed=0) as model:
            reports.append(finetune(model, recipe, [one], steps=1, seed=0))
            weights.append(model.model.norm.weight.detach().clone())
    assert reports[0].tokens == reports[1].tokens == batch.input_ids.size
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-6)
