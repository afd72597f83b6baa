"""NSGA-II: Deb et al. 2002; steady-state as in Durillo et al. 2009.

Departures from the papers: constraints, anchors and refused duplicates; the failed do not mate;
mates win tournaments of five by rank alone; the odds of the operators follow what survived
(`population.variation`).
"""

from population.individual import Individual
from population.selection import survivors
from population.strategies.evolution import Evolution


class NSGA2(Evolution):
    def _survivors(self, candidates: list[Individual]) -> list[Individual]:
        return survivors(candidates, self._population)
