"""Guides: genomes scored elsewhere, such as by simulation, on a smaller model or in another search.

A surrogate takes a guide's predictions as a prior mean with a slope of its own, estimated from what
was evaluated: a guide that misleads gets a slope near 0 and costs little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from population import modelled
from population.individual import Individual
from population.modelled import Target
from population.predictor import Predictor, estimate
from population.selection import survivors
from population.space import SearchSpace

Array = npt.NDArray[np.float64]

LEADERS = 16  # records of a guide that candidates are made of


@dataclass(frozen=True)
class Guide:
    """Scored records, and the genes that they vary in: `space` has these genes alone.

    The parents of a record are individuals of the search that the guide is given to. A part that
    is NaN in every record is one of which the guide says nothing.
    """

    name: str  # operator of the individuals that are made of its records
    space: SearchSpace
    records: tuple[Individual, ...]

    @cached_property
    def leaders(self) -> list[Individual]:
        """The best records at their highest fidelity, which are worth evaluating."""
        sound = [one for one in self.records if not one.failed]
        highest = max(one.fidelity for one in sound)
        full = [one for one in sound if one.fidelity == highest]
        return survivors(full, min(LEADERS, len(full)))

    def points(self, genomes: Sequence[Mapping[str, Any]], fidelity: float = 1.0) -> Array:
        """Coordinates (n, coordinates + 1) of genomes in the guide's genes, and the fidelity."""
        return np.array([[*self.space.encode(genome), fidelity] for genome in genomes])

    def model(self, target: Target, parts: Array) -> Predictor:
        """A process of a target, fitted to the parts (n, m) of the records."""
        levels = np.array([one.fidelity for one in self.records])
        seeds = np.array([one.seeds for one in self.records], dtype=np.float64)
        points = self.points([one.genome for one in self.records])
        points[:, -1] = levels
        if np.isfinite(parts[:, target.part]).any():
            known = modelled.outcomes(target, parts, levels).modelled
        else:
            known = np.zeros(len(parts))
        return Predictor(points, known, seeds, estimate(points, known, seeds, trust=1.0))
