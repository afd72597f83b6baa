"""Fidelities below the full one: where an individual begins, and which slots take one further.

A promotion is a slot like any other: it goes on with the individual's own training from where the
rung below has paused. Who is worth one says `population.rungs`, from what was learned by then.
"""

from evo.config import SearchConfig
from evo.planning.lineages import portion
from evo.record.artifacts import Artifacts
from evo.search.evaluations import Job, continued_from
from evo.search.replicates import FULL
from population.individual import Individual
from population.rungs import SHARE, hopeless, promote, within_reach

EVERY = 10  # newcomers of a rung, after which it is looked through for states that nobody needs


def ladder(config: SearchConfig) -> tuple[float, ...]:
    """The fidelities of a search, lowest first; the last is the full one."""
    return (*config.search.rungs, FULL)


def share(config: SearchConfig, job: Job) -> float:
    """What a job takes of the budget, in full fine-tunes."""
    begin = continued_from(config, job.seed, job.fidelity, job.split)
    return (job.fidelity - begin) * portion(config, job.individual)


class Rungs:
    """Who stands on which rung, and whose training is to go on."""

    def __init__(self, config: SearchConfig, artifacts: Artifacts) -> None:
        self._config = config
        self._artifacts = artifacts
        self._ladder = ladder(config)
        self._share = SHARE if config.search.promotion == "halving" else FULL
        self._told: dict[float, dict[int, Individual]] = {rung: {} for rung in self._ladder}
        self._left: set[tuple[int, float]] = set()
        self._paused: set[int] = set()  # individuals with a training state on disk
        self._spent = 0.0

    def due(self) -> Job | None:
        """Whose training goes on; None where a new individual may be bred."""
        worth = promote(self._by_rung(), self._ladder, self._left, share=self._share)
        if worth is None:
            return None
        above = self._ladder[self._ladder.index(worth.fidelity) + 1]
        return Job(worth, self._config.seed, above)

    def begun(self, job: Job) -> None:
        """An evaluation was begun; one that goes on has left the rung below."""
        self._spent += share(self._config, job)
        place = self._ladder.index(job.fidelity)
        if place and job.seed == self._config.seed:
            self._left.add((job.individual.id, self._ladder[place - 1]))

    def learned(self, scored: Individual) -> None:
        """Take in a score; drop the hopeless, and the training states that nobody will need."""
        self._told[scored.fidelity][scored.id] = scored
        if scored.fidelity == FULL or scored.failed:
            self._drop(scored.id)
            return
        self._paused.add(scored.id)
        if self._config.search.promotion == "halving":
            if len(self._told[scored.fidelity]) % EVERY == 0:
                self._tidy(scored.fidelity)
        elif hopeless(scored, self._by_rung(), self._ladder):
            self._left.add((scored.id, scored.fidelity))
            self._drop(scored.id)

    def close(self) -> None:
        """After the last slot nobody goes on."""
        for individual in sorted(self._paused):
            self._drop(individual)

    def _by_rung(self) -> dict[float, list[Individual]]:
        return {rung: list(told.values()) for rung, told in self._told.items()}

    def _tidy(self, rung: float) -> None:
        """Delete the states of those on a rung whom no newcomers can bring within reach again."""
        here = self._told[rung]
        ahead = (self._config.budget.evaluations - self._spent) / self._ladder[0]
        reach = within_reach(list(here.values()), len(here) + int(ahead) + 1, share=self._share)
        for individual in here.keys() - reach:
            if (individual, rung) not in self._left:
                self._drop(individual)

    def _drop(self, individual: int) -> None:
        self._paused.discard(individual)
        self._artifacts.delete_state(individual)
