"""Replicates: evaluations of contenders under further seeds, so that no lucky seed wins.

The best of many noisy results is too good on average (the winner's curse). So the contenders are
evaluated again under other seeds, in slots of the schedule, and only an individual with
`search.replicates` seeds may be named the winner.
"""

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, variance

from evo.config import SearchConfig, losses, violation
from evo.config.aggregates import NOTHING
from evo.config.budget import SEED_STEP
from evo.config.composition import Parts, composed_parts
from evo.config.genomes import baseline_names
from evo.planning.experts import spendable, spent_on_experts
from evo.planning.lineages import FULL
from evo.planning.schedule import ROUNDING
from evo.search.jobs import Job
from evo.significance import CLEAR, Sample
from fitness.evaluation import Evaluation, Status
from population.individual import Individual
from population.selection import best

SHARE = 0.05  # largest share of the slots so far that are replicates
CLOSING = 0.1  # share of all slots, the last ones, that are all replicates
CONTENDERS = 8


def closing(config: SearchConfig) -> int:
    """Number of last slots that are all replicates; the slots before hold a population at least."""
    needed = max(config.search.population, len(baseline_names(config)))
    slots, more = int(spendable(config) - spent_on_experts(config)), config.search.replicates - 1
    return max(0, min(max(more, round(CLOSING * slots)), CONTENDERS * more, slots - needed))


def seed_of(config: SearchConfig, replicate: int) -> int:
    """The seed of the first, second, ... evaluation (0, 1, ...) of any individual.

    The same for all individuals (common random numbers): the effects of a seed that individuals
    share cancel in their comparison.
    """
    return config.seed + SEED_STEP * replicate


class Replicates:
    """Means over seeds so far, contenders to evaluate again, and the winner."""

    def __init__(self, config: SearchConfig) -> None:
        self._config = config
        self._wanted = config.search.replicates
        self._parts = composed_parts(config)
        self._open = spendable(config) - closing(config)  # budget before the last slots
        self._spent = 0.0  # full evaluations begun
        self._means: dict[int, Individual] = {}
        self._measured: dict[int, list[Mapping[str, float]]] = {}  # by individual
        self._samples: dict[int, list[Sample | None]] = {}  # of the first objective, by individual
        self._begun: dict[int, int] = {}  # evaluations started, by individual
        self._again = 0  # replicates started: evaluations under other seeds than the first
        self._ranking: list[tuple[float, tuple[float, ...], int]] = []  # without failed individuals
        self._noise = Noise()

    def due(self) -> Job | None:
        """A contender to evaluate again in this slot; None where a new individual may be bred."""
        if self._spent > self._open - ROUNDING:
            ranking = self.contenders()
            behind = next((id for id in ranking if self._begun[id] < self._wanted), None)
            return self._again_for(behind if behind is not None or not ranking else ranking[0])
        if self._wanted == 1 or self._again + 1 > SHARE * self._spent or not self._ranking:
            return None
        contenders = self._contenders()
        if self._noise.known and len(contenders) == 1:  # a clear leader so far
            return None
        return self._again_for(next((i for i in contenders if self._begun[i] < self._wanted), None))

    def contenders(self) -> list[int]:
        """Ids of the best individuals so far, at most CONTENDERS of them."""
        return [id for _, _, id in self._ranking[:CONTENDERS]]

    def _contenders(self) -> list[int]:
        """Ids of individuals that the noise cannot tell from the leader, the leader first.

        Those within CLEAR standard errors of the leader's loss. The error is that of the seeds,
        s x sqrt(1/n_i + 1/n_leader) with s pooled over individuals, and, where scores by held-out
        item are recorded, that of the paired difference over the items, added in quadrature.
        """
        _, (lowest, *_), first = self._ranking[0]
        leader, contenders = self._means[first], []
        for missed, (loss, *_), id in self._ranking[:CONTENDERS]:
            seeds = math.sqrt(1 / self._means[id].seeds + 1 / leader.seeds) * self._noise.deviation
            error = math.hypot(seeds, self._sample_error(first, id))
            if missed > 0 or loss - lowest > CLEAR * error:
                break
            contenders.append(id)
        return contenders

    def _sample_error(self, leader: int, id: int) -> float:
        """Error of the paired difference on the held-out items; 0 where they are not recorded."""
        own, other = (Sample.mean(self._samples.get(i, [])) for i in (leader, id))
        return 0.0 if own is None or not own.fits(other) else own.error(other)

    def _again_for(self, id: int | None) -> Job | None:
        if id is None:
            return None
        return Job(self._means[id], seed_of(self._config, self._begun[id]))

    def begun(self, job: Job, *, share: float) -> None:
        """Count an evaluation that was started, at a share of the cost of a full one."""
        self._spent += share
        if job.fidelity == FULL:
            self._again += job.seed != self._config.seed
            self._begun[job.individual.id] = self._begun.get(job.individual.id, 0) + 1

    def learned(
        self, job: Job, evaluation: Evaluation, base: Mapping[str, float] = NOTHING
    ) -> Individual:
        """Add an evaluation; return the individual with losses averaged over its seeds so far.

        `base` has the measurements of the untouched base, if a constraint is relative to them.
        An individual below full fidelity is scored, but is no contender.
        """
        if job.fidelity < FULL:
            ok = [evaluation.measurements] if evaluation.status is Status.OK else []
            scored = score(self._config, job.individual, ok, base, parts=self._parts)
            return replace(scored, fidelity=job.fidelity)
        individual = replace(job.individual, fidelity=FULL)
        previous = self._means.get(individual.id)
        measured = self._measured.setdefault(individual.id, [])
        if evaluation.status is Status.OK:
            measured.append(evaluation.measurements)
            first = next(iter(self._config.objectives))
            sample = Sample.of(evaluation.details, first)
            self._samples.setdefault(individual.id, []).append(sample)
            self._noise.see(individual.id, [losses(self._config, one)[0] for one in measured])
        if previous is not None and not previous.failed:
            self._ranking.remove(_sort_key(previous))
        scored = score(self._config, individual, measured, base, parts=self._parts)
        self._means[individual.id] = scored
        if not scored.failed:
            insort(self._ranking, _sort_key(scored))
        return scored

    def winner(self) -> Individual | None:
        """The best individual with enough seeds; None if every evaluation failed."""
        return best(list(self._means.values()), seeds=self._wanted)


def _sort_key(individual: Individual) -> tuple[float, tuple[float, ...], int]:
    """Sort key of the ranking, the order of `selection.best`: violation, losses, id."""
    return (individual.violation, individual.losses or (), individual.id)


class Noise:
    """Spread of the first loss between the seeds of the same individual."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[float, int]] = {}  # summed squares and degrees of freedom

    def see(self, individual: int, values: Sequence[float]) -> None:
        """Set the losses of an individual, by seed (all of them so far)."""
        if len(values) > 1:
            freedom = len(values) - 1
            self._of[individual] = (freedom * variance(values), freedom)

    @property
    def known(self) -> bool:
        """True once an individual was evaluated under two seeds."""
        return bool(self._of)

    @property
    def deviation(self) -> float:
        """Pooled standard deviation, sqrt(sum of squares / degrees of freedom); 0 if unknown."""
        freedom = sum(count for _, count in self._of.values())
        return math.sqrt(sum(squares for squares, _ in self._of.values()) / max(1, freedom))


def score(
    config: SearchConfig,
    individual: Individual,
    measured: Sequence[Mapping[str, float]],
    base: Mapping[str, float] = NOTHING,
    *,
    parts: Parts | None = None,
) -> Individual:
    """The individual with losses (lower is better) and violation by the means of `measured`.

    Both are infinite if nothing was measured, since every seed failed. With `parts`, the values of
    these too.
    """
    if not measured:
        nothing = (float("inf"),) * len(config.objectives)
        return replace(individual, losses=nothing, violation=float("inf"))
    mean = means(measured)
    return replace(
        individual,
        losses=losses(config, mean),
        violation=violation(config, mean, base),
        seeds=len(measured),
        parts=() if parts is None else parts.of(mean, base),
    )


def means(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each measurement over several evaluations, at least one."""
    return {name: fmean(one[name] for one in measured) for name in measured[0]}
