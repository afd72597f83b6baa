"""Which slot is bred when, and who learns from whom: a sequence of steps fixed before the run.

The driver takes the steps in order. `Breed(slot)` asks the strategy and hands the individual to
the cluster without waiting; `Learn(slot)` waits until that slot's evaluation has really finished,
then tells the strategy. Since the order of the steps depends on nothing that happens at run time,
neither do the genomes: the same search on 1 worker or 100, whatever finishes first or crashes.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Breed:
    """Ask for the individual of `slot`, a member of `generation`."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Learn:
    """Tell the strategy what the individual of `slot` scored."""

    slot: int


Step = Breed | Learn


def generational(evaluations: int, population: int) -> Iterator[Step]:
    """Every slot of a generation learns from all of the generation before it, in slot order."""
    for generation, first in enumerate(range(0, evaluations, population)):
        slots = range(first, min(first + population, evaluations))
        yield from (Breed(slot, generation) for slot in slots)
        yield from (Learn(slot) for slot in slots)
