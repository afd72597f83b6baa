"""Steady-state evolution: the breeding shared by `nsga2` and `nsga3`, which differ in selection.

(mu + 1): selection runs after every scored individual. Under a schedule of generations, where all
slots of a generation are asked before any is told, this is the generational algorithm; where slots
are asked while others are pending, it is steady state, by the same code.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np

from population.individual import Individual
from population.selection import rank, survivors, tournament
from population.space import Genome, SearchSpace
from population.strategies.taken import Taken
from population.variation import Odds, breed

# Measured on 8 toy mixtures, 4 tables of finished runs and a pair of losses, population 10: five
# contenders instead of two cut the remaining regret after 40 evaluations by a quarter; eight gained
# a little more on single losses and nothing on pairs.
CONTENDERS = 5
PATIENCE = 3  # populations without a survivor until a restart from a quarter of the parents
ATTEMPTS = 8  # matings with growing strength before a duplicate gives way to a fresh draw


class Evolution(ABC):
    """Slots below `population` hold the anchors and random draws, later slots children.

    Later slots also hold random draws while there are fewer than half a population of parents:
    at the start, since children of few parents are too similar, and after a restart, when no new
    individual has survived for long.
    """

    breeds: ClassVar[bool] = True
    planned: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        budget: int,
        anchors: Sequence[tuple[str, Genome]] = (),
    ) -> None:
        self._space = space
        self._population = population
        self._taken = Taken(space, anchors)
        self._parents: list[Individual] = []
        self._mates: list[Individual] = []  # the parents that did not fail
        self._ranks = rank(self._mates)
        self._odds = Odds()
        self._idle = 0  # individuals told since one survived
        self._judged: set[int] = set()  # ids that are counted in the odds

    @final
    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        """Large enough for the anchors, both ends of every objective, and two matings."""
        return max(4, 2 * objectives, anchors)

    @abstractmethod
    def _survivors(self, candidates: list[Individual]) -> list[Individual]:
        """Select at most `population` of the candidates, which are ordered oldest first."""

    @final
    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        if anchor := self._taken.anchor(slot):
            return anchor
        if slot >= self._population and self._mates and 2 * len(self._parents) >= self._population:
            for attempt in range(ATTEMPTS):
                child = self._child(slot, rng, strength=1 + attempt / 2)
                if child.genome not in self._taken:
                    return child
        return self._taken.drawn(slot, rng)

    def _child(self, slot: int, rng: np.random.Generator, *, strength: float) -> Individual:
        first, second = (
            tournament(self._mates, self._ranks, rng, size=CONTENDERS) for _ in range(2)
        )
        parents = [first] if first.id == second.id else [first, second]
        genome, operator = breed(
            [one.genome for one in parents], self._space, rng, odds=self._odds, strength=strength
        )
        return Individual(slot, genome, tuple(one.id for one in parents), operator)

    @final
    def possible_parents(self) -> frozenset[int]:
        return frozenset(one.id for one in self._mates)

    @final
    def tell(self, individual: Individual) -> None:
        self._taken.add(individual.genome)
        if individual.losses is None:
            return
        known = [one for one in self._parents if one.id != individual.id]
        candidates = sorted([*known, individual], key=lambda one: one.id)
        self._parents = self._survivors(candidates)
        survived = any(one is individual for one in self._parents)
        self._idle = 0 if survived else self._idle + 1
        if self._idle >= PATIENCE * self._population:
            self._parents = survivors(self._parents, max(1, self._population // 4))
            self._idle = 0
        self._mates = [one for one in self._parents if not one.failed]
        self._ranks = rank(self._mates)
        if individual.id not in self._judged:
            self._judged.add(individual.id)
            self._odds = self._odds.after(individual, survived, memory=self._population)
