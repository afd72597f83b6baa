"""Guides: genomes scored elsewhere, such as by simulation, on a smaller model or in another search.

A surrogate takes a guide's predictions as a prior mean with a slope of its own, estimated from what
was evaluated: a guide that misleads gets a slope near 0 and costs little.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from population import modelled
from population.individual import Individual
from population.modelled import Target
from population.predictor import Predictor, estimate
from population.selection import survivors
from population.space import Genome, SearchSpace
from population.variation import Odds, breed

Array = npt.NDArray[np.float64]

LEADERS = 16  # records of a guide that candidates are made of
STARTS = 3  # of them, spread over a front, that are evaluated before candidates are compared


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
        """The best records at their highest fidelity, which are worth evaluating.

        Where none meets the constraints, those of the front of losses and violation: scores from
        elsewhere may all be off by as much, and then the least violation says little.
        """
        sound = [one for one in self.records if not one.failed]
        highest = max(one.fidelity for one in sound)
        full = {one.id: one for one in sound if one.fidelity == highest}
        ranked = list(full.values())
        if all(one.violation > 0 for one in ranked):
            ranked = [unbounded(one) for one in ranked]
        return [full[one.id] for one in survivors(ranked, min(LEADERS, len(ranked)))]

    def points(self, genomes: Sequence[Mapping[str, Any]]) -> Array:
        """Coordinates (n, coordinates + 1) of genomes in the guide's genes, at full fidelity."""
        return np.array([[*self.space.encode(genome), 1.0] for genome in genomes])

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


class Guides:
    """The guides of a surrogate over a space: their hints, and genomes made of their best records.

    `table` gives the parts (n, parts) of records; of their violation alone, if `violated`.
    """

    def __init__(
        self, space: SearchSpace, table: Callable[[Sequence[Individual], bool], Array]
    ) -> None:
        self._space = space
        self._table = table
        self._guides: list[Guide] = []
        self._started = 0  # individuals made by `start`
        self._models: dict[tuple[int, Target, bool], Predictor] = {}
        self._known: dict[tuple[Target, bool], dict[int, Array]] = {}  # hints, by individual

    def __len__(self) -> int:
        return len(self._guides)

    def add(self, guide: Guide) -> None:
        """Add a guide; hints have a column more from now on."""
        self._guides.append(guide)
        self._known.clear()

    def forget(self) -> None:
        """Forget the hints for individuals, some of which are not asked for again."""
        self._known.clear()

    def places(self, genomes: Sequence[Genome]) -> list[Array]:
        """Coordinates of genomes for each guide, which all targets share."""
        return [guide.points(genomes) for guide in self._guides]

    def hints(self, target: Target, violated: bool, places: Sequence[Array]) -> Array:
        """Predictions (n, guides) of a target at `places`, by each guide."""
        columns = []
        for number, (guide, at) in enumerate(zip(self._guides, places, strict=True)):
            key = number, target, violated
            if key not in self._models:
                table = self._table(guide.records, violated)
                self._models[key] = guide.model(target, table)
            columns.append(self._models[key].predict(at)[0])
        return np.stack(columns, axis=1)

    def hints_of(self, target: Target, violated: bool, records: Sequence[Individual]) -> Array:
        """Hints (n, guides) for individuals, each of which is predicted once."""
        if not self:
            return np.empty((len(records), 0))
        known = self._known.setdefault((target, violated), {})
        if new := [one for one in records if one.id not in known]:
            hints = self.hints(target, violated, self.places([one.genome for one in new]))
            known |= {one.id: row for one, row in zip(new, hints, strict=True)}
        return np.stack([known[one.id] for one in records])

    @property
    def starts(self) -> bool:
        """True until the leaders to start with are on their way.

        They are several on a front, of which the best are all at one end, where a guide may be
        wrong about the limit of a constraint; else one.
        """
        front = any(_on_a_front(guide.leaders) for guide in self._guides)
        return bool(self._guides) and self._started < (STARTS if front else 1)

    def start(
        self,
        slot: int,
        mates: Sequence[Individual],
        taken: Container[Genome],
        rng: np.random.Generator,
    ) -> Individual | None:
        """One of a guide's leaders; None without guides.

        After those to start with, None in every second slot: draws tell what a guide is worth.
        Genes that the guide lacks are those of the best mate to start with, if there is one, then
        drawn: leaders are alike, and would score alike.
        """
        if not self or (not self.starts and slot % 2):
            return None
        guide = self._guides[self._started % len(self)]
        best = min(mates, key=_order, default=None)
        lacks = bool(self._space.genes.keys() - guide.space.genes.keys())
        later = lacks and not self.starts
        others = self._space.sample(rng) if later or best is None else best.genome
        leaders = sorted(guide.leaders, key=_order)
        apart = max(1, len(leaders) // (STARTS + 1))
        first = self._started // len(self) * apart if self.starts else 0
        self._started += 1
        for record in (*leaders[first:], *leaders):
            genome = self._space.repair({**others, **record.genome})
            if genome not in taken:
                operator = f"{guide.name}+sample" if later else guide.name
                return Individual(slot, genome, record.parents, operator)
        return None

    def child(
        self, slot: int, mate: Individual, rng: np.random.Generator, strength: float
    ) -> Individual:
        """A guide's genes from one of its best records; the others of a mate, mutated, or drawn."""
        guide = self._guides[int(rng.integers(len(self)))]
        record = guide.leaders[int(rng.integers(len(guide.leaders)))]
        kind = ("as it is", "mutated", "drawn")[int(rng.integers(3))]
        if kind == "drawn":
            genome = self._space.repair({**self._space.sample(rng), **record.genome})
            return Individual(slot, genome, record.parents, f"{guide.name}+sample")
        parents = tuple(dict.fromkeys((*record.parents, mate.id)))
        genome = self._space.repair({**mate.genome, **record.genome})
        if kind == "as it is":
            return Individual(slot, genome, parents, guide.name)
        genome, operator = breed([genome], self._space, rng, odds=Odds(), strength=strength)
        return Individual(slot, genome, parents, f"{guide.name}+{operator}")


def unbounded(individual: Individual) -> Individual:
    """A scored individual with its violation as one more loss, in place of constraints."""
    losses = (*(individual.losses or ()), individual.violation)
    return replace(individual, losses=losses, violation=0.0)


def _order(individual: Individual) -> tuple[float, tuple[float, ...]]:
    return individual.violation, individual.losses or ()


def _on_a_front(leaders: Sequence[Individual]) -> bool:
    """True with several objectives, or with constraints that some leader does not meet."""
    return any(len(leader.losses or ()) > 1 or leader.violation for leader in leaders)
