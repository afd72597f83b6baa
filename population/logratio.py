"""Genomes as unconstrained vectors, for linear steps: mixtures as isometric log-ratios.

Egozcue et al. 2003, Isometric logratio transformations for compositional data analysis; absent
sources by the multiplicative replacement of Martin-Fernandez et al. 2003, Dealing with zeros and
missing values in compositional data sets.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from scipy.linalg import helmert

from population.genes import Array, Choice, Simplex, Value
from population.space import AnyGene, Genome, SearchSpace

ABSENT = 0.01  # stands in for all absent sources together
# A log-ratio of uniform mixtures has a deviation of 1.28, a uniform coordinate of 0.29.
SCALE = 4.0


class Coordinates:
    """A mixture of k sources has k - 1 coordinates, a number 1 in [0, 1], a choice 1 an option."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._slices: dict[str, slice] = {}
        self.size = 0
        for name, gene in space.genes.items():
            width = gene.size - 1 if isinstance(gene, Simplex) else gene.size
            self._slices[name] = slice(self.size, self.size + width)
            self.size += width

    def middle(self) -> Array:
        """Coordinates (size,) of the uniform mixture, no preferred option, numbers mid-range.

        A number with a prior is where that is.
        """
        place = np.zeros(self.size)
        for name, gene in self._space.genes.items():
            if isinstance(gene, Choice):
                place[self._slices[name]] = 1 / gene.size
            elif not isinstance(gene, Simplex):
                place[self._slices[name]] = (
                    0.5 if gene.prior is None else gene.encode(gene.prior.at)
                )
        return place

    def encode(self, genome: Mapping[str, Any], otherwise: Array) -> Array:
        """Coordinates (size,) of a genome; inactive genes get those of `otherwise` (size,)."""
        place = otherwise.copy()
        for name, value in self._space.repair(genome).items():
            gene = self._space.genes[name]
            if isinstance(gene, Simplex):
                place[self._slices[name]] = logratios(gene.weights(value)) / SCALE
            else:
                place[self._slices[name]] = gene.encode(value)
        return place

    def decode(self, place: Array) -> Genome:
        """The genome nearest to any (size,): numbers clipped, mixtures within floor and cap."""

        def value_of(name: str, gene: AnyGene) -> Value:
            coordinates = place[self._slices[name]]
            if isinstance(gene, Simplex):
                return gene.shares(shares(coordinates * SCALE))
            return gene.decode(coordinates)

        return self._space.assemble(value_of)


def logratios(weights: Array) -> Array:
    """Shares (k,), some of them perhaps 0 -> isometric log-ratios (k - 1,)."""
    absent = weights <= 0
    if absent.any():
        weights = np.where(absent, ABSENT / absent.sum(), weights * (1 - ABSENT))
    return np.asarray(_basis(len(weights)) @ np.log(weights))


def shares(ratios: Array) -> Array:
    """Inverse of `logratios`: (k - 1,) -> (k,), all above 0."""
    logs = ratios @ _basis(len(ratios) + 1)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


@cache
def _basis(size: int) -> Array:
    """Helmert basis (size - 1, size): orthonormal rows, each summing to 0."""
    return np.asarray(helmert(size)) if size > 1 else np.zeros((0, 1))
