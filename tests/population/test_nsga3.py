from dataclasses import replace

import numpy as np
import pytest

from population.individual import Individual
from population.selection import hypervolume
from population.space import Float, SearchSpace
from population.strategies import make
from population.strategies.nsga3 import NSGA3, reference_points
from population.strategies.reference import (
    ANCHORS,
    POPULATION,
    SPACE,
    StrategyReference,
    search,
)
from tests.population.genomes import number


class TestNSGA3(StrategyReference):
    name = "nsga3"


class TestNSGA3WithOneObjective(StrategyReference):
    name = "nsga3"
    objectives = 1


@pytest.mark.parametrize(
    ("objectives", "most", "number"), [(2, 16, 16), (3, 16, 15), (3, 2, 3), (5, 100, 70)]
)
def test_there_are_as_many_reference_points_as_fit(objectives, most, number):
    points = reference_points(objectives, most)
    assert points.shape == (number, objectives)
    assert points.sum(axis=1) == pytest.approx(np.ones(number))


def test_it_covers_more_of_the_front_than_random_search():
    def covered(name: str, seed: int) -> float:
        strategy = make(name, SPACE, population=POPULATION, budget=80, anchors=ANCHORS)
        told = search(strategy, 80, seed=seed)
        return hypervolume(np.array([one.losses for one in told]), np.array([2.0, 2.0]))

    gains = [covered("nsga3", seed) - covered("random", seed) for seed in range(25)]
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains))


def test_the_directions_of_the_reference_points_are_all_kept():
    """A crowd around one direction and one individual at each end, told last."""
    strategy = make("nsga3", SPACE, population=POPULATION, budget=80)
    assert isinstance(strategy, NSGA3)
    crowd = [(0.5 + n / 100, 0.5 - n / 100) for n in range(POPULATION)]
    for slot, losses in enumerate([*crowd, (0.0, 1.0), (1.0, 0.0)]):
        genome = SPACE.sample(np.random.default_rng(slot))
        strategy.tell(Individual(slot, genome, losses=losses))
    assert {(0.0, 1.0), (1.0, 0.0)} <= {one.losses for one in strategy._parents}
    assert len(strategy._parents) == POPULATION


def test_who_misses_a_constraint_gives_way_to_all_who_meet_it():
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    strategy = make("nsga3", space, population=8, budget=80)
    assert isinstance(strategy, NSGA3)

    def constrained(one: Individual) -> Individual:
        x, y = number(one.genome, "x"), number(one.genome, "y")
        return replace(one, losses=(x, 1 - x + y), violation=max(0.0, 0.5 - y))

    told = search(strategy, 80, seed=0, score=constrained)
    assert all(one.violation == 0 for one in strategy._parents)
    assert min(number(one.genome, "y") for one in told if one.violation == 0) < 0.52
