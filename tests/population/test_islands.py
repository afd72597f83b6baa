"""Islands: what every strategy must do, who belongs where, and who travels."""

from dataclasses import replace

import numpy as np
import pytest

from population.individual import Individual
from population.space import Float, SearchSpace
from population.strategies import STRATEGIES, check, make
from population.strategies.islands import on
from tests.population.strategy_reference import (
    ANCHORS,
    SPACE,
    StrategyReference,
    slot_rng,
)

LINE = SearchSpace({"x": Float(0.0, 1.0)})


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nsga2", "surrogate"):
        monkeypatch.setitem(STRATEGIES, f"two {name}", on(STRATEGIES[name], islands=2))


class TestTwoIslandsOfNSGA2(StrategyReference):
    name = "two nsga2"


class TestTwoIslandsOfSurrogate(StrategyReference):
    name = "two surrogate"
    most = 24


class Recording:
    """Notes who is told; breeds the middle."""

    def __init__(self, space: SearchSpace, *, population: int, budget: int, anchors=()) -> None:
        self.given = (population, budget, [name for name, _ in anchors])
        self.told: list[Individual] = []

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        return anchors

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        return Individual(slot, {"x": float(rng.random())})

    def tell(self, individual: Individual) -> None:
        self.told.append(individual)


def told_to(islands) -> list[list[int]]:
    return [[one.id for one in island.told] for island in islands._own]


def test_population_budget_anchors_and_slots_are_dealt_out():
    islands = on(Recording, islands=3)(
        SPACE, population=8, budget=10, anchors=[*ANCHORS, ANCHORS[0]]
    )
    assert [island.given for island in islands._own] == [
        (3, 4, ["anchor: uniform"]),
        (3, 3, ["anchor: only wordnet"]),
        (2, 3, ["anchor: uniform"]),
    ]
    for slot in range(6):
        islands.tell(Individual(slot, {"x": slot / 9}, losses=(1.0,), violation=1.0))
    assert told_to(islands) == [[0, 3], [1, 4], [2, 5]]


def test_one_of_the_front_travels_and_is_told_of_in_both_places_from_then_on():
    islands = on(Recording, islands=2)(LINE, population=4, budget=40)
    losses = {0: 3.0, 2: 1.0, 1: 5.0, 3: 6.0}
    for slot, loss in losses.items():
        islands.tell(Individual(slot, {"x": slot / 9}, losses=(loss,)))
    assert told_to(islands) == [[0, 2, 1], [2, 1, 3]]
    again = Individual(2, {"x": 2 / 9}, losses=(2.0,), seeds=2)
    islands.tell(again)
    assert [island.told[-1] for island in islands._own] == [again, again]


def test_what_another_island_has_is_not_bred_again():
    islands = on(Recording, islands=2)(LINE, population=4, budget=40)
    first = islands.ask(0, slot_rng(0, 5))
    islands.tell(first)
    assert islands.ask(1, slot_rng(0, 5)).genome != first.genome


def test_too_many_islands_for_a_population_are_refused():
    with pytest.raises(ValueError, match="population 16 is too small for nsga2 on 5 islands"):
        check("nsga2", population=16, objectives=2, anchors=0, islands=5)
    strategy = make("nsga2", LINE, population=16, budget=40, islands=4)
    told = replace(strategy.ask(0, slot_rng(0, 0)), losses=(1.0,))
    strategy.tell(told)
    assert len(strategy._own) == 4
