"""Random search: the anchors, then independent draws. Every other strategy must beat it.

Bergstra and Bengio 2012, Random search for hyper-parameter optimization.
"""

from collections.abc import Sequence

import numpy as np

from population.individual import ANCHOR, Individual
from population.space import Genome, SearchSpace

ATTEMPTS = 20  # draws before a duplicate is accepted: the space may hold nothing else


class Random:
    """Learns nothing but which genomes are taken."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        budget: int,
        anchors: Sequence[tuple[str, Genome]] = (),
    ) -> None:
        self._space = space
        self._anchors = tuple(anchors)
        self._taken = {space.key(genome) for _, genome in anchors}

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        """One: there are no generations."""
        return 1

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        if slot < len(self._anchors):
            name, genome = self._anchors[slot]
            return Individual(slot, genome, operator=f"{ANCHOR}{name}")
        return Individual(slot, fresh(self._space, self._taken, rng), operator="sample")

    def tell(self, individual: Individual) -> None:
        self._taken.add(self._space.key(individual.genome))


def fresh(space: SearchSpace, taken: set[str], rng: np.random.Generator) -> Genome:
    """A random genome not yet taken; after `ATTEMPTS` draws, one that may be."""
    for _ in range(ATTEMPTS):
        genome = space.sample(rng)
        if space.key(genome) not in taken:
            break
    return genome
