"""Where mixtures are simulated, where not and why, and which individuals are the experts."""

from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.config import SearchConfig
from evo.planning.experts import experts, first_slots, why_not
from population.individual import ANCHOR


def config(*overrides: str) -> SearchConfig:
    return configuration.load(Path("quickstart"), overrides)


def test_an_expert_for_each_source_differs_from_the_default_in_its_mixture_alone() -> None:
    found = experts(config())
    assert len(found) == 7
    for (operator, genome), source in zip(found, config().sources, strict=True):
        assert operator == f"expert: {source}"
        assert genome["mixture"] == {one: float(one == source) for one in config().sources}
        assert genome["learning_rate"] == 1e-3


def test_a_baseline_that_is_an_expert_fills_its_slot_and_keeps_its_name() -> None:
    spec = config()
    (_, austen) = experts(spec)[4]
    uniform: tuple[str, Any] = (f"{ANCHOR}uniform", {"mixture": {}})
    slots, sources = first_slots(spec, [uniform, (f"{ANCHOR}only austen", austen)])
    assert [operator for operator, _ in slots[3:]] == [
        *("expert: python", "anchor: only austen", "expert: licences", "expert: factbook"),
        "anchor: uniform",
    ]
    assert sources == dict(enumerate(spec.sources))


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("search.simulate=off", "search.simulate"),
        ("search.strategy=nsga2", "search.strategy"),
        ("search.rungs=[0.5]", "search.rungs"),
        ("genome.mixture.floor=0.01", "genome.mixture"),
        ("genome.mixture.cap={austen: 0.5}", "genome.mixture"),
        ("recipe.adapter=dora", "recipe.adapter"),
        ("budget.evaluations=13", "budget.evaluations: 7 sources"),
    ],
)
def test_without_simulation_the_reason_names_the_key(override: str, reason: str) -> None:
    assert not why_not(config())
    spec = config(override)
    assert why_not(spec).startswith(reason)
    assert first_slots(spec, [("known", {})]) == ([("known", {})], {})
