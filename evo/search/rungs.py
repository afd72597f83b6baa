"""Training in stages (rungs): how far an individual is trained first, and its promotions.

A promotion takes a slot of the schedule like any other evaluation: it resumes the individual's
training where it paused at the rung below. `population.rungs` decides which one is promoted, from
the results so far.
"""

from evo.config import SearchConfig
from evo.config.genomes import train_shares
from evo.planning import spending
from evo.planning.lineages import portion
from evo.record.artifacts import Artifacts
from evo.search.jobs import Job
from evo.search.replicates import FULL
from population.individual import Individual
from population.rungs import SHARE, hopeless, promote, within_reach

EVERY = 10  # results of a rung between two clean-ups of its training states


def ladder(config: SearchConfig) -> tuple[float, ...]:
    """The fidelities of a search, lowest first; the last is the full one."""
    return (*config.search.rungs, FULL)


def share(config: SearchConfig, job: Job) -> float:
    """Cost of a job to the budget, in full fine-tunes."""
    whole = portion(config, job.individual)
    return spending.share(config, whole, job.seed, job.fidelity, job.split)


class Rungs:
    """Results by rung, training states on disk, and the promotions that follow."""

    def __init__(self, config: SearchConfig, artifacts: Artifacts) -> None:
        self._config = config
        self._artifacts = artifacts
        self._ladder = ladder(config)
        self._share = SHARE if config.search.promotion == "halving" else FULL
        self._scored: dict[float, dict[int, Individual]] = {rung: {} for rung in self._ladder}
        self._left: set[tuple[int, float]] = set()  # (individual, rung): promoted or stopped
        self._paused: set[int] = set()  # individuals with a training state on disk
        self._spent = 0.0

    def due(self) -> Job | None:
        """Job of the individual to promote; None where a new individual may be bred."""
        promoted = promote(self._by_rung(), self._ladder, self._left, share=self._share)
        if promoted is None:
            return None
        above = self._ladder[self._ladder.index(promoted.fidelity) + 1]
        return Job(promoted, self._config.seed, above)

    def begun(self, job: Job) -> None:
        """Count an evaluation that was started; a promoted individual leaves the rung below."""
        self._spent += share(self._config, job)
        if job.fidelity not in self._ladder:  # an expert, which is never promoted
            return
        place = self._ladder.index(job.fidelity)
        if place and job.seed == self._config.seed:
            self._left.add((job.individual.id, self._ladder[place - 1]))

    def learned(self, scored: Individual) -> None:
        """Add a score; stop a hopeless individual, and delete training states no longer needed."""
        self._scored[scored.fidelity][scored.id] = scored
        if scored.fidelity == FULL or scored.failed:
            self._drop(scored.id)
            return
        self._paused.add(scored.id)
        if self._config.search.promotion == "halving":
            if len(self._scored[scored.fidelity]) % EVERY == 0:
                self._tidy(scored.fidelity)
        elif hopeless(scored, self._by_rung(), self._ladder):
            self._left.add((scored.id, scored.fidelity))
            self._drop(scored.id)

    def close(self) -> None:
        """Delete all training states, after the last slot."""
        for individual in sorted(self._paused):
            self._drop(individual)

    def _by_rung(self) -> dict[float, list[Individual]]:
        return {rung: list(scored.values()) for rung, scored in self._scored.items()}

    def _tidy(self, rung: float) -> None:
        """Delete states that cannot be promoted, whatever the results of the rung yet to come."""
        here = self._scored[rung]
        least = self._ladder[0] * train_shares(self._config)[0]
        ahead = (self._config.budget.evaluations - self._spent) / least
        reach = within_reach(list(here.values()), len(here) + int(ahead) + 1, share=self._share)
        for individual in here.keys() - reach:
            if (individual, rung) not in self._left:
                self._drop(individual)

    def _drop(self, individual: int) -> None:
        self._paused.discard(individual)
        self._artifacts.delete_state(individual)
