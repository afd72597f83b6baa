"""Merging: by the methods' own definitions, from any kinds of parents, and without a trace."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.merging import lineage
from fitness.merging.merge import Merge, merge, start
from fitness.models.base import Base
from tests.fitness.merging.test_lineage import logits, trained
from tests.fitness.quickstart import small_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
METHODS = ("linear", "svd", "ties", "dare_linear", "dare_ties")
KINDS: dict[str, dict[str, Any]] = {
    "all": {"adapter": "none"},
    "rank 2": {"adapter": "lora", "lora_rank": 2},
    "rank 3": {"adapter": "lora", "lora_rank": 3},
}


@pytest.fixture
def folders(base: Base, tmp_path: Path) -> dict[str, Path]:
    """Two of each kind, "all 1" and so on, that differ in everything they train."""
    found = {}
    for kind, recipe in KINDS.items():
        for seed in (1, 2):
            trained(base, tmp_path / f"{kind} {seed}", seed, **recipe)
            found[f"{kind} {seed}"] = tmp_path / f"{kind} {seed}"
    return found


def merged(base: Base, parts: list[Path], how: Merge, rank: int | None, seed: int = 0) -> Any:
    """The merged changes by matrix name, dense."""
    told = merge(base, parts, how, rank=rank, seed=seed)
    assert bool(told.factors) != bool(told.all)
    return dense(base, told)


def dense(base: Base, told: lineage.StartingWeights) -> dict[str, torch.Tensor]:
    known = dict(base.model.named_parameters())
    if told.all:
        return {name: (weight - known[name]).detach() for name, weight in told.all.items()}
    return {
        f"{name}.weight": lineage.product(factors, base.model.get_submodule(name))
        for name, factors in told.factors.items()
    }


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=atol, rtol=1e-4)


@pytest.mark.parametrize(("kind", "rank"), [("all", None), ("rank 2", 4)])
def test_svd_is_the_weighted_mean_of_the_changes(
    base: Base, folders: dict[str, Path], kind: str, rank: int | None
) -> None:
    parts = [folders[f"{kind} {seed}"] for seed in (1, 2)]
    first, second = (dense(base, lineage.read(part)) for part in parts)
    wanted = {name: 0.3 * first[name] + 0.7 * second[name] for name in first}
    close(merged(base, parts, Merge((0.3, 0.7), "svd", 0.5), rank), wanted)


@pytest.mark.parametrize("method", ["svd", "linear"])
@pytest.mark.parametrize(("kind", "rank"), [("all", None), ("rank 2", 2)])
def test_all_the_weight_on_one_parent_is_that_parent(
    base: Base, folders: dict[str, Path], method: str, kind: str, rank: int | None
) -> None:
    parts = [folders[f"{kind} {seed}"] for seed in (1, 2)]
    second = dense(base, lineage.read(parts[1]))
    close(merged(base, parts, Merge((0.0, 1.0), method, 0.5), rank), second)


def test_ties_keeps_the_largest_changes_and_those_of_the_elected_sign(
    base: Base, folders: dict[str, Path]
) -> None:
    parts = [folders["all 1"], folders["all 2"]]
    first, second = (dense(base, lineage.read(part)) for part in parts)
    found = merged(base, parts, Merge((0.5, 0.5), "ties", 1.0), None)
    for name, value in found.items():
        a, b = first[name], second[name]
        agree = torch.sign(a) == torch.sign(b)
        wanted = torch.where(agree, (a + b) / 2, torch.where(a.abs() > b.abs(), a, b))
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-4)
    sparse = merged(base, parts, Merge((0.5, 0.5), "ties", 0.1), None)
    changed = sum(int((v != 0).sum()) for v in sparse.values())
    assert 0.05 < changed / base.model.num_parameters() < 0.25


@pytest.mark.parametrize(("kind", "rank"), [("all", None), ("rank 2", 2)])
def test_what_dare_drops_follows_from_the_seed_alone(
    base: Base, folders: dict[str, Path], kind: str, rank: int | None
) -> None:
    parts = [folders[f"{kind} {seed}"] for seed in (1, 2)]
    how = Merge((0.5, 0.5), "dare_linear", 0.5)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = merged(base, parts, how, rank, seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again = merged(base, parts, how, rank, seed=4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = merged(base, parts, how, rank, seed=5)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("first", "second", "child"),
    [
        ("rank 2 1", "rank 2 2", {"adapter": "lora", "lora_rank": 3}),
        ("rank 2 1", "rank 3 1", {"adapter": "lora", "lora_rank": 2}),
        ("all 1", "rank 3 1", {"adapter": "lora", "lora_rank": 2}),
        ("rank 2 1", "rank 3 1", {"adapter": "none"}),
    ],
)
def test_parents_of_any_kinds_merge_for_a_child_of_any_kind(
    base: Base,
    folders: dict[str, Path],
    method: str,
    first: str,
    second: str,
    child: dict[str, Any],
) -> None:
    before = logits(base.model)
    recipe = small_recipe(start="merge", merge_method=method, **child)
    inherited = start(base, recipe, [folders[first], folders[second]], seed=0)
    assert inherited is not None
    with base.prepared(recipe, seed=0) as model:
        lineage.begin(model, inherited)
        answer = logits(model)
    assert answer.isfinite().all()
    assert (answer - before).abs().max() > 1e-3
    assert torch.equal(logits(base.model), before)
    assert not [n for n, _ in base.model.named_modules() if "lora" in n]
