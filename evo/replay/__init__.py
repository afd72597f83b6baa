"""Simulation of a search on a table of finished runs, to compare how soon strategies find the best.

Strategies are driven as in a real search (`evo.search.loop`), by the same steps and with the same
randomness. Instead of a fine-tune, the nearest row not yet taken answers a proposal, and the
strategy gets that row's genome with that row's losses: the run that was actually made. If it got
the losses under the genome that it proposed, it would learn from points that were never measured.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evo.config.composition import parts_of
from evo.config.search import Search
from evo.planning.schedule import Breed, Step, generational
from evo.replay.table import Array, Table, read_table
from fitness.errors import InputError
from population.individual import Individual
from population.selection import front, hypervolume
from population.strategies import check, make

__all__ = [
    "Outcome",
    "Scale",
    "Table",
    "by_chance",
    "check_search",
    "read_table",
    "replay",
    "to_json",
]

POPULATION: int = Search.model_fields["population"].default


@dataclass(frozen=True)
class Outcome:
    """One search on a table. Lists have an entry per evaluation and hold for all so far.

    `best` is of the first objective, in its unit. `regret` is (found - best) / (median - best) of
    that objective's loss: 0 is the best row, 1 the median row. `hypervolume` is of several
    objectives (empty for one), as a share of what all rows together have; see `Scale`.
    """

    seed: int
    rows: list[int]  # the answers, in order
    best: list[float]
    regret: list[float]
    hypervolume: list[float]
    ask_seconds: float  # all asks of the search together
    tell_seconds: float


@dataclass(frozen=True)
class Scale:
    """Losses of a table made comparable: 0 is the best row's, 1 the reference point's.

    The reference point of the hypervolume is, by objective, the worse of the median row and the
    worst of the front, and a tenth of its distance from the best further away, so that the ends
    of the front count. It follows from the table alone, so that every strategy has the same.
    """

    ideal: Array  # (objectives,)
    reference: Array  # (objectives,)

    @classmethod
    def of(cls, losses: Array) -> "Scale":
        ideal = losses.min(axis=0)
        rows = [Individual(row, {}, losses=tuple(one)) for row, one in enumerate(losses.tolist())]
        nadir = losses[[row.id for row in front(rows)]].max(axis=0)
        reach = np.maximum(nadir, np.median(losses, axis=0)) - ideal
        reach = np.where(reach > 0, reach, losses.max(axis=0) - ideal)
        return cls(ideal, ideal + 1.1 * reach)

    def __call__(self, losses: Array) -> Array:
        return (losses - self.ideal) / (self.reference - self.ideal)


def check_search(table: Table, strategy: str, *, budget: int, population: int = POPULATION) -> None:
    """Raise InputError if the search cannot be simulated on the table."""
    rows = len(table.genomes)
    if budget > rows:
        raise InputError(
            f"budget {budget} is above the {rows} rows of {table.name} that can be used; "
            f"lower it to at most {rows}"
        )
    for name, number in (("budget", budget), ("population", population)):
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}")
    try:
        check(strategy, population=population, objectives=len(table.objectives), anchors=0)
    except ValueError as error:
        raise InputError(str(error)) from None


def replay(
    table: Table,
    strategy: str,
    *,
    budget: int,
    seed: int,
    population: int = POPULATION,
    parallel: int = 1,
    steps: Iterable[Step] | None = None,
) -> Outcome:
    """Search the table; `parallel` proposals at a time are answered together.

    With `steps`, in their order instead; they must fill `budget` slots. Raises InputError as
    `check_search` does.
    """
    check_search(table, strategy, budget=budget, population=population)
    parts = parts_of(zip(table.composed, table.objectives, strict=True))
    breeder = make(
        strategy,
        table.space,
        population=population,
        budget=budget,
        composition=parts.composition,
    )
    answers = Answers(table, seed)
    bred: dict[int, tuple[Individual, int]] = {}
    taken: list[int] = []
    ask_seconds = tell_seconds = 0.0
    for step in generational(budget, parallel) if steps is None else steps:
        begun = time.perf_counter()
        if isinstance(step, Breed):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(step.slot,)))
            proposal = breeder.ask(step.slot, rng)
            ask_seconds += time.perf_counter() - begun
            row = answers.take(proposal)
            individual = replace(proposal, genome=table.genomes[row])
            bred[step.slot] = individual, row
            begun = time.perf_counter()
            breeder.tell(individual)  # not scored yet: pending, as in a real search
        else:
            individual, row = bred.pop(step.slot)
            taken.append(row)
            measured = dict(zip(table.columns, table.measured[row].tolist(), strict=True))
            losses = tuple(table.losses[row].tolist())
            breeder.tell(replace(individual, losses=losses, parts=parts.of(measured)))
        tell_seconds += time.perf_counter() - begun
    return _outcome(table, seed, taken, ask_seconds, tell_seconds)


class Answers:
    """Gives each proposal the nearest row not yet taken."""

    def __init__(self, table: Table, seed: int) -> None:
        # A random order of the rows, by the seed, decides among equally near ones: the order of
        # the file may be related to the outcome.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0)))
        self._order = rng.permutation(len(table.genomes))
        self._table = table
        self._places = table.places[self._order]
        self._free = np.ones(len(self._order), dtype=bool)

    def take(self, proposal: Individual) -> int:
        """The row that answers; it will not answer again."""
        away = ((self._places - self._table.place(proposal.genome)) ** 2).sum(axis=1)
        nearest = int(np.argmin(np.where(self._free, away, np.inf)))
        self._free[nearest] = False
        return int(self._order[nearest])


def _outcome(
    table: Table, seed: int, taken: list[int], ask_seconds: float, tell_seconds: float
) -> Outcome:
    return Outcome(
        seed=seed,
        rows=taken,
        best=(table.objectives[0].sign * np.minimum.accumulate(table.losses[taken, 0])).tolist(),
        regret=np.minimum.accumulate(_regrets(table)[taken]).tolist(),
        hypervolume=_hypervolumes(table.losses, taken) if len(table.objectives) > 1 else [],
        ask_seconds=ask_seconds,
        tell_seconds=tell_seconds,
    )


def _regrets(table: Table) -> Array:
    """Regrets of the first objective, (rows,): 0 is the best row, 1 the median row."""
    first = table.losses[:, 0]
    return np.asarray((first - first.min()) / (np.median(first) - first.min()))


def _hypervolumes(losses: Array, taken: list[int]) -> list[float]:
    """Hypervolume after each evaluation, as a share of that of all rows together."""
    scaled = Scale.of(losses)(losses)
    reference = np.ones(losses.shape[1])
    whole = hypervolume(scaled, reference)
    return [hypervolume(scaled[taken[:n]], reference) / whole for n in range(1, len(taken) + 1)]


def by_chance(table: Table, budget: int) -> list[float]:
    """Expected regret after each evaluation if rows were drawn blindly, without replacement."""
    regret = np.sort(_regrets(table))
    rows = np.arange(len(regret))
    expected = []
    for drawn in range(1, budget + 1):
        # The best row is drawn with odds drawn / rows; if it is not, the same holds for the next.
        missed = np.clip((len(rows) - rows - drawn) / (len(rows) - rows), 0.0, 1.0)
        reached = np.concatenate(([1.0], np.cumprod(missed)[:-1]))
        expected.append(float((reached * (1 - missed)) @ regret))
    return expected


def to_json(table: Table, strategy: str, budget: int, outcomes: list[Outcome]) -> dict[str, Any]:
    """Result for `evo replay --json`; median and mean are of the final regret, over the seeds."""
    final = [outcome.regret[-1] for outcome in outcomes]
    keys = ("seed", "best", "regret", "hypervolume", "ask_seconds", "tell_seconds")
    return {
        "strategy": strategy,
        "budget": budget,
        "rows": len(table.genomes),
        "seeds": [{key: getattr(outcome, key) for key in keys} for outcome in outcomes],
        "median_regret": float(np.median(final)),
        "mean_regret": float(np.mean(final)),
    }
