"""Random search: the anchors, then independent draws. Every other strategy must beat it.

Bergstra and Bengio 2012, Random search for hyper-parameter optimization.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from population.individual import Individual
from population.space import Genome, SearchSpace
from population.strategies.taken import Taken


class Random:
    """Remembers only the genomes that are taken, to avoid duplicates."""

    breeds: ClassVar[bool] = False
    planned: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        budget: int,
        anchors: Sequence[tuple[str, Genome]] = (),
    ) -> None:
        self._taken = Taken(space, anchors)

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        """One: there are no generations."""
        return 1

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        return self._taken.anchor(slot) or self._taken.drawn(slot, rng)

    def possible_parents(self) -> frozenset[int]:
        """Empty: individuals have no parents here."""
        return frozenset()

    def tell(self, individual: Individual) -> None:
        self._taken.add(individual.genome)
