"""The cost model: what is counted, and that it follows recipe and model alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fitness.cost import Shape, cost_of, scoring_flops, training_flops
from fitness.evaluation import Task
from fitness.recipe import Recipe
from tests.fitness.quickstart import MODEL, small_recipe, small_task

# A made-up model in which attention over the context costs nothing, so that counts are round.
FLAT = Shape(weights=1000, head=200, layers=0, width=0)
DEEP = Shape(weights=1000, head=200, layers=4, width=10)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return small_task(tmp_path_factory.mktemp("cache"))


def test_training_all_weights_costs_six_operations_a_weight_and_token() -> None:
    assert training_flops(FLAT, Recipe(), 7) == 6 * 1000 * 7


def test_an_adapter_spares_the_gradients_of_the_weights_it_stands_beside() -> None:
    rank = 4096  # without a width, its own matrices cost nothing
    assert training_flops(FLAT, Recipe(adapter="lora", lora_rank=rank), 7) == 4 * 1000 * 7


def test_attention_grows_with_the_sequence() -> None:
    costs = [training_flops(DEEP, Recipe(sequence_length=n), 1) for n in (10, 20, 30)]
    assert costs[1] - costs[0] == costs[2] - costs[1] == 3 * 4 * 4 * 10 * 10


def test_an_adapter_on_few_layers_goes_back_no_further() -> None:
    def cost(layers: int, rank: int = 1) -> float:
        return training_flops(DEEP, Recipe(adapter="lora", lora_layers=layers, lora_rank=rank), 1)

    assert cost(1) < cost(2) < cost(4) == cost(0) == cost(9)
    assert cost(0, rank=8) > cost(0)
    assert cost(0) < training_flops(DEEP, Recipe(), 1)


def test_an_adapter_costs_by_the_modules_it_stands_beside_and_dora_more_than_lora() -> None:
    shape = Shape.of(MODEL)
    assert sum(shape.modules.values()) == 3 * (4 * 96 * 96 + 3 * 96 * 256)

    def cost(adapter: str = "lora", **changes: Any) -> float:
        return training_flops(shape, Recipe(adapter=adapter, **changes), 1000)

    attention, mlp = (cost(lora_targets=one) for one in ("attention", "mlp"))
    assert attention < mlp < cost()
    assert cost(lora_targets="q_proj,k_proj,v_proj,o_proj") == attention
    assert cost() < cost("dora") < cost("dora", lora_dropout=0.1) < 2 * cost()
    assert cost("dora", dropout=0.1, lora_dropout=0.0) == cost("dora")


def test_the_shape_is_told_from_headers_and_configuration(tmp_path: Path) -> None:
    shape = Shape.of(MODEL)
    assert shape == Shape(weights=430_752, head=1024 * 96, layers=3, width=96)
    untied = tmp_path / "untied"
    shutil.copytree(MODEL, untied)
    weights = load_file(untied / "model.safetensors")
    weights["lm_head.weight"] = torch.zeros(1024, 96)
    save_file(weights, untied / "model.safetensors")
    assert Shape.of(untied) == shape  # the table that is only looked up does not count
    (untied / "config.json").write_text(json.dumps({"model_type": "unheard of"}))
    assert Shape.of(untied) == Shape(430_752 + 1024 * 96, 0, 0, 0)


def test_scoring_counts_held_out_text_and_prompts(task: Task) -> None:
    shape = Shape.of(MODEL)
    file = task.domains["target"]["selection"]
    silent = replace(task, prompts={}, prompt_sets={})
    assert scoring_flops(shape, silent) == shape.forward(task.held_out_length) * file.tokens
    assert scoring_flops(shape, task) > scoring_flops(shape, silent)


def test_the_cost_of_an_evaluation_is_scoring_and_a_share_of_the_training(task: Task) -> None:
    cost, shape = cost_of(task), Shape.of(MODEL)
    recipe = small_recipe()
    scoring = scoring_flops(shape, task)
    assert cost(recipe.model_dump(), 0.0) == scoring
    whole = training_flops(shape, recipe, task.budget_tokens)
    assert cost(recipe.model_dump(), 1.0) == scoring + whole
    assert cost(recipe.model_dump(), 0.5) == scoring + whole / 2


def test_where_somebody_else_trains_only_the_fidelity_is_known() -> None:
    cost = cost_of(Task("package.module:function"))
    assert cost({"rank": 3}, 1.0) == cost({"rank": 300}, 1.0) == 2 * cost({}, 0.5)
