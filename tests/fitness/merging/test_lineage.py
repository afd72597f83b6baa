"""Beginning with the weights of parents: what is taken over, and what if it is gone."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Ancestor, Evaluation, EvaluationSpec, Status, Task
from fitness.merging import lineage
from fitness.mixture.decks import Draw, Windows
from fitness.mixture.mixing import Mixing
from fitness.models import weights
from fitness.models.base import Base
from tests.fitness.quickstart import small_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(20)[None]).logits


def trained(base: Base, folder: Path, seed: int = 0, **recipe: Any) -> torch.Tensor:
    """Weights that differ from the base's, kept in a folder; returns what the model answers."""
    torch.manual_seed(seed)
    with base.prepared(small_recipe(**recipe), seed=seed) as model, torch.no_grad():
        for weight in (w for w in model.parameters() if w.requires_grad):
            weight.add_(0.02 * torch.randn_like(weight))
        weights.keep(model, folder)
        return logits(model)


def begun(base: Base, folder: Path, **recipe: Any) -> torch.Tensor:
    """Outputs of a child that starts from the checkpoint in a folder."""
    with base.prepared(small_recipe(**recipe), seed=9) as model:
        lineage.begin(model, lineage.read(folder))
        return logits(model)


@pytest.mark.parametrize("kind", [{"adapter": "none"}, {"adapter": "lora", "lora_rank": 4}])
def test_a_child_of_the_same_kind_begins_with_its_parent_to_the_bit(
    base: Base, tmp_path: Path, kind: dict[str, Any]
) -> None:
    before = logits(base.model)
    parent = trained(base, tmp_path / "parent", **kind)
    assert not torch.equal(parent, before)
    assert torch.equal(begun(base, tmp_path / "parent", **kind), parent)
    assert torch.equal(logits(base.model), before)


@pytest.mark.parametrize(
    "child",
    [
        {"adapter": "lora", "lora_rank": 4, "lora_alpha": 3.0},
        {"adapter": "lora", "lora_rank": 6},
        {"adapter": "none"},
    ],
)
def test_a_child_that_can_hold_more_than_its_parents_adapter_answers_as_it_did(
    base: Base, tmp_path: Path, child: dict[str, Any]
) -> None:
    parent = trained(base, tmp_path / "parent", adapter="lora", lora_rank=4)
    torch.testing.assert_close(begun(base, tmp_path / "parent", **child), parent, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", [{"adapter": "none"}, {"adapter": "lora", "lora_rank": 8}])
def test_a_smaller_rank_takes_over_the_best_approximation_of_each_matrix(
    base: Base, tmp_path: Path, kind: dict[str, Any]
) -> None:
    trained(base, tmp_path / "parent", **kind)
    inherited = lineage.read(tmp_path / "parent")
    with base.prepared(small_recipe(adapter="lora", lora_rank=3), seed=9) as model:
        lineage.begin(model, inherited)
        layers = {
            name.removeprefix("base_model.model."): layer
            for name, layer in model.named_modules()
            if "default" in getattr(layer, "lora_A", {})
        }
        for name, layer in layers.items():
            if name in inherited.factors:
                wanted = lineage.product(inherited.factors[name], layer.base_layer)
            else:
                wanted = inherited.all[f"{name}.weight"] - layer.base_layer.weight
            missing = torch.linalg.matrix_norm(wanted - layer.get_delta_weight("default"))
            dropped = torch.linalg.svdvals(wanted)[3:].norm()
            torch.testing.assert_close(missing, dropped, atol=1e-4, rtol=1e-3)
    assert layers


def test_a_layer_that_the_parent_did_not_adapt_begins_as_the_base(
    base: Base, tmp_path: Path
) -> None:
    parent = trained(base, tmp_path / "parent", adapter="lora", lora_layers=1)
    answer = begun(base, tmp_path / "parent", adapter="lora", lora_layers=0)
    torch.testing.assert_close(answer, parent, atol=1e-5, rtol=0)


def windows_of(draws: Iterable[tuple[Draw, int]]) -> list[list[int]]:
    return [draw.sequences[0].tokens.tolist() for draw, _ in draws]


def test_data_that_were_seen_are_left_out() -> None:
    source = {"a": Windows(np.arange(1000), 10), "b": Windows(np.arange(1000, 2000), 10)}
    whole = Mixing({"a": 1.0}, source, budget_tokens=200, sequence_length=10, seed=3)
    seen = {"a": 100, "b": 40}
    rest = Mixing({"a": 1.0}, source, budget_tokens=100, sequence_length=10, seed=3, seen=seen)
    windows = windows_of(whole.draws())
    assert windows_of(rest.draws()) == windows[10:]
    assert windows_of(rest.draws(skip=4)) == windows[14:]
    other = Mixing(
        {"a": 1.0}, source, budget_tokens=100, sequence_length=10, seed=4, seen=seen, seen_seed=3
    )
    shuffled = windows_of(other.draws())
    assert shuffled != windows[10:]
    assert sorted(shuffled) == sorted(windows[10:])
    assert windows_of(other.draws(skip=4)) == shuffled[4:]


RECIPES = {
    3: small_recipe(),
    5: small_recipe(adapter="lora", lora_rank=3, start="parent"),
    8: small_recipe(start="merge", merge_method="dare_linear", mixture={"jargon": 1.0}),
}
PARENTS = {3: (), 5: (3,), 8: (3, 5)}


def evaluated(evaluator: Evaluator, individual: int, seed: int = 0, **changes: Any) -> Evaluation:
    """Evaluate one of a family: 5 starts from the weights of 3, 8 from those of both, merged."""
    seen: dict[int, dict[str, int]] = {3: {}, 5: TOKENS[3], 8: lineage.added(*TOKENS.values())}
    plain = {number: recipe.model_dump(mode="json") for number, recipe in RECIPES.items()}
    ancestors = [Ancestor(n, plain[n], 0, PARENTS[n], seen[n]) for n in PARENTS if n < individual]
    spec = EvaluationSpec(
        individual,
        plain[individual],
        seed,
        parents=PARENTS[individual],
        seen=seen[individual],
        ancestors=tuple(ancestors),
    )
    evaluation = evaluator.evaluate(replace(spec, **changes))
    assert evaluation.status is Status.OK, evaluation.message
    return evaluation


TOKENS = {3: {"jargon": 288, "wordnet": 288}, 5: {"jargon": 144, "wordnet": 144}}


def test_what_a_lineage_was_trained_on_is_told_with_its_share(task: Task, tmp_path: Path) -> None:
    evaluator = Evaluator(replace(task, artifacts=tmp_path, inherit_share=0.5))
    first, second, third = (evaluated(evaluator, number) for number in RECIPES)
    assert [one.cost["tokens"] for one in (first, second, third)] == [576, 288, 288]
    assert first.details["cumulative_tokens"] == TOKENS[3]
    assert "inherited_from" not in first.details
    assert second.details["cumulative_tokens"] == {"jargon": 432, "wordnet": 432}
    assert second.details["inherited_from"] == [3]
    assert third.details["cumulative_tokens"] == {"jargon": 720, "wordnet": 432}
    assert third.details["inherited_from"] == [3, 5]


def test_parents_whose_weights_are_gone_are_trained_again_to_the_same(
    task: Task, tmp_path: Path
) -> None:
    shared = replace(task, artifacts=tmp_path / "shared", inherit_share=0.5)
    evaluator = Evaluator(shared)
    wanted = [evaluated(evaluator, number) for number in RECIPES][-1]
    kept = (tmp_path / "shared/individual-8/model.safetensors").read_bytes()
    for gone in ((5,), (3, 5)):
        for number in gone:
            shutil.rmtree(tmp_path / f"shared/individual-{number}", ignore_errors=True)
        again = evaluated(evaluator, 8)
        assert again.measurements == wanted.measurements
        assert (tmp_path / "shared/individual-8/model.safetensors").read_bytes() == kept
        assert [path.name for path in (tmp_path / "shared").glob("retrained-*")] == []
    alone = Evaluator(replace(shared, artifacts=None))
    assert evaluated(alone, 8).measurements == wanted.measurements
    other = evaluated(evaluator, 8, seed=1)
    assert other.measurements != wanted.measurements
    assert evaluated(alone, 8, seed=1).measurements == other.measurements


def test_nobody_begins_with_the_base_where_its_parents_are_lost(task: Task, tmp_path: Path) -> None:
    evaluator = Evaluator(replace(task, artifacts=tmp_path, inherit_share=0.5))
    nowhere = {**RECIPES[3].model_dump(mode="json"), "mixture": {"nowhere": 1.0}}
    spec = EvaluationSpec(
        5,
        RECIPES[5].model_dump(mode="json"),
        0,
        parents=(3,),
        ancestors=(Ancestor(3, nowhere, 0),),
    )
    lost = evaluator.evaluate(spec)
    assert lost.status is Status.ERROR
    assert "starts from the checkpoint of its ancestor 3, which is missing" in lost.message
    assert "no source 'nowhere'" in lost.message


def test_a_fidelity_above_one_is_a_longer_fine_tune_from_scratch(task: Task) -> None:
    evaluator = Evaluator(task)
    plain = RECIPES[3].model_dump(mode="json")
    longer = evaluator.evaluate(EvaluationSpec(3, plain, 0, fidelity=1.5))
    same = Evaluator(replace(task, budget_tokens=864)).evaluate(EvaluationSpec(3, plain, 0))
    assert longer.cost["tokens"] == 864
    assert longer.measurements == same.measurements
