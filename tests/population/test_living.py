"""Whose weights have to be kept: children are bred of the living alone, and these are few."""

import pytest

from population.strategies import BREEDING, make
from tests.population.strategy_reference import ANCHORS, POPULATION, SPACE, score, slot_rng


@pytest.mark.parametrize("islands", [1, 2])
@pytest.mark.parametrize("name", BREEDING)
def test_only_the_living_become_parents_and_with_heirs_they_are_no_more_than_a_population(
    name: str, islands: int
) -> None:
    population = islands * POPULATION
    strategy = make(
        name, SPACE, population=population, budget=64, anchors=ANCHORS, islands=islands, heirs=True
    )
    bred = 0
    for first in range(0, 4 * population, population):
        slots = range(first, first + population)
        living = strategy.living()
        asked = [strategy.ask(slot, slot_rng(11, slot)) for slot in slots]
        for one in asked:
            assert living.issuperset(one.parents)
            bred += bool(one.parents)
            strategy.tell(score(one))
            assert len(strategy.living()) <= population
    assert bred > population
