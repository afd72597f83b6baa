"""Simulated mixtures: a search among sums of experts, whose scores guide that of fine-tunes.

Once all experts are trained, a surrogate of its own searches mixtures alone. Each of its proposals
is the sum of the experts' weight changes by the shares, scored on the selection split. It begins
with what is known: an expert is the sum of itself alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from evo.config import SearchConfig, decode
from evo.config.composition import composed_parts, scored_sets
from evo.config.genomes import alone, default_genome, filled_genes, mixed_sources
from evo.planning.experts import first_fidelity
from evo.record.facts import mixture
from evo.search.replicates import score
from evo.search.requests import Requests
from fitness.evaluation import Ancestor, EvaluationSpec
from fitness.evaluation import Simulation as Request
from population.guides import Guide, unbounded
from population.individual import Individual
from population.space import Genome, SearchSpace, Simplex
from population.strategies.surrogate import Parts, Surrogate

EACH = 8  # mixtures of a batch: the next one learns from it
SIMULATED = "simulated"  # operator of an individual whose mixture was simulated
STREAM = 1  # of random numbers, apart from those of the search's slots


class Simulation:
    """Waits for the experts to be scored, then simulates mixtures of them."""

    def __init__(self, config: SearchConfig, experts: Sequence[Individual]) -> None:
        self._config = config
        self._parts = composed_parts(config)
        self._experts = dict(zip(mixed_sources(config), experts, strict=False))  # by source
        self._scored: dict[int, Individual] = {}

    @property
    def needed(self) -> list[int]:
        """Experts whose weights are still needed."""
        waiting = len(self._scored) < len(self._experts)
        return [one.id for one in self._experts.values()] if waiting else []

    def learned(self, expert: Individual, requests: Requests) -> Guide | None:
        """Simulate once the last expert is scored; None before, or if too few did not fail."""
        self._scored[expert.id] = expert
        gene = filled_genes(self._config)["mixture"]
        if self.needed or not isinstance(gene, Simplex):
            return None
        sound = {
            name: one for name, one in self._experts.items() if not self._scored[one.id].failed
        }
        bounded = (gene.bounds[0] > 0).any() or (gene.bounds[1] < 1).any()
        if len(sound) < 2 or (bounded and len(sound) < len(self._experts)):
            return None
        space = SearchSpace({"mixture": gene if bounded else Simplex(tuple(sound))})
        known = [] if bounded else self._alone(sound)
        records = tuple(self._searched(space, sound, known, requests))
        return Guide(SIMULATED, space, (*known, *records)) if records else None

    def _alone(self, experts: Mapping[str, Individual]) -> list[Individual]:
        """The mixtures of one source each, with the scores of its expert; `experts` by source."""
        found = []
        for place, (name, one) in enumerate(experts.items()):
            number = -1 - place  # other than those of the mixtures simulated
            genome: Genome = {"mixture": alone(name, list(experts))}
            scored = self._scored[one.id]
            found.append(replace(scored, id=number, genome=genome, parents=(one.id,), fidelity=1.0))
        return found

    def _searched(
        self,
        space: SearchSpace,
        experts: Mapping[str, Individual],
        known: Sequence[Individual],
        requests: Requests,
    ) -> Iterator[Individual]:
        """The mixtures simulated, with their scores, beside those `known`; `experts` by source.

        Where no expert meets the constraints, the violation is one more loss: sums of short
        experts have not come as far as fine-tunes will, so that the least violation says little.
        """
        total = self._config.search.simulate
        assert isinstance(total, int)  # else there were no experts
        far = bool(known) and all(one.violation > 0 for one in known)
        inner = Surrogate(
            space,
            population=EACH,
            budget=total,
            composition=None if far else self._parts.composition,
            parts=Parts(trees=False),
        )
        base = requests.untouched()
        for one in known:
            inner.tell(unbounded(one) if far else one)
        for batch, first in enumerate(range(0, total, EACH)):
            asked = []
            for slot in range(first, min(first + EACH, total)):
                seeds = np.random.SeedSequence(self._config.seed, spawn_key=(STREAM, slot))
                asked.append(inner.ask(slot, np.random.default_rng(seeds)))
                inner.tell(asked[-1])
            mixtures = [mixture(one.genome) for one in asked]
            scores = requests.simulated(_requests(self._config, batch, experts, mixtures))
            if not any(scores):  # for want of memory, say: the next would fail too
                return
            for one, shares, found in zip(asked, mixtures, scores, strict=True):
                measured = [found] if found else []
                scored = score(self._config, one, measured, base, parts=self._parts)
                inner.tell(unbounded(scored) if far else scored)
                yield replace(scored, parents=_parents(shares, experts))


def _requests(
    config: SearchConfig,
    batch: int,
    experts: Mapping[str, Individual],
    mixtures: Sequence[Mapping[str, float]],
) -> list[EvaluationSpec]:
    """Specs that together score a batch of mixtures, one for each worker of the clock."""
    recipe = decode(config, default_genome(config))
    ancestors = tuple(
        Ancestor(
            one.id, decode(config, one.genome), config.seed, fidelity=first_fidelity(config, one)
        )
        for one in experts.values()
    )
    most = min(config.search.parallel, EACH)
    many = min(most, len(mixtures))
    return [
        EvaluationSpec(
            individual=batch * most + place,
            recipe=recipe,
            seed=config.seed,
            split="simulated",
            parents=tuple(one.id for one in experts.values()),
            ancestors=ancestors,
            simulation=Request(tuple(experts), tuple(mixtures[i] for i in some)),
            scored=scored_sets(config),
        )
        for place, some in enumerate(np.array_split(np.arange(len(mixtures)), many))
    ]


def _parents(shares: Mapping[str, float], experts: Mapping[str, Individual]) -> tuple[int, ...]:
    """The experts of a mixture, by falling share."""
    ordered = sorted(((share, name) for name, share in shares.items() if share), reverse=True)
    return tuple(experts[name].id for _, name in ordered)
