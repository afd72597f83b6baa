"""Shared by all strategies: the anchors, and the set of genomes that are taken."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from population.individual import Individual
from population.space import Genome, SearchSpace

ATTEMPTS = 20  # draws before a duplicate is accepted: the space may hold nothing else


class Taken:
    """`genome in taken` is true for the genome of an anchor, and for one that was added."""

    def __init__(self, space: SearchSpace, anchors: Sequence[tuple[str, Genome]]) -> None:
        self._space = space
        self._anchors = tuple(anchors)
        self._keys = {space.key(genome) for _, genome in anchors}

    def __contains__(self, genome: Any) -> bool:
        return self._space.key(genome) in self._keys

    def add(self, genome: Genome) -> None:
        self._keys.add(self._space.key(genome))

    def anchor(self, slot: int) -> Individual | None:
        """The anchor that fills the slot: they fill the first ones."""
        if slot >= len(self._anchors):
            return None
        operator, genome = self._anchors[slot]
        return Individual(slot, genome, operator=operator)

    def drawn(self, slot: int, rng: np.random.Generator) -> Individual:
        """A random genome not yet taken; after `ATTEMPTS` draws, one that may be."""
        for _ in range(ATTEMPTS):
            genome = self._space.sample(rng)
            if genome not in self:
                break
        return Individual(slot, genome, operator="sample")
