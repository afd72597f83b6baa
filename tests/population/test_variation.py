import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from population.individual import Individual
from population.space import Choice, Float, Int, SearchSpace, Simplex
from population.variation import (
    MATINGS,
    OPERATORS,
    STEPS,
    Odds,
    breed,
    crossover,
    mutate,
    seeded_random,
)
from tests.population.genomes import mixture
from tests.population.test_space import SPACE, genomes, is_valid, seeds, wild


@given(genomes, genomes, seeds)
def test_children_are_valid_and_repeatable(a, b, seed):
    children = [crossover(a, b, SPACE, np.random.default_rng(seed)) for _ in range(2)]
    assert children[0] == children[1]
    assert is_valid(children[0])


@given(genomes, seeds, st.sampled_from(sorted(STEPS)), st.sampled_from([1.0, 4.0]))
def test_mutants_are_valid_and_repeatable(genome, seed, step, strength):
    mutants = [
        mutate(genome, SPACE, np.random.default_rng(seed), step=step, strength=strength)
        for _ in range(2)
    ]
    assert mutants[0] == mutants[1]
    assert is_valid(mutants[0])


@given(wild, wild, seeds)
def test_parents_from_outside_the_space_have_valid_children(a, b, seed):
    child, operator = breed([a, b], SPACE, np.random.default_rng(seed), odds=Odds())
    assert is_valid(child)
    assert set(operator.split("+")) <= set(OPERATORS)


@given(genomes, seeds)
def test_crossover_of_equals_changes_nothing_but_rounding(genome, seed):
    child = crossover(genome, genome, SPACE, np.random.default_rng(seed))
    assert child.pop("mixture") == pytest.approx(genome["mixture"], abs=1e-6)
    assert child == pytest.approx({k: v for k, v in genome.items() if k != "mixture"})


@given(seeds, st.sampled_from(sorted(STEPS)))
def test_floors_and_caps_hold_exactly_after_every_operator(seed, step):
    """The floors leave a tenth free, so nearly every step ends at a bound."""
    rng = np.random.default_rng(seed)
    floor = {"a": 0.5, "b": 0.25, "c": 0.15}
    space = SearchSpace({"m": Simplex(("a", "b", "c", "d"), floor=floor, cap={"d": 0.07})})
    a, b = space.sample(rng), space.sample(rng)
    for genome in (a, b, crossover(a, b, space, rng), mutate(a, space, rng, step=step)):
        shares = mixture(genome, "m")
        assert abs(sum(shares.values()) - 1) <= 1e-12
        assert all(shares[name] >= low for name, low in floor.items())
        assert 0 <= shares["d"] <= 0.07


def test_inactive_genes_are_not_varied_and_newly_active_ones_are_drawn():
    space = SearchSpace({"c": Choice(("off", "on")), "x": Float(0, 1, when={"c": "on"})})
    mutants = [
        mutate({"c": "off"}, space, np.random.default_rng(seed), step="sphere", strength=9)
        for seed in range(40)
    ]
    assert all(mutant["c"] == "on" for mutant in mutants)
    assert len({mutant["x"] for mutant in mutants}) == 40
    child = crossover({"c": "off"}, {"c": "on", "x": 0.25}, space, np.random.default_rng(0))
    assert child in ({"c": "off"}, {"c": "on", "x": 0.25})


def test_a_whole_number_moves_even_by_a_step_too_small_to_survive_rounding():
    space = SearchSpace({"n": Int(1, 3)})
    rng = np.random.default_rng(0)
    moved = {
        start: [mutate({"n": start}, space, rng, step="")["n"] for _ in range(60)]
        for start in (1, 2, 3)
    }
    assert set(moved[2]) == {1, 3}
    # At a bound, the half of the steps that lead out of it are clipped.
    assert 15 < sum(n != 1 for n in moved[1]) < 45
    assert 15 < sum(n != 3 for n in moved[3]) < 45


def test_every_option_can_be_reached_and_a_single_option_stays():
    space = SearchSpace({"c": Choice(("p", "q", "r")), "d": Choice((1,))})
    rng = np.random.default_rng(0)
    reached = [mutate({"c": "p", "d": 1}, space, rng, step="") for _ in range(50)]
    assert {genome["c"] for genome in reached} == {"p", "q", "r"}


def test_deap_draws_from_the_given_generator_and_leaves_the_global_one_alone():
    random.seed(5)
    expected = [random.random() for _ in range(2)]
    random.seed(5)
    with seeded_random(np.random.default_rng(0)):
        first = random.random()
    with seeded_random(np.random.default_rng(0)):
        assert random.random() == first
    with pytest.raises(TypeError), seeded_random(np.random.default_rng(0)):
        random.randint("a bug")  # type: ignore[call-arg, arg-type]
    assert [random.random() for _ in range(2)] == expected


def test_the_odds_follow_what_survived_and_never_fall_below_their_floor():
    odds = Odds()
    assert odds.probabilities(STEPS) == pytest.approx(dict.fromkeys(STEPS, 1 / 3))
    for slot, step in enumerate([*STEPS] * 60):
        child = Individual(slot, {}, operator=f"crossover+{step}")
        odds = odds.after(child, step == "logit", memory=9)
    learned = odds.probabilities(STEPS)
    assert sum(learned.values()) == pytest.approx(1)
    assert learned["logit"] > 0.55
    assert min(learned.values()) >= Odds.FLOOR
    assert odds.probabilities(MATINGS)["copy"] > 0.55  # it was never tried; what was mostly failed
    rng = np.random.default_rng(0)
    drawn = [odds.draw(STEPS, rng) for _ in range(500)]
    assert drawn.count("logit") / 500 == pytest.approx(learned["logit"], abs=0.08)
