"""Steady-state evolution, whatever the selection: breeding shared by `nsga2` and `nsga3`.

(mu + 1): every scored individual meets a selection of its own. Under a schedule of generations,
where all slots of one are asked before any is told, this is the generational algorithm; where
slots are asked while others are on their way, it is steady state, by the same code.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

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
PATIENCE = 3  # populations without a survivor until all but a quarter of the parents are given up
ATTEMPTS = 8  # matings with growing strength before a duplicate gives way to a fresh draw


class Evolution(ABC):
    """Slots below `population` hold the anchors and a spread of draws, the others children.

    So do later slots, until half a population was told: few parents would make it all their kin.
    So do they again after a restart, when nothing new has survived for long.
    """

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
        self._idle = 0  # told since one survived
        self._judged: set[int] = set()  # whoever had its say in the odds

    @final
    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        """Room for the anchors, for both ends of every objective, and for two matings."""
        return max(4, 2 * objectives, anchors)

    @abstractmethod
    def _survivors(self, candidates: list[Individual]) -> list[Individual]:
        """At most a population of the candidates, which come oldest first."""

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
    def living(self) -> frozenset[int]:
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
