"""Simulated mixtures: a search among sums of experts, whose scores guide that of fine-tunes.

Once all experts are trained, a surrogate of its own searches mixtures alone. Each of its proposals
is the sum of the experts' weight changes by the shares, scored on the selection split.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from evo.config import SearchConfig, decode
from evo.config.composition import composed_parts
from evo.config.genomes import default_genome
from evo.search.replicates import score
from evo.search.requests import Requests
from fitness.cost import Cost
from fitness.evaluation import EvaluationSpec
from fitness.evaluation import Simulation as Request
from population.guides import Guide
from population.individual import Individual
from population.space import SearchSpace, Simplex
from population.strategies.surrogate import Parts, Surrogate

EACH = 16  # mixtures of a batch
BATCHES = (3, 16)  # at least and at most
SPENT = 0.1  # of the cost of all fine-tunes, unless that is less than the fewest batches cost
SIMULATED = "simulated"  # operator of an individual whose mixture was simulated
STREAM = 1  # of random numbers, apart from those of the search's slots
Scores = Mapping[str, float]  # by measurement; empty if the sum's loss is not finite


class Simulation:
    """Waits for the experts, given as sources by slot, then simulates mixtures of them."""

    def __init__(self, config: SearchConfig, sources: Mapping[int, str], cost: Cost) -> None:
        self._config = config
        self._sources = dict(sources)
        self._batches = batches(config, cost) if sources else 0
        self._experts: dict[int, Individual] = {}  # scored, by slot

    @property
    def experts(self) -> list[int]:
        """Individuals whose weights are still needed."""
        return list(self._sources) if len(self._experts) < len(self._sources) else []

    def learned(self, scored: Individual, requests: Requests) -> Guide | None:
        """Simulate once the last expert is scored; None at any other time, or if fewer than two."""
        if scored.id not in self._sources or scored.id in self._experts:
            return None
        self._experts[scored.id] = scored
        if self.experts:
            return None
        sound = {slot: one for slot, one in self._experts.items() if not one.failed}
        if len(sound) < 2:
            return None
        sources = tuple(self._sources[slot] for slot in sorted(sound))
        space = SearchSpace({"mixture": Simplex(sources)})
        experts = {self._sources[slot]: one for slot, one in sorted(sound.items())}
        records = tuple(self._searched(space, experts, requests))
        known = frozenset(sound)
        return Guide(SIMULATED, space, records, known) if len(records) > len(experts) else None

    def _searched(
        self, space: SearchSpace, experts: Mapping[str, Individual], requests: Requests
    ) -> Iterator[Individual]:
        """The experts as mixtures of one source, then the mixtures simulated."""
        composition = composed_parts(self._config).composition
        inner = Surrogate(
            space,
            population=EACH,
            budget=self._batches * EACH,
            composition=composition,
            parts=Parts(trees=False),
        )
        for place, (source, expert) in enumerate(experts.items(), 1):
            genome = space.repair({"mixture": {source: 1.0}})
            known = replace(expert, id=-place, genome=genome, parents=(expert.id,))
            inner.tell(known)
            yield known
        for batch in range(self._batches):
            asked = []
            for slot in range(batch * EACH, (batch + 1) * EACH):
                seeds = np.random.SeedSequence(self._config.seed, spawn_key=(STREAM, slot))
                asked.append(inner.ask(slot, np.random.default_rng(seeds)))
                inner.tell(asked[-1])
            mixtures = [dict(one.genome["mixture"]) for one in asked]  # type: ignore[arg-type]
            requested = _requests(self._config, batch, experts, mixtures)
            scores = requests.simulated(requested, list(experts.values()))
            if not any(scores):  # for want of memory, say: the next would fail too
                return
            for one, found in zip(asked, scores, strict=True):
                scored = _scored(self._config, one, found, requests.untouched())
                inner.tell(scored)
                yield replace(scored, parents=_parents(mixtures[one.id % EACH], experts))


def batches(config: SearchConfig, cost: Cost) -> int:
    """Number of batches of mixtures to simulate, by what scoring costs beside fine-tuning."""
    recipe = decode(config, default_genome(config))
    affordable = SPENT * config.budget.evaluations * cost(recipe, 1.0) / cost(recipe, 0.0)
    least, most = BATCHES
    return min(max(least, int(affordable) // EACH), most)


def _requests(
    config: SearchConfig,
    batch: int,
    experts: Mapping[str, Individual],
    mixtures: Sequence[Mapping[str, float]],
) -> list[EvaluationSpec]:
    """Specs that together score a batch of mixtures, one for each worker of the clock."""
    parts = composed_parts(config).parts
    scored = frozenset(part.measurement.split("/")[0] for part in parts)
    recipe = decode(config, default_genome(config))
    many = min(config.search.parallel, len(mixtures))
    return [
        EvaluationSpec(
            individual=batch * many + place,
            recipe=recipe,
            seed=config.seed,
            split="simulated",
            simulation=Request(tuple(experts), tuple(mixtures[i] for i in some), scored),
        )
        for place, some in enumerate(np.array_split(np.arange(len(mixtures)), many))
    ]


def _scored(
    config: SearchConfig, individual: Individual, found: Scores, base: Mapping[str, float]
) -> Individual:
    """The individual with losses, violation and parts by its simulated measurements."""
    if not found:
        return score(config, individual, [])
    scored = score(config, individual, [found], base)
    return replace(scored, parts=composed_parts(config).of(found, base))


def _parents(mixture: Mapping[str, float], experts: Mapping[str, Individual]) -> tuple[int, ...]:
    """The experts of a mixture, by falling share."""
    shares = sorted(((share, name) for name, share in mixture.items() if share), reverse=True)
    return tuple(experts[name].id for _, name in shares)
