"""Where mixtures are simulated, where not and why, and which individuals are the experts."""

from pathlib import Path

import pytest

from evo import config as configuration
from evo.config import SearchConfig
from evo.planning.experts import (
    experts,
    first_fidelity,
    is_expert,
    settled,
    spent_on_experts,
    why_not,
)
from fitness.errors import InputError


def config(*overrides: str) -> SearchConfig:
    return configuration.load(Path("quickstart"), overrides)


def cost(recipe: object, fidelity: float) -> float:
    return 0.1 + fidelity


def test_an_expert_for_each_source_differs_from_the_default_in_its_mixture_alone() -> None:
    found = experts(settled(config(), cost))
    assert len(found) == 12
    for (slot, one), source in zip(enumerate(found), config().sources, strict=True):
        assert (one.id, one.operator) == (slot, f"expert: {source}")
        assert one.genome["mixture"] == {name: float(name == source) for name in config().sources}
        assert one.genome["learning_rate"] == 1e-3
        assert is_expert(one)
        assert first_fidelity(config(), one) == 0.25


@pytest.mark.parametrize(
    ("count", "share", "spent"), [(2, 0.25, 0.5), (12, 0.25, 3.0), (20, 0.15, 3.0), (64, 0.1, 6.4)]
)
def test_experts_of_many_sources_are_shorter(count: int, share: float, spent: float) -> None:
    path = config().sources["jargon"].path
    sources = ", ".join(f"s{number}: {{path: {path}}}" for number in range(count))
    spec = config("sources={" + sources + "}", "baselines=[uniform]", "search.simulate=20")
    assert {first_fidelity(spec, one) for one in experts(spec)} == {share}
    assert spent_on_experts(spec) == pytest.approx(spent)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("search.strategy=nsga2", "search.strategy"),
        ("search.rungs=[0.5]", "search.rungs"),
        ("recipe.adapter=dora", "recipe.adapter"),
        ("recipe.start=parent", "start"),
        ("genome.mixture.when={decay: linear}", "genome.mixture: by its `when`"),
        ("budget.evaluations=7", "budget.evaluations: 7 leave too little to guide after 12"),
        ("search.parallel=20", "budget.evaluations: 24 leave too little"),
        ("search.bucket=10", "budget.evaluations: 24 leave too little"),
    ],
)
def test_without_simulation_the_reason_names_the_key(override: str, reason: str) -> None:
    assert not why_not(config())
    spec = config(override)
    assert why_not(spec).startswith(reason)
    assert settled(spec, cost).search.simulate == "off"
    assert not experts(settled(spec, cost))


def test_a_number_that_is_asked_for_is_simulated_if_the_baselines_fit_beside_the_experts() -> None:
    wide = ("search.simulate=20", "search.bucket=10")
    assert settled(config(*wide), cost).search.simulate == 20
    assert len(experts(config(*wide))) == 12
    with pytest.raises(InputError, match=r"20, but none can be simulated \(budget.evaluations: 4"):
        settled(config(*wide, "budget.evaluations=4", "search.population=4"), cost)
