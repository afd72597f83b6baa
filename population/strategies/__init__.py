"""Strategies, which propose the next genome: one file for each, one line here for each."""

import difflib
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

from population.composition import Composition
from population.individual import Individual
from population.space import Genome, SearchSpace
from population.strategies import optuna
from population.strategies.cmaes import CMAES
from population.strategies.nsga2 import NSGA2
from population.strategies.nsga3 import NSGA3
from population.strategies.random import Random
from population.strategies.regression import Regression
from population.strategies.surrogate import Surrogate, bounded

Anchors = Sequence[tuple[str, Genome]]


class Strategy(Protocol):
    """The ask-and-tell interface: `ask` proposes an individual for a slot, `tell` takes its scores.

    `ask` changes nothing: its result depends only on the individuals told, the slot and `rng`, so
    telling a ledger's individuals again, in their order, is all it takes to resume. `tell` takes a
    scored individual. An individual told without losses (None) is pending: it is not proposed
    again, and nothing else is learned. One told again, at a higher fidelity or as a mean over more
    seeds, replaces its former scores. `possible_parents` are the ids of individuals that the next
    may be bred from; one that is dropped returns only if told again.
    """

    breeds: ClassVar[bool]  # children have parents, whose weights they may start from
    planned: ClassVar[bool]  # the budget decides what is proposed, so that it cannot grow later

    def __init__(
        self, space: SearchSpace, *, population: int, budget: int, anchors: Anchors = ()
    ) -> None: ...

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int: ...

    def ask(self, slot: int, rng: np.random.Generator) -> Individual: ...

    def tell(self, individual: Individual) -> None: ...

    def possible_parents(self) -> frozenset[int]: ...


STRATEGIES: dict[str, type[Strategy]] = {
    "surrogate": Surrogate,
    "cmaes": CMAES,
    "nsga2": NSGA2,
    "nsga3": NSGA3,
    "random": Random,
    "regression": Regression,
    **{f"optuna:{sampler}": optuna.using(sampler) for sampler in optuna.SAMPLERS},
}
BREEDING = tuple(name for name, kind in STRATEGIES.items() if kind.breeds)
PLANNED = frozenset(name for name, kind in STRATEGIES.items() if kind.planned)
GUIDABLE = tuple(name for name, kind in STRATEGIES.items() if issubclass(kind, Surrogate))


def make(
    name: str,
    space: SearchSpace,
    *,
    population: int,
    budget: int,
    anchors: Anchors = (),
    warm_start: bool = False,
    composition: Composition | None = None,
) -> Strategy:
    """The named strategy for a search of `budget` evaluations; anchors fill the first slots.

    Anchors are pairs of operator and genome. With `warm_start`, where children start from their
    parents' weights, there are at most `population` possible parents. With a `composition`,
    scored individuals have parts, which the surrogate models. Raises as `check` does.
    """
    check(name, population=population, objectives=1, anchors=len(anchors))
    kind = bounded() if warm_start and name == "surrogate" else STRATEGIES[name]
    modelling = {"composition": composition} if issubclass(kind, Surrogate) else {}
    return kind(space, population=population, budget=budget, anchors=anchors, **modelling)


def least_population(name: str, *, objectives: int, anchors: int) -> int:
    """The smallest population that a strategy works with. Raises ValueError as `check` does."""
    if name not in STRATEGIES:
        close = difflib.get_close_matches(name, STRATEGIES, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(STRATEGIES)}"
        raise ValueError(f"strategy {name!r} is unknown; {remedy}")
    return STRATEGIES[name].minimum_population(objectives=objectives, anchors=anchors)


def check(name: str, *, population: int, objectives: int, anchors: int) -> None:
    """Raise ValueError when there is no such strategy or the population is too small for it."""
    minimum = least_population(name, objectives=objectives, anchors=anchors)
    if population < minimum:
        raise ValueError(
            f"population {population} is too small for {name}: with {anchors} anchors and"
            f" {objectives} objectives it needs at least {minimum}; raise it"
        )
