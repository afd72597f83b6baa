"""NSGA-III, steady-state: Deb and Jain 2014, An evolutionary many-objective optimization algorithm.

As many uniform reference points as fit the population. Selection is DEAP's, which keeps no memory
of ideal and extreme points; constraints as in NSGA-II; breeding as in `nsga2`.
"""

from math import comb

import numpy as np
from deap import tools

from population.individual import Individual
from population.selection import Array, carriers, survivors
from population.strategies.evolution import Evolution
from population.variation import seeded_numpy


class NSGA3(Evolution):
    def _survivors(self, candidates: list[Individual]) -> list[Individual]:
        feasible = [one for one in candidates if not one.failed and one.violation == 0]
        objectives = len(candidates[0].losses or ())
        if objectives == 1 or len(feasible) <= self._population:
            return survivors(candidates, self._population)
        points = reference_points(objectives, self._population)
        # Ties between niches are broken at random; the seed is the youngest candidate's id.
        with seeded_numpy(np.random.default_rng(candidates[-1].id)):
            kept = tools.selNSGA3(carriers(feasible), self._population, points)
        return [carrier.individual for carrier in kept]


def reference_points(objectives: int, most: int) -> Array:
    """Uniform reference points (n, objectives >= 2), each summing to 1 (Das and Dennis 1998).

    At most `most` points, or one for each objective if that is more.
    """
    divisions = 1
    while comb(objectives + divisions, divisions + 1) <= most:
        divisions += 1
    points: Array = tools.uniform_reference_points(objectives, divisions)
    return points
