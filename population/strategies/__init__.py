"""What breeds the next genome: one file per strategy, one line here for each."""

import difflib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from population.individual import Individual
from population.space import Genome, SearchSpace
from population.strategies.nsga2 import NSGA2
from population.strategies.random import Random

Anchors = Sequence[tuple[str, Genome]]


class Strategy(Protocol):
    """Asked for an individual per slot, told the scores.

    `ask` changes nothing: its answer depends on what was told, the slot and `rng` alone, so telling
    a ledger's individuals again, in their order, is all it takes to resume. `tell` takes an
    individual once scored. Told before that (losses None), it is known to be on its way: it is not
    proposed again, and nothing else is learned.
    """

    def __init__(self, space: SearchSpace, *, population: int, anchors: Anchors = ()) -> None: ...

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int: ...

    def ask(self, slot: int, rng: np.random.Generator) -> Individual: ...

    def tell(self, individual: Individual) -> None: ...


STRATEGIES: dict[str, type[Strategy]] = {"nsga2": NSGA2, "random": Random}


def make(name: str, space: SearchSpace, *, population: int, anchors: Anchors = ()) -> Strategy:
    """The named strategy; anchors (name, genome) fill the first slots. Raises as `check` does."""
    check(name, population=population, objectives=1, anchors=len(anchors))
    return STRATEGIES[name](space, population=population, anchors=anchors)


def check(name: str, *, population: int, objectives: int, anchors: int) -> None:
    """Raises ValueError when there is no such strategy or the population is too small for it."""
    if name not in STRATEGIES:
        close = difflib.get_close_matches(name, STRATEGIES, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(STRATEGIES)}"
        raise ValueError(f"strategy {name!r} is unknown; {remedy}")
    minimum = STRATEGIES[name].minimum_population(objectives=objectives, anchors=anchors)
    if population < minimum:
        raise ValueError(
            f"population {population} is too small for {name}: with {anchors} anchors and"
            f" {objectives} objectives it needs at least {minimum}; raise it"
        )
