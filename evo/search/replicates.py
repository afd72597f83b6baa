"""Evaluations of the same individual under other seeds, so that one lucky draw cannot win.

Whoever has the best result of a search is, more often than not, one whose draw was lucky. So the
contenders for the name of best are evaluated again, in slots of the schedule, and only those that
were evaluated under `search.replicates` seeds are named.
"""

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, variance

from evo.config import SearchConfig, losses, violation
from evo.config.genomes import NOTHING, baseline_names
from evo.config.sections import SEED_STEP
from evo.planning.schedule import ROUNDING
from evo.search.evaluations import Job
from evo.significance import CLEAR, Sample
from fitness.evaluation import Evaluation, Status
from population.individual import Individual
from population.selection import best

SHARE = 0.05  # of the slots so far that may be replicates
CLOSING = 0.1  # of all slots, the last ones, that must be
CONTENDERS = 8
FULL = 1.0  # fidelity


def closing(config: SearchConfig) -> int:
    """How many of the last slots are replicates: as far as the budget leaves a population."""
    needed = max(config.search.population, len(baseline_names(config)))
    slots, more = config.budget.evaluations, config.search.replicates - 1
    return max(0, min(max(more, round(CLOSING * slots)), CONTENDERS * more, slots - needed))


def seed_of(config: SearchConfig, replicate: int) -> int:
    """The seed of the first, second, ... evaluation (0, 1, ...) of any individual.

    The same for all: what a seed does to one individual it does to the others as well (common
    random numbers), which takes noise out of their comparison.
    """
    return config.seed + SEED_STEP * replicate


class Replicates:
    """The means so far, who is to be evaluated again, and who is named."""

    def __init__(self, config: SearchConfig) -> None:
        self._config = config
        self._wanted = config.search.replicates
        self._spent = 0.0  # full evaluations begun
        self._means: dict[int, Individual] = {}
        self._measured: dict[int, list[Mapping[str, float]]] = {}  # by individual
        self._samples: dict[int, list[Sample | None]] = {}  # of the first objective, by individual
        self._asked: dict[int, int] = {}  # evaluations begun, by individual
        self._again = 0  # of those, under other seeds than the first
        self._ranking: list[tuple[float, tuple[float, ...], int]] = []  # the failed left out
        self._noise = Noise()

    def due(self) -> Job | None:
        """A contender to evaluate again in this slot; None where a new individual may be bred."""
        if self._spent > self._config.budget.evaluations - closing(self._config) - ROUNDING:
            ranking = self.contenders()
            behind = next((id for id in ranking if self._asked[id] < self._wanted), None)
            return self._again_for(behind if behind is not None or not ranking else ranking[0])
        if self._wanted == 1 or self._again >= SHARE * self._spent or not self._ranking:
            return None
        contenders = self._contenders()
        if self._noise.known and len(contenders) == 1:  # beyond doubt so far
            return None
        return self._again_for(next((i for i in contenders if self._asked[i] < self._wanted), None))

    def contenders(self) -> list[int]:
        """The best so far, of whom some may be evaluated again."""
        return [id for _, _, id in self._ranking[:CONTENDERS]]

    def _contenders(self) -> list[int]:
        """Whoever may be the best for all that is known of the noise, the leader first.

        Which is that of the seeds and, where scores by held-out item are recorded, that of the
        items: of the paired difference from the leader on them.
        """
        _, (lowest, *_), first = self._ranking[0]
        leader, found = self._means[first], []
        for missed, (loss, *_), id in self._ranking[:CONTENDERS]:
            seeds = math.sqrt(1 / self._means[id].seeds + 1 / leader.seeds) * self._noise.deviation
            error = math.hypot(seeds, self._sample_error(first, id))
            if missed > 0 or loss - lowest > CLEAR * error:
                break
            found.append(id)
        return found

    def _sample_error(self, leader: int, id: int) -> float:
        """Of the difference of two individuals on the same held-out items; 0 where not recorded."""
        one, other = (Sample.mean(self._samples.get(who, [])) for who in (leader, id))
        return 0.0 if one is None or not one.fits(other) else one.error(other)

    def _again_for(self, id: int | None) -> Job | None:
        if id is None:
            return None
        return Job(self._means[id], seed_of(self._config, self._asked[id]))

    def begun(self, job: Job, *, share: float) -> None:
        """An evaluation was begun, at a share of the cost of a full one."""
        self._spent += share
        if job.fidelity == FULL:
            self._again += job.seed != self._config.seed
            self._asked[job.individual.id] = self._asked.get(job.individual.id, 0) + 1

    def learned(
        self, job: Job, evaluation: Evaluation, base: Mapping[str, float] = NOTHING
    ) -> Individual:
        """The individual scored by the means over the seeds that succeeded so far.

        `base` is what the untouched base measures, where a constraint is relative to it.
        Below full fidelity nobody is a contender.
        """
        if job.fidelity < FULL:
            ok = [evaluation.measurements] if evaluation.status is Status.OK else []
            scored = score(self._config, job.individual, ok, base)
            return replace(scored, fidelity=job.fidelity)
        individual = replace(job.individual, fidelity=FULL)
        known = self._means.get(individual.id)
        measured = self._measured.setdefault(individual.id, [])
        if evaluation.status is Status.OK:
            measured.append(evaluation.measurements)
            first = next(iter(self._config.objectives))
            sample = Sample.of(evaluation.details, first)
            self._samples.setdefault(individual.id, []).append(sample)
            self._noise.see(individual.id, [losses(self._config, one)[0] for one in measured])
        if known is not None and not known.failed:
            self._ranking.remove(_place(known))
        scored = self._means[individual.id] = score(self._config, individual, measured, base)
        if not scored.failed:
            insort(self._ranking, _place(scored))
        return scored

    def winner(self) -> Individual | None:
        """Who is named; None where every evaluation failed."""
        return best(list(self._means.values()), seeds=self._wanted)


def _place(one: Individual) -> tuple[float, tuple[float, ...], int]:
    """As `selection.best` orders them."""
    return (one.violation, one.losses or (), one.id)


class Noise:
    """How much a loss differs between the seeds of the same individual."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[float, int]] = {}  # summed squares and degrees of freedom

    def see(self, individual: int, values: Sequence[float]) -> None:
        """Take in all that is known of one individual."""
        if len(values) > 1:
            freedom = len(values) - 1
            self._of[individual] = (freedom * variance(values), freedom)

    @property
    def known(self) -> bool:
        """Whether anybody was evaluated under two seeds."""
        return bool(self._of)

    @property
    def deviation(self) -> float:
        """Standard deviation, pooled over the individuals; 0 while none has two seeds."""
        freedom = sum(count for _, count in self._of.values())
        return math.sqrt(sum(squares for squares, _ in self._of.values()) / max(1, freedom))


def score(
    config: SearchConfig,
    individual: Individual,
    measured: Sequence[Mapping[str, float]],
    base: Mapping[str, float] = NOTHING,
) -> Individual:
    """With its losses, lower is better, by the means of what was measured.

    One that failed under every seed loses to every other.
    """
    if not measured:
        nothing = (float("inf"),) * len(config.objectives)
        return replace(individual, losses=nothing, violation=float("inf"))
    means = {name: fmean(one[name] for one in measured) for name in measured[0]}
    return replace(
        individual,
        losses=losses(config, means),
        violation=violation(config, means, base),
        seeds=len(measured),
    )
