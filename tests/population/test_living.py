"""Checkpoints to keep: only possible parents are bred from, and with warm start they are few."""

import pytest

from population.strategies import BREEDING, make
from population.strategies.reference import ANCHORS, POPULATION, SPACE, score, slot_rng


@pytest.mark.parametrize("name", BREEDING)
def test_only_possible_parents_are_bred_from_and_with_warm_start_they_are_at_most_a_population(
    name: str,
) -> None:
    population = POPULATION
    strategy = make(
        name,
        SPACE,
        population=population,
        budget=64,
        anchors=ANCHORS,
        warm_start=True,
    )
    bred = 0
    for first in range(0, 4 * population, population):
        slots = range(first, first + population)
        parents = strategy.possible_parents()
        asked = [strategy.ask(slot, slot_rng(11, slot)) for slot in slots]
        for one in asked:
            assert parents.issuperset(one.parents)
            bred += bool(one.parents)
            strategy.tell(score(one))
            assert len(strategy.possible_parents()) <= population
    assert bred > population
