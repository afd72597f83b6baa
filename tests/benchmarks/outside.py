"""Peers for measuring against only: plain NSGA-II of DEAP, and NSGA-II (or GA) of pymoo.

Genomes are `SearchSpace.encode`'s coordinates in [0, 1], mixtures by their square roots, and the
first generation is a spread of draws: what our own strategies have as well. Everything else is as
those libraries have it. pymoo is no dependency of the project: `pip install pymoo`.
"""

import importlib.util
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from deap import algorithms, base, tools

from population.genes import Array
from population.individual import Individual
from population.space import SearchSpace
from population.strategies import STRATEGIES, Anchors
from population.variation import seeded_random

CROSSOVER, MUTATION = 0.5, 0.5  # DEAP's varOr: a child of either, never of both
ETA = 20.0


class _Generational(ABC):
    """Children are handed out one by one; a generation is learned from once all of it was told."""

    breeds: ClassVar[bool] = False
    planned: ClassVar[bool] = False

    def __init__(
        self, space: SearchSpace, *, population: int, budget: int, anchors: Anchors = ()
    ) -> None:
        self.space, self.size = space, population
        self._queue: list[Array] = []
        self._told: list[tuple[Array, tuple[float, ...]]] = []
        self._begun = False

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        return 4

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        if slot < self.size or not self._begun:
            return Individual(slot, self.space.sample(rng), operator="sample")
        if not self._queue:
            self._queue = self.offspring(rng)
        return Individual(slot, self.space.decode(self._queue.pop(0)), operator="offspring")

    def possible_parents(self) -> frozenset[int]:
        return frozenset()  # its children do not name their parents

    def tell(self, individual: Individual) -> None:
        if individual.losses is None:
            return
        self._told.append((self.space.encode(individual.genome), individual.losses))
        if len(self._told) == self.size:
            self.select([x for x, _ in self._told], [losses for _, losses in self._told])
            self._begun, self._told = True, []

    @abstractmethod
    def offspring(self, rng: np.random.Generator) -> list[Array]:
        """The coordinates of the next generation."""

    @abstractmethod
    def select(self, told: list[Array], losses: list[tuple[float, ...]]) -> None:
        """Learn from a generation: coordinates and losses of each member."""


class Deap(_Generational):
    """The steps of `algorithms.eaMuPlusLambda`, mu = lambda, with `selNSGA2`."""

    def __init__(
        self, space: SearchSpace, *, population: int, budget: int, anchors: Anchors = ()
    ) -> None:
        super().__init__(space, population=population, budget=budget)
        self._parents: list[Any] = []
        share = 1 / space.n_coordinates
        self._tools = base.Toolbox()
        self._tools.register("mate", tools.cxSimulatedBinaryBounded, eta=ETA, low=0.0, up=1.0)
        self._tools.register(
            "mutate", tools.mutPolynomialBounded, eta=ETA, low=0.0, up=1.0, indpb=share
        )

    def offspring(self, rng: np.random.Generator) -> list[Array]:
        with seeded_random(rng):
            children = algorithms.varOr(self._parents, self._tools, self.size, CROSSOVER, MUTATION)
        return [np.array(child) for child in children]

    def select(self, told: list[Array], losses: list[tuple[float, ...]]) -> None:
        children = [_Child(x.tolist()) for x in told]
        for child, scored in zip(children, losses, strict=True):
            child.fitness = _fitness(scored)
        self._parents = tools.selNSGA2(self._parents + children, self.size)


class _Child(list[float]):
    """An individual in the form that DEAP expects."""

    fitness: base.Fitness


class _One(base.Fitness):
    weights = (-1.0,)


class _Two(base.Fitness):
    weights = (-1.0, -1.0)


def _fitness(losses: tuple[float, ...]) -> base.Fitness:
    return (_One if len(losses) == 1 else _Two)(losses)


class Pymoo(_Generational):
    """`NSGA2`, and `GA` for one objective, with their default operators."""

    _search: Any = None

    def offspring(self, rng: np.random.Generator) -> list[Array]:
        self._search.random_state = rng
        asked = self._search.ask()  # None where nothing but duplicates comes of mating
        return (
            [self.space.encode(self.space.sample(rng))] if asked is None else list(asked.get("X"))
        )

    def select(self, told: list[Array], losses: list[tuple[float, ...]]) -> None:
        from pymoo.core.evaluator import Evaluator
        from pymoo.core.population import Population
        from pymoo.problems.static import StaticProblem

        if self._search is None:
            self._search = self._begin(told[0].size, len(losses[0]))
        members = Population.new(X=np.array(told))
        static = StaticProblem(self._search.problem, F=np.array(losses))
        Evaluator().eval(static, members)
        self._search.tell(infills=members)

    def _begin(self, coordinates: int, objectives: int) -> Any:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.algorithms.soo.nonconvex.ga import GA
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        problem = Problem(n_var=coordinates, n_obj=objectives, xl=0.0, xu=1.0)
        search = (GA if objectives == 1 else NSGA2)(pop_size=self.size)
        search.setup(problem, termination=NoTermination(), seed=0)
        search.ask()  # its own first generation, in place of which the one told is learned from
        return search


def register() -> None:
    """Adds the peers that are installed to the strategies of this process."""
    STRATEGIES["deap"] = Deap
    if importlib.util.find_spec("pymoo") is not None:
        STRATEGIES["pymoo"] = Pymoo
