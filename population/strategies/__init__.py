"""Strategies, which propose the next genome: one file for each, one line here for each."""

import difflib
from collections.abc import Sequence
from importlib.metadata import entry_points
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
INSTALLED = "evomix.strategies"  # entry points of other packages, whose strategies are found too
BREEDING = tuple(name for name, kind in STRATEGIES.items() if kind.breeds)
PLANNED = frozenset(name for name, kind in STRATEGIES.items() if kind.planned)


def find(name: str) -> type[Strategy] | None:
    """The strategy of a name: of STRATEGIES, or of an installed package; None if there is none.

    Raises ValueError if the package cannot be imported.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    for entry in entry_points(group=INSTALLED, name=name):
        try:
            kind: type[Strategy] = entry.load()
        except Exception as error:  # whatever another package does when it is imported
            raise ValueError(
                f"strategy {name!r}: {entry.value} cannot be imported: {error}"
            ) from error
        return kind
    return None


def guidable(kind: type[Strategy]) -> bool:
    """True if a strategy takes guides: scores of another search."""
    return issubclass(kind, Surrogate)


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
    kind = bounded() if warm_start and name == "surrogate" else _known(name)
    modelling = {"composition": composition} if issubclass(kind, Surrogate) else {}
    return kind(space, population=population, budget=budget, anchors=anchors, **modelling)


def least_population(name: str, *, objectives: int, anchors: int) -> int:
    """The smallest population that a strategy works with. Raises ValueError as `check` does."""
    return _known(name).minimum_population(objectives=objectives, anchors=anchors)


def _known(name: str) -> type[Strategy]:
    if (kind := find(name)) is not None:
        return kind
    close = difflib.get_close_matches(name, STRATEGIES, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(STRATEGIES)}"
    raise ValueError(f"strategy {name!r} is unknown; {remedy}")


def check(name: str, *, population: int, objectives: int, anchors: int) -> None:
    """Raise ValueError when there is no such strategy or the population is too small for it."""
    minimum = least_population(name, objectives=objectives, anchors=anchors)
    if population < minimum:
        raise ValueError(
            f"population {population} is too small for {name}: with {anchors} anchors and"
            f" {objectives} objectives it needs at least {minimum}; raise it"
        )
