"""Adapters: where they stand, how they are scaled and dropped out, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.models import adapters
from fitness.models.adapters import is_target, targeted
from fitness.models.base import Base
from fitness.models.heads import CAUSAL
from fitness.models.loading import skeleton
from fitness.recipe import Recipe
from fitness.training.supervised import finetune
from tests.fitness.models.test_base import gpt2
from tests.fitness.quickstart import MODEL, STEPS, batches_of, small_recipe

__all__ = ["gpt2"]

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj"}


def trained(base: Base, **changes: Any) -> dict[str, torch.Tensor]:
    """The trainable weights of an adapter before training."""
    recipe = small_recipe(**{"adapter": "lora", **changes})
    with base.prepared(recipe, seed=0) as model:
        return {n: w.detach().clone() for n, w in model.named_parameters() if w.requires_grad}


def beside(base: Base, **changes: Any) -> set[str]:
    """The last part of the names of the modules that get an adapter."""
    return {name.split(".lora_")[0].rpartition(".")[2] for name in trained(base, **changes)}


@pytest.mark.parametrize(
    ("targets", "modules"),
    [
        ("all", ATTENTION | MLP),
        ("attention", ATTENTION),
        ("mlp", MLP),
        ("q_proj,v_proj", {"q_proj", "v_proj"}),
        ("self_attn.o_proj, up_proj", {"o_proj", "up_proj"}),
    ],
)
def test_an_adapter_stands_beside_its_targets(base: Base, targets: str, modules: set[str]) -> None:
    assert beside(base, lora_targets=targets) == modules


def test_targets_are_taken_within_the_last_layers(base: Base) -> None:
    names = trained(base, lora_targets="q_proj", lora_layers=1)
    assert len(names) == 2
    assert all("layers.2.self_attn.q_proj" in name for name in names)


def test_a_part_of_a_module_s_name_is_no_target() -> None:
    assert not is_target("layers.0.self_attn.q_proj", "proj")
    assert not is_target("layers.0.self_attn.q_proj", "attn.q_proj")
    assert is_target("layers.0.self_attn.q_proj", "self_attn.q_proj")


def test_a_missing_module_is_refused_with_those_there_are() -> None:
    modules = ["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "layers.0.mlp.up_proj"]
    with pytest.raises(InputError) as told:
        targeted(modules, "q_proj,k_poj")
    assert str(told.value) == (
        "lora_targets: no linear module of the base model's layers is 'k_poj'; it has 'q_proj', "
        "'up_proj'; did you mean 'q_proj'?"
    )
    with pytest.raises(InputError, match="is 'mlp'; it has 'q_proj'"):
        targeted(modules[:1], "mlp")


@pytest.mark.parametrize("targets", ["", "q proj", "q_proj,", "all,*"])
def test_targets_that_name_nothing_are_refused(targets: str) -> None:
    with pytest.raises(ValidationError, match="lora_targets"):
        Recipe(lora_targets=targets)


def test_another_architecture_has_its_groups_too(gpt2: Path) -> None:
    base = Base(gpt2)
    assert beside(base, lora_targets="attention", adapter="dora") == {"c_attn", "c_proj"}
    assert beside(base, lora_targets="mlp") == {"c_fc", "c_proj"}
    assert beside(base, lora_targets="attn.c_proj") == {"c_proj"}


def test_linear_modules_are_told_without_loading_weights(base: Base) -> None:
    before = torch.get_rng_state()
    found = list(adapters.linear_modules(skeleton(MODEL, CAUSAL)))
    assert found == list(adapters.linear_modules(base.model))
    assert torch.equal(torch.get_rng_state(), before)


def test_rank_stabilised_scaling_divides_by_the_root_of_the_rank(base: Base) -> None:
    settings = {"adapter": "lora", "lora_rank": 16, "lora_alpha": 8.0}
    for scaling, wanted in (("standard", 8 / 16), ("rank_stabilised", 8 / 4)):
        with base.prepared(small_recipe(**settings, lora_scaling=scaling), seed=0) as model:
            found = {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")}
        assert found == {wanted}


@pytest.mark.parametrize(
    ("dropout", "own", "adapter_rate"),
    [(0.25, None, {0.25}), (0.25, 0.5, {0.5}), (0.0, 0.5, {0.5}), (0.25, 0.0, set())],
)
def test_an_adapter_s_dropout_is_its_own_or_follows(
    gpt2: Path, dropout: float, own: float | None, adapter_rate: set[float]
) -> None:
    base = Base(gpt2)
    recipe = small_recipe(adapter="lora", dropout=dropout, lora_dropout=own)
    with base.prepared(recipe, seed=0) as model:
        rates = {
            adapter: {
                m.p
                for name, m in model.named_modules()
                if isinstance(m, torch.nn.Dropout) and ("lora_dropout" in name) == adapter
            }
            for adapter in (True, False)
        }
    assert rates == {True: adapter_rate, False: {dropout}}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dora_begins_as_the_base_and_trains_lengths_besides(task: Task, dtype: str) -> None:
    base, ids = Base(MODEL, dtype), torch.arange(20)[None]
    with torch.no_grad():
        plain = base.model(input_ids=ids).logits
    recipe = small_recipe(adapter="dora", lora_layers=1)
    with base.prepared(recipe, seed=0) as model:
        with torch.no_grad():
            begun = model(input_ids=ids).logits
        before = {n: w.detach().clone() for n, w in model.named_parameters()}
        own = {n: w for n, w in model.named_parameters() if w.requires_grad}
        assert sum("lora_magnitude_vector" in name for name in own) == 7
        assert {w.dtype for w in own.values()} == {torch.float32}
        finetune(model, recipe, batches_of(task, recipe), steps=STEPS, seed=0)
        changed = {n for n, w in model.named_parameters() if not torch.equal(before[n], w)}
    assert changed == own.keys()
    torch.testing.assert_close(begun, plain, atol=1e-4 if dtype == "float32" else 0.2, rtol=0)
