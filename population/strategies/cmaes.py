"""CMA-ES: Hansen and Ostermeier 2001; for several objectives Voss et al. 2010 (steady-state).

Coordinates: mixtures as isometric log-ratios (Egozcue et al. 2003), numbers scaled, each choice as
one number per option of which the largest is taken. A point is told where it was evaluated, which
in a replay may be far from the proposal: such steps are shortened as injected solutions are
(Hansen 2011, arXiv:1110.4181). Infeasible individuals rank after all feasible ones.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from deap import cma

from population.genes import Array
from population.individual import Individual
from population.logratio import Coordinates
from population.selection import fitness_class, rank
from population.space import Genome, SearchSpace
from population.strategies.taken import Taken

# Standard deviation at the start, in coordinates whose spread is about 1. Of a parent's own
# distribution it is smaller: there are several of them, spread over the space.
STEP = 0.3
PARENTS_STEP = 0.15
CONVERGED = 1e-3  # once no coordinate's deviation is larger, the search starts afresh
ATTEMPTS = 8  # draws with growing steps before a duplicate gives way to a fresh draw


class CMAES:
    """Slots below `population` hold the anchors and a spread of draws, the others samples."""

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
        self._space = space
        self._population = population
        self._taken = Taken(space, anchors)
        self._coordinates = Coordinates(space)
        self._first: dict[int, Individual] = {}  # the first population, until it is complete
        self._distribution: _Distribution | None = None

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        """Four: CMA-ES learns from the better two. There may be more anchors than a population."""
        return 4

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        if anchor := self._taken.anchor(slot):
            return anchor
        if slot >= self._population and self._distribution:
            for attempt in range(ATTEMPTS):
                place, parents = self._distribution.draw(rng, strength=1 + attempt / 2)
                genome = self._coordinates.decode(place)
                if genome not in self._taken:
                    return Individual(slot, genome, parents, "cmaes")
        return self._taken.drawn(slot, rng)

    def possible_parents(self) -> frozenset[int]:
        """Empty: parents here are search points, and exist only with several objectives."""
        return frozenset()

    def tell(self, individual: Individual) -> None:
        self._taken.add(individual.genome)
        if individual.losses is None:
            return
        if self._distribution:
            self._distribution.learn(individual)
            return
        self._first[individual.id] = individual
        first = list(self._first.values())
        if len(first) >= self._population and not all(one.failed for one in first):
            kind = _Single if len(individual.losses) == 1 else _Several
            self._distribution = kind(self._coordinates, first, self._population)
            self._first = {}


class _Distribution(Protocol):
    """The distribution that the next individuals are drawn from."""

    def draw(self, rng: np.random.Generator, *, strength: float) -> tuple[Array, tuple[int, ...]]:
        """A point (n,), and the ids of its parents."""

    def learn(self, individual: Individual) -> None: ...


class _Single:
    """deap.cma.Strategy, which takes a step for every `size` individuals told."""

    def __init__(self, coordinates: Coordinates, first: list[Individual], size: int) -> None:
        self._coordinates = coordinates
        self._size = size
        self._told: dict[int, Individual] = {}
        self._cma = self._start(coordinates.middle())
        for individual in first:
            self.learn(individual)

    def draw(self, rng: np.random.Generator, *, strength: float) -> tuple[Array, tuple[int, ...]]:
        step = self._cma.BD @ rng.standard_normal(self._cma.dim)
        return self._cma.centroid + strength * self._cma.sigma * step, ()

    def learn(self, individual: Individual) -> None:
        self._told[individual.id] = individual
        if len(self._told) < self._size:
            return
        told = sorted(self._told.values(), key=lambda one: one.id)
        self._told = {}
        if all(one.failed for one in told):
            return
        model = self._cma
        points = []
        for one, place in zip(told, rank(told).tolist(), strict=True):
            step = self._coordinates.encode(one.genome, model.centroid) - model.centroid
            length = float(np.linalg.norm(model.B.T @ step / model.diagD)) / model.sigma
            points.append(_Point((model.centroid + step * _shortened(length, model.dim)).tolist()))
            points[-1].fitness = fitness_class(1)((place,))
        model.update(points)
        spread = model.sigma * np.sqrt(np.diag(model.C)).max()
        if not CONVERGED < spread < 1 / CONVERGED or not np.isfinite(model.BD).all():
            best = min(told, key=lambda one: (one.failed, one.violation, one.losses, one.id))
            middle = self._coordinates.middle()
            self._cma = self._start(self._coordinates.encode(best.genome, middle))

    def _start(self, centroid: Array) -> Any:
        return cma.Strategy(centroid, STEP, lambda_=self._size)


class _Several:
    """deap.cma.StrategyMultiObjective with one child at a time, learned as soon as it is told."""

    def __init__(self, coordinates: Coordinates, first: list[Individual], size: int) -> None:
        self._coordinates = coordinates
        self._members = [one for one in first if not one.failed]
        points = [self._placed(one) for one in self._members]
        self._cma = cma.StrategyMultiObjective(points, PARENTS_STEP, mu=size)

    def draw(self, rng: np.random.Generator, *, strength: float) -> tuple[Array, tuple[int, ...]]:
        ranks = rank(self._members)
        index = int(rng.choice(np.flatnonzero(ranks == ranks.min())))
        step = self._cma.A[index] @ rng.standard_normal(self._cma.dim)
        place = np.array(self._cma.parents[index]) + strength * self._cma.sigmas[index] * step
        return place, (self._members[index].id,)

    def learn(self, individual: Individual) -> None:
        """Update with a child of the parent it was drawn from, or else of the nearest parent."""
        model = self._cma
        known = [one.id for one in self._members]
        if individual.id in known:
            if not individual.failed:
                self._members[known.index(individual.id)] = individual
            return
        places = np.array([list(point) for point in model.parents])
        if individual.parents and individual.parents[0] in known:
            index = known.index(individual.parents[0])
        else:
            place = self._coordinates.encode(individual.genome, self._coordinates.middle())
            index = int(np.argmin(((places - place) ** 2).sum(axis=1)))
        if individual.failed:
            model.psucc[index] *= 1 - model.cp
            return
        child = self._placed(individual, places[index])
        true = list(child)
        step = np.array(child) - places[index]
        length = float(np.linalg.norm(model.invCholesky[index] @ step)) / model.sigmas[index]
        child[:] = (places[index] + step * _shortened(length, model.dim)).tolist()
        self._rate([*self._members, individual], [*model.parents, child])
        for number, parent in enumerate(model.parents):
            parent._ps = "p", number
        child._ps = "o", index
        members = {id(point): one for point, one in zip(model.parents, self._members, strict=True)}
        members[id(child)] = individual
        model.update([child])
        self._members = [members[id(point)] for point in model.parents]
        child[:] = true

    def _placed(self, individual: Individual, otherwise: Array | None = None) -> "_Point":
        place = self._coordinates.middle() if otherwise is None else otherwise
        return _Point(self._coordinates.encode(individual.genome, place).tolist())

    @staticmethod
    def _rate(individuals: Sequence[Individual], points: "Sequence[_Point]") -> None:
        """Set fitnesses so that feasible, and less infeasible, individuals dominate the others."""
        feasible = [one.losses or () for one in individuals if one.violation == 0]
        worst = np.max(feasible, axis=0) if feasible else np.zeros(len(individuals[0].losses or ()))
        for one, point in zip(individuals, points, strict=True):
            losses = one.losses if one.violation == 0 else tuple(worst + 1 + one.violation)
            point.fitness = fitness_class(len(worst))(losses)


class _Point(list[float]):
    """Coordinates with a fitness, in the form that DEAP expects."""

    fitness: Any
    _ps: tuple[str, int]


def _shortened(length: float, dimensions: int) -> float:
    """The factor for a step of this Mahalanobis length; 1 for nearly all that were drawn."""
    longest = np.sqrt(dimensions) + 2 * dimensions / (dimensions + 2)
    return float(min(1.0, longest / length)) if length > 0 else 1.0
