"""Optimisers against the libraries' own by hand, and the schedule of the learning rate."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from transformers import get_scheduler
from transformers.optimization import Adafactor

from fitness.errors import InputError
from fitness.evaluate.trl import SCHEDULES, schedule_settings
from fitness.evaluation import Task
from fitness.models.base import Base
from fitness.recipe import Recipe
from fitness.training.optimisers import optimisers, rate_at, trained_by
from fitness.training.supervised import finetune
from tests.fitness.quickstart import batches_of, small_recipe

RATE, DECAY, BETA2 = 3e-3, 0.1, 0.95
SETTINGS: dict[str, Any] = {"learning_rate": RATE, "weight_decay": DECAY, "beta2": BETA2}


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine", "wsd"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_the_rate_rises_to_its_peak_and_never_beyond(decay: Any, warmup: float, steps: int) -> None:
    recipe = Recipe(decay=decay, warmup_share=warmup)
    rates = [rate_at(step, steps, recipe) for step in range(steps)]
    rising = round(warmup * steps)
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1
    assert rates[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    assert rates[rising:] == sorted(rates[rising:], reverse=True)


def test_the_rate_at_the_ends_of_each_decay() -> None:
    def rates(decay: Any, warmup: float) -> list[float]:
        recipe = Recipe(decay=decay, warmup_share=warmup)
        return [rate_at(step, 4, recipe) for step in range(5)]

    assert rates("constant", 0) == [1, 1, 1, 1, 1]
    assert rates("linear", 0) == [1, 0.75, 0.5, 0.25, 0]
    assert rates("cosine", 0) == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0])
    assert rates("linear", 0.5) == [0.5, 1, 1, 0.5, 0]
    assert rates("wsd", 0.25) == [1, 1, 1, 1, 0]
    assert rates("cosine", 1)[:4] == rates("linear", 1)[:4] == [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("decay", sorted(SCHEDULES))
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.9])
def test_the_rate_is_that_of_transformers_after_the_warm_up(decay: Any, warmup: float) -> None:
    steps, recipe = 30, Recipe(decay=decay, warmup_share=warmup)
    rising = round(warmup * steps)
    idle = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    settings = schedule_settings(recipe, steps).get("lr_scheduler_kwargs")
    schedule = get_scheduler(SCHEDULES[decay], idle, rising, steps, settings)
    theirs = []
    for _ in range(steps):
        theirs.append(schedule.get_last_lr()[0])
        idle.step()
        schedule.step()
    ours = [rate_at(step, steps, recipe) for step in range(steps)]
    assert ours[rising:] == pytest.approx(theirs[rising:])


def by_hand(model: Any, optimizer: str) -> Iterator[torch.optim.Optimizer]:
    """The optimisers as their libraries would be called, told apart by the names of weights."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [w for n, w in named if w.ndim == 2 and ".layers." in n]
    others = [w for n, w in named if w.ndim == 2 and ".layers." not in n]
    vectors = [w for _, w in named if w.ndim == 1]
    if optimizer == "muon":
        like = "match_rms_adamw"
        yield torch.optim.Muon(matrices, RATE, weight_decay=DECAY, adjust_lr_fn=like)
        matrices = []
    groups: Any = [
        {"params": matrices + others, "weight_decay": DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if optimizer == "adafactor":
        yield Adafactor(groups, lr=RATE, scale_parameter=False, relative_step=False)
    elif optimizer == "adamw_8bit":
        yield AdamW8bit(groups, RATE, betas=(0.9, BETA2))
    elif any(group["params"] for group in groups):
        yield torch.optim.AdamW(groups, RATE, betas=(0.9, BETA2), fused=True)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit", "muon", "adafactor"])
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_fine_tune_steps_as_the_library_s_optimiser(
    base: Base, task: Task, optimizer: Any, adapter: Any
) -> None:
    more = {"optimizer": optimizer, "adapter": adapter, "decay": "wsd", "clip_norm": 0.5}
    recipe = small_recipe(**SETTINGS, **more)
    batches = batches_of(task, recipe) * 3
    with base.prepared(recipe, seed=0) as model:
        report = finetune(model, recipe, batches, steps=len(batches), seed=0)
        ours = [weight.detach().clone() for weight in model.parameters() if weight.requires_grad]
    with base.prepared(recipe, seed=0) as model:
        model.train()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        theirs = list(by_hand(model, optimizer))
        for step, batch in enumerate(batches):
            inputs = torch.from_numpy(batch.input_ids)
            model(input_ids=inputs, labels=inputs).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained_by(*theirs), 0.5)  # sums in the same order
            for one in theirs:
                for group in one.param_groups:
                    group["lr"] = RATE * rate_at(step, len(batches), recipe)
                one.step()
                one.zero_grad()
        model.eval()
        # Where gradients differ by rounding, a number of 8 bits may become its neighbour.
        far, most = (RATE, 0.05) if optimizer == "adamw_8bit" else (1e-6, 0.0)
        for own, other in zip(ours, trained, strict=True):
            torch.testing.assert_close(own, other.detach(), rtol=1e-5, atol=far)
            apart = ~torch.isclose(own, other.detach(), rtol=1e-5, atol=1e-6)
            assert apart.float().mean() <= most
    first, *_, last = [loss for _, loss in report.learning_curve]
    assert last < first - 0.01


def test_each_weight_has_one_optimiser(base: Base) -> None:
    for adapter, counts in (("none", [21, 8]), ("lora", [42])):
        recipe = small_recipe(adapter=adapter, optimizer="muon")
        with base.prepared(recipe, seed=0) as model:
            found = optimisers(model, recipe)
            assert [len(trained_by(one)) for one in found] == counts
            every = {id(w) for w in model.parameters() if w.requires_grad}
            assert {id(weight) for weight in trained_by(*found)} == every


def test_an_adapter_has_an_optimiser_of_its_own_weights_only(base: Base) -> None:
    recipe = small_recipe(adapter="lora", lora_layers=1)
    with base.prepared(recipe, seed=0) as model:
        (adamw,) = optimisers(model, recipe)
        assert [len(group["params"]) for group in adamw.param_groups] == [14, 0]


def test_muon_without_a_matrix_is_refused(base: Base) -> None:
    recipe = small_recipe(optimizer="muon")
    with base.prepared(recipe, seed=0) as model:
        for weight in model.model.layers.parameters():
            weight.requires_grad_(False)
        with pytest.raises(InputError, match=r"optimizer muon: the layers of Llama.* no matrix"):
            optimisers(model, recipe)
        for weight in model.parameters():
            weight.requires_grad_(True)


def test_a_bucket_takes_no_other_optimiser() -> None:
    from fitness.buckets.together import HONOURED

    assert "optimizer" not in HONOURED
