from dataclasses import replace

import numpy as np
import pytest

from population.individual import Individual
from population.selection import hypervolume, survivors
from population.space import Float, SearchSpace
from population.strategies import check, make
from population.strategies.reference import (
    ANCHORS,
    POPULATION,
    SPACE,
    StrategyReference,
    score,
    search,
    slot_rng,
)
from population.variation import OPERATORS
from tests.population.genomes import losses_of, number


class TestNSGA2(StrategyReference):
    name = "nsga2"

    def test_every_individual_is_learned_from_as_soon_as_it_is_told(self):
        strategy = self.build()
        told = search(strategy, 16, seed=2)
        strategy.tell(replace(told[0], id=16, losses=(-9.0, -9.0)))
        children = [strategy.ask(slot, slot_rng(2, slot)) for slot in range(17, 57)]
        assert sum(16 in child.parents for child in children) > 20

    def test_told_again_with_a_worse_mean_it_has_no_more_children(self):
        strategy = self.build()
        told = search(strategy, 16, seed=2)
        best = replace(told[0], id=16, losses=(-9.0, -9.0))
        strategy.tell(best)
        strategy.tell(replace(best, losses=(9.0, 9.0), seeds=2))
        assert all(
            16 not in strategy.ask(slot, slot_rng(2, slot)).parents for slot in range(17, 60)
        )

    def test_slots_beyond_the_first_population_wait_for_half_of_it(self):
        strategy = self.build()
        first = [score(strategy.ask(slot, slot_rng(3, slot))) for slot in range(POPULATION)]
        for told, one in enumerate(first):
            operator = strategy.ask(50, slot_rng(3, 50)).operator
            assert (operator == "sample") == (told < POPULATION / 2)
            strategy.tell(one)

    def test_children_descend_from_survivors_and_name_their_operators(self):
        history = search(self.build(), 40, seed=3)
        for child in history[POPULATION:]:
            assert 1 <= len(child.parents) <= 2
            assert set(child.operator.split("+")) <= set(OPERATORS)
        assert {one.operator for one in history[len(ANCHORS) : POPULATION]} == {"sample"}
        alive: list[Individual] = []
        for first in range(0, 32, POPULATION):
            for one in history[first : first + POPULATION]:
                alive = survivors([*alive, one], POPULATION)
            children = history[first + POPULATION : first + 2 * POPULATION]
            ids = {one.id for one in alive}
            assert all(set(child.parents) <= ids for child in children)

    def test_the_better_half_of_the_survivors_has_most_of_the_children(self):
        strategy = make(
            "nsga2", SearchSpace({"x": Float(0.0, 1.0)}), population=POPULATION, budget=80
        )
        told = search(
            strategy,
            POPULATION,
            seed=6,
            score=lambda one: replace(one, losses=(number(one.genome, "x"),)),
        )
        better = {one.id for one in survivors(told, POPULATION // 2)}
        children = [strategy.ask(slot, slot_rng(6, slot)) for slot in range(8, 208)]
        parents = [parent for child in children for parent in child.parents]
        assert sum(parent in better for parent in parents) > 0.85 * len(parents)

    def test_the_failed_have_no_children(self):
        def failing(individual):
            if individual.id % 3:
                return replace(individual, losses=(np.inf, np.inf), violation=np.inf)
            return score(individual)

        history = search(self.build(), 40, seed=4, score=failing)
        assert any(one.parents for one in history)
        assert all(parent % 3 == 0 for one in history for parent in one.parents)

    def test_when_nothing_new_survives_for_long_it_starts_afresh_from_its_best(self):
        space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
        strategy = make("nsga2", space, population=POPULATION, budget=64)
        told = search(  # each is worse than all before it
            strategy, 64, seed=0, score=lambda one: replace(one, losses=(float(one.id),))
        )
        drawn = [one.id for one in told[POPULATION:] if one.operator == "sample"]
        assert drawn == list(range(4 * POPULATION, 5 * POPULATION))
        later = {parent for one in told[5 * POPULATION :] for parent in one.parents}
        assert later & {0, 1}
        assert later & set(drawn)

    def test_it_covers_more_of_the_front_than_random_search(self):
        def covered(name: str, seed: int) -> float:
            strategy = make(name, SPACE, population=POPULATION, budget=40, anchors=ANCHORS)
            told = search(strategy, 80, seed=seed)
            return hypervolume(np.array([one.losses for one in told]), np.array([2.0, 2.0]))

        gains = [covered("nsga2", seed) - covered("random", seed) for seed in range(25)]
        assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains))

    def test_constraints_come_before_losses(self):
        """The best loss lies at 0 but is forbidden below 0.5: children gather just above it."""
        space = SearchSpace({"x": Float(0.0, 1.0)})
        strategy = make("nsga2", space, population=POPULATION, budget=40)

        def constrained(one):
            x = one.genome["x"]
            return replace(one, losses=(x,), violation=max(0.0, 0.5 - x))

        told = search(strategy, 80, seed=5, score=constrained)
        best = min(losses_of(one)[0] for one in told if one.violation == 0)
        assert 0.5 <= best < 0.51
        assert all(number(one.genome, "x") > 0.3 for one in told[-POPULATION:])


@pytest.mark.parametrize(
    ("population", "objectives", "anchors", "minimum"), [(3, 1, 0, 4), (5, 3, 2, 6), (9, 2, 12, 12)]
)
def test_nsga2_needs_room_for_anchors_and_both_ends_of_each_objective(
    population, objectives, anchors, minimum
):
    with pytest.raises(ValueError, match=rf"population {population} .* at least {minimum}"):
        check("nsga2", population=population, objectives=objectives, anchors=anchors)
    check("nsga2", population=minimum, objectives=objectives, anchors=anchors)


def test_an_unknown_strategy_is_met_with_a_suggestion():
    with pytest.raises(ValueError, match=r"'nsag2' is unknown; did you mean 'nsga2'\?"):
        make("nsag2", SPACE, population=10, budget=40)
