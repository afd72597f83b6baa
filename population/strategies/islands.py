"""Islands: parallel populations with rare migration, so that they can explore different regions.

Whitley, Rana and Heckendorn 1999, The island model genetic algorithm: a ring, along which each
island regularly sends one individual of its front.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from population.individual import Individual
from population.selection import front, survivors
from population.space import Genome, SearchSpace
from population.strategies.taken import Taken

if TYPE_CHECKING:
    from population.strategies import Strategy

ATTEMPTS = 4  # proposals before a duplicate of another island's gives way to a fresh draw


class Islands:
    """The base of one class per strategy and number of islands (`on`).

    Slot i belongs to island i modulo their number, and population, budget and anchors are dealt
    out likewise. An island sends a migrant after as many scored individuals as its population.
    """

    strategy: "ClassVar[type[Strategy]]"
    islands: ClassVar[int]

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        budget: int,
        anchors: Sequence[tuple[str, Genome]] = (),
    ) -> None:
        self._taken = Taken(space, anchors)
        self._sizes = [len(range(k, population, self.islands)) for k in range(self.islands)]
        self._own = [
            self.strategy(
                space,
                population=self._sizes[k],
                budget=len(range(k, budget, self.islands)),
                anchors=anchors[k :: self.islands],
            )
            for k in range(self.islands)
        ]
        self._residents: list[list[Individual]] = [[] for _ in self._own]
        self._told: list[set[int]] = [set() for _ in self._own]  # scored ids bred on each island
        self._abroad: set[int] = set()  # ids that were sent to the next island as well

    @classmethod
    def minimum_population(cls, *, objectives: int, anchors: int) -> int:
        """The strategy's own minimum on every island, times their number."""
        dealt = -(-anchors // cls.islands)
        needed = cls.strategy.minimum_population(objectives=objectives, anchors=dealt)
        return cls.islands * needed

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        if anchor := self._taken.anchor(slot):
            return anchor
        island = self._own[slot % self.islands]
        for _ in range(ATTEMPTS):
            one = replace(island.ask(slot // self.islands, rng), id=slot)
            if one.genome not in self._taken:
                return one
        return self._taken.drawn(slot, rng)

    def possible_parents(self) -> frozenset[int]:
        return frozenset[int]().union(*(island.possible_parents() for island in self._own))

    def tell(self, individual: Individual) -> None:
        self._taken.add(individual.genome)
        home = individual.id % self.islands
        self._own[home].tell(individual)
        if individual.losses is None:
            return
        if individual.id in self._abroad:
            self._next(home).tell(individual)
        others = [one for one in self._residents[home] if one.id != individual.id]
        self._residents[home] = survivors([*others, individual], self._sizes[home])
        if individual.id not in self._told[home]:
            self._told[home].add(individual.id)
            if len(self._told[home]) % self._sizes[home] == 0:
                self._send(home)

    def _send(self, home: int) -> None:
        """Send the youngest of the front that was not sent before, if there is one."""
        staying = [one for one in front(self._residents[home]) if one.id not in self._abroad]
        if staying:
            migrant = max(staying, key=lambda one: one.id)
            self._abroad.add(migrant.id)
            self._next(home).tell(migrant)

    def _next(self, home: int) -> "Strategy":
        return self._own[(home + 1) % self.islands]


def on(strategy: "type[Strategy]", *, islands: int) -> "type[Strategy]":
    """A class that runs the strategy on this number of islands."""
    return type("Islands", (Islands,), {"strategy": strategy, "islands": islands})
