from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from population.logratio import Coordinates, logratios, shares
from population.selection import hypervolume
from population.space import Choice, Float, Genome, SearchSpace, Simplex
from population.strategies import make
from population.strategies.reference import (
    StrategyReference,
    search,
    slot_rng,
)
from tests.population.genomes import losses_of, mixture, number
from tests.population.test_space import SPACE as WIDE
from tests.population.test_space import genomes


class TestCMAES(StrategyReference):
    name = "cmaes"
    objectives = 1


class TestCMAESWithTwoObjectives(StrategyReference):
    name = "cmaes"


@given(genomes)
def test_coordinates_give_the_genome_back(genome):
    coordinates = Coordinates(WIDE)
    again = coordinates.decode(coordinates.encode(genome, coordinates.middle()))
    assert list(again) == list(genome)
    assert WIDE.distance(genome, again) < 0.2  # absent sources come back with a small share


def test_logratios_are_isometric_and_take_absent_sources():
    a, b = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    centred = np.log(a / b) - np.log(a / b).mean()
    assert np.linalg.norm(logratios(a) - logratios(b)) == pytest.approx(np.linalg.norm(centred))
    assert shares(logratios(a)) == pytest.approx(a)
    assert shares(logratios(np.array([1.0, 0.0, 0.0]))) == pytest.approx([0.99, 0.005, 0.005])
    assert logratios(np.array([1.0])).shape == (0,)


OBLIQUE = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "m": Simplex(("a", "b", "c"))})


def oblique(one):
    x, y, m = one.genome["x"] - 0.3, one.genome["y"] - 0.6, one.genome["m"]
    loss = (x + y) ** 2 + 100 * (x - y) ** 2 + (m["a"] - 0.6) ** 2 + (m.get("b", 0) - 0.1) ** 2
    return replace(one, losses=(loss,))


def test_it_follows_an_oblique_valley_to_its_end():
    best = []
    for seed in range(3):
        strategy = make("cmaes", OBLIQUE, population=12, budget=360)
        told = search(strategy, 360, seed=seed, score=oblique)
        best.append(min(losses_of(one)[0] for one in told))
    assert np.median(best) < 2e-3


def test_it_learns_from_what_was_evaluated_even_if_that_is_never_what_it_asked_for():
    """Evaluate as in a replay: at one of a few rows, whatever was proposed."""
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    rows = [space.sample(np.random.default_rng(row)) for row in range(400)]
    losses = [(number(row, "x") - 0.9) ** 2 + (number(row, "y") - 0.1) ** 2 for row in rows]
    free = set(range(400))
    strategy = make("cmaes", space, population=8, budget=80)
    for slot in range(80):
        asked = strategy.ask(slot, slot_rng(0, slot))
        place = min(free, key=lambda row: space.distance(rows[row], asked.genome))
        free.remove(place)
        strategy.tell(replace(asked, genome=rows[place], losses=(losses[place],)))
    best = set(np.argsort(losses)[:20].tolist())
    assert len(best - free) >= 15  # of 20, where blind draws take 4


def test_two_objectives_are_covered_better_than_by_random_search():
    def apart(one):
        """A front along x, which random draws miss by y."""
        x, y, m = one.genome["x"], one.genome["y"] - 0.7, one.genome["m"]
        away = y**2 + (m["a"] - 0.6) ** 2 + (m["b"] - 0.1) ** 2
        return replace(one, losses=(x**2 + away, (1 - x) ** 2 + away))

    def covered(name: str, seed: int) -> float:
        strategy = make(name, OBLIQUE, population=12, budget=240)
        told = search(strategy, 240, seed=seed, score=apart)
        return hypervolume(np.array([one.losses for one in told]), np.array([1.0, 1.0]))

    gains = [covered("cmaes", seed) - covered("random", seed) for seed in range(6)]
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains))


@pytest.mark.parametrize("objectives", [1, 2])
def test_constraints_come_before_losses(objectives):
    space = SearchSpace({"x": Float(0.0, 1.0), "c": Choice(("p", "q"))})
    strategy = make("cmaes", space, population=8, budget=96)

    def constrained(one):
        x = one.genome["x"]
        losses = (x, x + (one.genome["c"] == "p"))
        return replace(one, losses=losses[:objectives], violation=max(0.0, 0.5 - x))

    told = search(strategy, 96, seed=4, score=constrained)
    best = min(losses_of(one)[0] for one in told if one.violation == 0)
    assert 0.5 <= best < 0.52


def test_more_anchors_than_a_population_are_all_evaluated_and_learned_from():
    anchors: list[tuple[str, Genome]] = [
        (str(n), {"x": 0.8 + n / 100, "y": 0.8, "m": {"a": 1.0}}) for n in range(10)
    ]
    strategy = make("cmaes", OBLIQUE, population=4, budget=40, anchors=anchors)
    told = search(strategy, 40, seed=0, score=oblique)
    assert [one.operator for one in told[:11]] == [str(n) for n in range(10)] + ["cmaes"]
    assert mixture(told[10].genome, "m")["a"] > 0.5


def test_a_search_that_has_converged_starts_afresh():
    space = SearchSpace({"x": Float(0.0, 1.0)})
    strategy = make("cmaes", space, population=8, budget=800)
    told = search(
        strategy,
        800,
        seed=0,
        score=lambda one: replace(one, losses=(abs(number(one.genome, "x") - 0.5),)),
    )
    late = [number(one.genome, "x") for one in told[400:] if one.operator == "cmaes"]
    assert np.ptp(late) > 0.5
