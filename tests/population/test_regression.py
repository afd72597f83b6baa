from dataclasses import replace

import numpy as np
import pytest

from population.space import Float, SearchSpace
from population.strategies import make
from population.strategies.reference import StrategyReference, search, slot_rng
from tests.population.genomes import number

SQUARE = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def square(one):
    x, y = one.genome["x"], one.genome["y"]
    return replace(one, losses=((x - 0.8) ** 2 + (y - 0.2) ** 2,))


class TestRegression(StrategyReference):
    name = "regression"
    seeds = 1
    most = 44  # the last eight are proposals


@pytest.mark.parametrize(("budget", "design"), [(4, 3), (25, 23), (50, 45)])
def test_the_last_tenth_of_the_budget_is_proposed_and_the_rest_drawn(budget, design):
    strategy = make("regression", SQUARE, population=8, budget=budget)
    operators = []
    for slot in range(budget):
        one = square(strategy.ask(slot, slot_rng(0, slot)))
        strategy.tell(one)
        operators.append(one.operator)
    assert operators == ["sample"] * design + ["regression"] * (budget - design)


def test_what_is_proposed_is_near_the_optimum_and_better_than_the_design():
    strategy = make("regression", SQUARE, population=10, budget=50)
    told = []
    for slot in range(50):
        told.append(square(strategy.ask(slot, slot_rng(1, slot))))
        strategy.tell(told[-1])
    proposed = [one.losses[0] for one in told[45:]]
    assert np.mean(proposed) < 0.01
    assert np.mean(proposed) < np.mean([one.losses[0] for one in told[:45]]) / 10


def test_several_objectives_spread_the_proposals_over_the_front():
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    strategy = make("regression", space, population=10, budget=100)

    def both(one):
        x, y = one.genome["x"], one.genome["y"]
        return replace(one, losses=(x + y, 1 - x + y))

    proposed = search(strategy, 100, seed=0, score=both)[90:100]
    assert max(number(one.genome, "y") for one in proposed) < 0.2
    assert np.ptp([number(one.genome, "x") for one in proposed]) > 0.4


def test_constraints_come_before_losses():
    strategy = make("regression", SQUARE, population=10, budget=60)

    def constrained(one):
        x = one.genome["x"]
        return replace(one, losses=(x,), violation=max(0.0, 0.5 - x))

    proposed = search(strategy, 60, seed=2, score=constrained)[54:60]
    assert all(0.4 < number(one.genome, "x") < 0.65 for one in proposed)
    assert any(one.violation == 0 for one in proposed)
