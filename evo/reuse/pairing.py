"""An earlier search beside a new one: what they share, and how the earlier one's scores rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from evo.config import SearchConfig
from evo.config.genomes import filled_genes
from evo.prepare.task import versions
from evo.reuse.conditions import conditions, differences
from evo.reuse.earlier import Earlier, Scored
from evo.reuse.matching import Sources, common_genes, contents, contents_of_genes, matched
from evo.reuse.scoring import scored
from population.individual import Individual
from population.space import AnyGene, Simplex

UNKNOWN = "a table does not say on which model and data its rows were measured"


@dataclass(frozen=True)
class Pairing:
    """An earlier search, and the new one on its model and data, by their `fingerprints`."""

    earlier: Earlier
    config: SearchConfig
    fingerprints: Mapping[str, Any]

    @cached_property
    def sources(self) -> Sources:
        """The matched sources."""
        of_run = self.earlier.config
        there = (
            contents_of_genes(self.earlier.genes)
            if of_run is None
            else contents(of_run, self.earlier.fingerprints)
        )
        return matched(there, contents(self.config, self.fingerprints))

    @cached_property
    def other_base(self) -> bool:
        """True if the earlier search fine-tuned another base model; a table does not say."""
        there = self.earlier.fingerprints.get("model")
        return self.earlier.config is not None and there != self.fingerprints.get("model")

    @cached_property
    def genes(self) -> dict[str, AnyGene]:
        """The genes of the new search that the earlier one has too, and that transfer.

        Between base models only mixtures do; the best learning rate depends on the model.
        """
        genes = self.earlier.genes
        if self.other_base:
            genes = {name: gene for name, gene in genes.items() if isinstance(gene, Simplex)}
        return common_genes(genes, filled_genes(self.config))

    @cached_property
    def differs(self) -> list[str]:
        """Differences by which no evaluation would come out the same; none if there are none."""
        if self.earlier.config is None:
            return [UNKNOWN]
        there = conditions(self.earlier.config, self.earlier.fingerprints, self.earlier.versions)
        return differences(there, conditions(self.config, self.fingerprints, versions()))

    @cached_property
    def base(self) -> Mapping[str, float]:
        """Measurements of the earlier search's untouched base on the selection split."""
        bases = [one for one in self.earlier.evaluations if one.fidelity == 0]
        return next((one.measurements for one in bases if one.split == "selection"), {})

    @cached_property
    def evaluations(self) -> dict[int, list[Scored]]:
        """Evaluations on the selection split, by individual."""
        found: dict[int, list[Scored]] = {}
        for one in self.earlier.evaluations:
            if one.fidelity and one.split == "selection":
                found.setdefault(one.individual, []).append(one)
        return found

    def by_fidelity(self, individual: int) -> dict[float, list[Scored]]:
        """Evaluations of an individual on the selection split, by fidelity, lowest first."""
        evaluations = self.evaluations[individual]
        levels = sorted({one.fidelity for one in evaluations})
        return {level: [one for one in evaluations if one.fidelity == level] for level in levels}

    def chosen(self, most: int) -> set[int]:
        """The baselines, and of the others half the room for the best and half for the latest."""
        first = [number for number in self.evaluations if number in self.earlier.baselines][:most]
        others = [number for number in self.evaluations if number not in first]
        best = sorted(others, key=self._rank)[: (most - len(first)) // 2]
        latest = sorted(set(others) - set(best), reverse=True)
        return {*first, *best, *latest[: most - len(first) - len(best)]}

    def _rank(self, individual: int) -> tuple[float, float, float, int]:
        level, evaluations = list(self.by_fidelity(individual).items())[-1]
        known = scored(self.config, Individual(0, {}), means(evaluations), self.base)
        return (-level, known.violation, (known.losses or (0.0,))[0], individual)


def means(evaluations: Sequence[Scored]) -> dict[str, float]:
    """Means over evaluations of the measurements that all of them have."""
    first, *others = [one.measurements for one in evaluations]
    names = [name for name in first if all(name in other for other in others)]
    return {name: fmean(one[name] for one in (first, *others)) for name in names}
