"""Tests that every strategy must pass: subclass `StrategyReference`, name it, run pytest.

    class TestMine(StrategyReference):
        name = "mine"  # in STRATEGIES, or an entry point `evomix.strategies` of its package

pytest shows the values in a failure after `pytest.register_assert_rewrite` of this module.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from population.individual import Individual
from population.space import Choice, Float, Genome, Int, SearchSpace, Simplex
from population.strategies import Anchors, Strategy, check, make

SOURCES = ("jargon", "wordnet", "python", "austen")
SPACE = SearchSpace(
    {
        "mixture": Simplex(SOURCES, floor={"jargon": 0.05}, cap=0.8),
        "learning_rate": Float(1e-4, 1e-2, log=True),
        "batch_size": Int(4, 32, log=True),
        "adapter": Choice(("none", "lora")),
        "lora_rank": Int(1, 16, when={"adapter": "lora"}),
    }
)
ANCHORS: Anchors = (
    ("anchor: uniform", {"mixture": dict.fromkeys(SOURCES, 0.25), "learning_rate": 1e-3}),
    # Outside the space on purpose: below the floor, above the cap, above the bounds.
    ("anchor: only wordnet", {"mixture": {"wordnet": 1.0}, "learning_rate": 0.5, "batch_size": 64}),
)
POPULATION = 8
Score = Callable[[Individual], Individual]


def slot_rng(seed: int, slot: int) -> np.random.Generator:
    """The generator that a slot's individual is drawn by."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(slot,)))


def losses(genome: Genome) -> tuple[float, float]:
    """Two losses at odds over the mixture, with a best learning rate of 3e-3."""
    wanted = {"jargon": 0.6, "wordnet": 0.4}, {"jargon": 0.1, "python": 0.9}
    learning_rate, shares = genome["learning_rate"], genome["mixture"]
    assert isinstance(learning_rate, float), f"no number: {learning_rate!r}"
    assert isinstance(shares, dict), f"no mixture: {shares!r}"
    rate = np.log10(learning_rate / 3e-3) ** 2
    away = [sum((shares.get(s, 0.0) - w.get(s, 0.0)) ** 2 for s in SOURCES) for w in wanted]
    return float(away[0] + rate), float(away[1] + rate)


def score(individual: Individual, objectives: int = 2) -> Individual:
    """The individual with so many of its losses."""
    return replace(individual, losses=losses(individual.genome)[:objectives])


def search(strategy: Strategy, slots: int, *, seed: int, score: Score = score) -> list[Individual]:
    """Generations of `POPULATION`: all are asked, then all are told."""
    told: list[Individual] = []
    for first in range(0, slots, POPULATION):
        asked = [
            strategy.ask(slot, slot_rng(seed, slot)) for slot in range(first, first + POPULATION)
        ]
        for individual in asked:
            told.append(score(individual))
            strategy.tell(told[-1])
    return told


def _global_states() -> tuple[object, ...]:
    state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return random.getstate(), state["key"].tolist(), state["pos"]


class StrategyReference:
    """The tests; a subclass names its strategy, and may make the searches shorter."""

    name: str
    objectives = 2  # how many of the losses it is told
    most = 64  # slots in one search, fewer for strategies that take their time
    seeds = 3  # of the searches that have to be better than their anchors

    def score(self, individual: Individual) -> Individual:
        """The individual with the losses that the strategy is told."""
        return score(individual, self.objectives)

    def search(
        self, strategy: Strategy, slots: int, *, seed: int, score: Score | None = None
    ) -> list[Individual]:
        """A search of so many slots, or of `most`."""
        return search(strategy, min(slots, self.most), seed=seed, score=score or self.score)

    def build(self, space: SearchSpace = SPACE, anchors: Anchors = ANCHORS) -> Strategy:
        """The strategy under test."""
        return make(self.name, space, population=POPULATION, budget=40, anchors=anchors)

    def test_the_same_seed_gives_the_same_search_and_another_seed_another(self) -> None:
        first, again = (self.search(self.build(), 32, seed=1) for _ in range(2))
        assert first == again
        assert first != self.search(self.build(), 32, seed=2)

    def test_telling_recorded_individuals_again_resumes_the_search_anywhere(self) -> None:
        history = self.search(self.build(), 32, seed=3)
        recorded = json.loads(json.dumps([[one.id, one.genome, one.losses] for one in history]))
        for start in range(8, len(history), 8):
            resumed = self.build()
            for (slot, genome, scored), one in zip(recorded[:start], history[:start], strict=True):
                resumed.tell(Individual(slot, genome, one.parents, one.operator, tuple(scored)))
            for slot in range(start, start + POPULATION):
                assert self.score(resumed.ask(slot, slot_rng(3, slot))) == history[slot]

    def test_asking_changes_nothing(self) -> None:
        strategy = self.build()
        self.search(strategy, 16, seed=4)
        first = strategy.ask(16, slot_rng(4, 16))
        for slot in range(17, 30):
            strategy.ask(slot, slot_rng(4, slot))
        assert strategy.ask(16, slot_rng(4, 16)) == first

    def test_the_first_slots_are_the_anchors_exactly_as_given(self) -> None:
        strategy = self.build()
        for slot, (operator, genome) in enumerate(ANCHORS):
            asked = strategy.ask(slot, slot_rng(0, slot))
            assert (asked.id, asked.operator) == (slot, operator)
            assert asked.genome == genome

    def test_every_other_genome_is_valid_and_survives_json_bit_for_bit(self) -> None:
        for one in self.search(self.build(), 48, seed=5)[len(ANCHORS) :]:
            assert SPACE.repair(one.genome) == one.genome
            assert list(SPACE.repair(one.genome)) == list(one.genome)
            assert json.loads(json.dumps(one.genome)) == one.genome
            assert one.losses is not None
            assert all(parent < one.id for parent in one.parents)

    def test_global_random_states_are_neither_read_nor_changed(self) -> None:
        import sklearn.tree  # noqa: F401  # its import, once a process, draws from `random`

        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        before = _global_states()
        first = self.search(self.build(), 24, seed=6)
        assert _global_states() == before
        random.seed(2)
        np.random.seed(2)  # noqa: NPY002
        assert self.search(self.build(), 24, seed=6) == first

    def test_no_genome_is_proposed_twice(self) -> None:
        keys = [SPACE.key(one.genome) for one in self.search(self.build(), 64, seed=7)]
        assert len(set(keys)) == len(keys)

    def test_what_is_told_before_it_is_scored_is_not_proposed_again(self) -> None:
        space = SearchSpace({"a": Choice(tuple(range(6))), "b": Choice(tuple(range(5)))})
        strategy, keys = self.build(space, anchors=()), list[object]()
        for first in range(0, 3 * POPULATION, POPULATION):
            asked = []
            for slot in range(first, first + POPULATION):
                asked.append(strategy.ask(slot, slot_rng(8, slot)))
                strategy.tell(asked[-1])
            for one in asked:
                keys.append(space.key(one.genome))
                strategy.tell(replace(one, losses=(float(str(one.genome["a"])),)))
        assert len(set(keys)) == len(keys) == 24

    def test_an_exhausted_space_still_answers(self) -> None:
        space = SearchSpace({"only": Choice(("a", "b"))})
        strategy = self.build(space, anchors=())
        for slot in range(3 * POPULATION):
            asked = strategy.ask(slot, slot_rng(9, slot))
            assert asked.genome["only"] in ("a", "b")
            strategy.tell(replace(asked, losses=(0.0,)))

    @pytest.mark.parametrize("survives", [0, 3, 5])
    def test_failures_are_tolerated(self, survives: int) -> None:
        def mostly_failing(individual: Individual) -> Individual:
            if survives and individual.id % survives == 0:
                return replace(self.score(individual), violation=0.1 * (individual.id % 2))
            nothing = (np.inf,) * self.objectives
            return replace(individual, losses=nothing, violation=np.inf)

        for one in self.search(self.build(), 40, seed=10, score=mostly_failing)[len(ANCHORS) :]:
            assert SPACE.repair(one.genome) == one.genome

    def test_it_finds_better_than_its_anchors(self) -> None:
        for seed in range(self.seeds):
            found = self.search(self.build(), 40, seed=seed)
            for objective in range(self.objectives):
                best = min((one.losses or ())[objective] for one in found)
                assert best < min(losses(genome)[objective] for _, genome in ANCHORS)

    def test_a_population_that_is_too_small_is_refused(self) -> None:
        with pytest.raises(ValueError, match=f"population 0 is too small for {self.name}"):
            check(self.name, population=0, objectives=self.objectives, anchors=2)
