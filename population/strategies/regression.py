"""One-shot regression as in RegMix: Liu et al. 2024, arXiv:2407.01492.

Nine tenths of the budget are a random design; a regression of the losses on the genomes is fitted,
and the rest of the budget is spent on what it predicts to be best among many draws.

Departures: extremely randomised trees (Geurts et al. 2006) in place of LightGBM, since boosted
trees left more regret on tables of finished runs with designs of 23 to 90 rows; the results of the
proposals are learned from as well. Several objectives: each proposal has random weights (Knowles
2006, ParEGO). Infeasible and failed individuals count as the worst feasible one.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from population.genes import Array, Choice
from population.individual import Individual
from population.space import Genome, SearchSpace
from population.strategies.taken import Taken

PROPOSALS = 0.1  # of the budget, at least one evaluation
TREES = 200
DRAWS = 2000  # genomes among which a proposal looks for the best prediction
AVERAGED = 20  # of the best predictions, as RegMix takes the mean of its best hundred


class Regression:
    """Random design, then regression; depends on the budget, which therefore cannot change."""

    breeds: ClassVar[bool] = False
    planned: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        budget: int,
        anchors: Sequence[tuple[str, Genome]] = (),
    ) -> None:
        self._space = space
        self._design = budget - max(1, round(PROPOSALS * budget))
        self._taken = Taken(space, anchors)
        self._scored: dict[int, Individual] = {}

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        """One: there are no generations."""
        return 1

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        if anchor := self._taken.anchor(slot):
            return anchor
        evaluated = [one for one in self._scored.values() if not one.failed]
        if slot >= self._design and len(evaluated) > 1:
            genome = self._proposal(evaluated, rng)
            if genome not in self._taken:
                return Individual(slot, genome, operator="regression")
        return self._taken.drawn(slot, rng)

    def possible_parents(self) -> frozenset[int]:
        """Empty: individuals have no parents here."""
        return frozenset()

    def tell(self, individual: Individual) -> None:
        self._taken.add(individual.genome)
        if individual.losses is not None:
            self._scored[individual.id] = individual

    def _proposal(self, evaluated: list[Individual], rng: np.random.Generator) -> Genome:
        told = np.array([self._space.encode(one.genome) for one in self._scored.values()])
        draws = [self._space.sample(rng) for _ in range(DRAWS)]
        places = np.array([self._space.encode(genome) for genome in draws])
        losses = self._losses(evaluated)
        predicted = np.column_stack(
            [_trees(rng).fit(told, column).predict(places) for column in losses.T]
        )
        order = np.argsort(_scalarised(predicted, losses, rng), kind="stable")[:AVERAGED]
        kinds = [self._kind(draws[index]) for index in order]
        alike = [index for index, kind in zip(order, kinds, strict=True) if kind == kinds[0]]
        return self._space.decode(places[alike].mean(axis=0))

    def _losses(self, evaluated: list[Individual]) -> Array:
        """Losses (n, objectives) of all scored individuals; violations while none is feasible."""
        feasible = np.array([one.losses for one in evaluated if one.violation == 0])
        if not len(feasible):
            worst = max(one.violation for one in evaluated)
            return np.array([[min(one.violation, worst)] for one in self._scored.values()])
        nothing = feasible.max(axis=0)
        return np.array(
            [one.losses if one.violation == 0 else nothing for one in self._scored.values()]
        )

    def _kind(self, genome: Genome) -> list[tuple[str, object]]:
        """The active genes, with the option of each choice: only equal ones have a mean."""
        choices = self._space.genes
        return [
            (name, value if isinstance(choices[name], Choice) else None)
            for name, value in genome.items()
        ]


def _trees(rng: np.random.Generator) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor  # importing it takes a second

    seed = int(rng.integers(2**31))
    return ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=seed)


def _scalarised(predicted: Array, losses: Array, rng: np.random.Generator) -> Array:
    """(n, objectives) -> (n,): random weights' augmented Chebyshev distance from the best."""
    if predicted.shape[1] == 1:
        return np.asarray(predicted[:, 0])
    ideal, reach = losses.min(axis=0), np.ptp(losses, axis=0)
    scaled = (predicted - ideal) / np.where(reach > 0, reach, 1.0)
    weighted = scaled * rng.dirichlet(np.ones(predicted.shape[1]))
    return np.asarray(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))
