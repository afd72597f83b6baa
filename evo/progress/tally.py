"""Counts of a search while it runs, from its facts: done, best, baselines, failures, pace."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from evo.cluster.activity import Doing
from evo.config import Constraint, SearchConfig, constraints, feasible, losses, warm_starts
from evo.planning import spending
from evo.planning.lineages import from_fact, portion
from evo.record.facts import Evaluated, Fact, details
from evo.search.replicates import score
from population import selection
from population.front import joined
from population.individual import ANCHOR, EXPERT, Individual

BASE = "base"
MOST = 0.9  # share of its expected time that a running evaluation is taken to have spent, at most


@dataclass(slots=True)
class Pace:
    """Seconds that workers took, and the units of work done in them."""

    seconds: float = 0.0
    units: float = 0.0

    def add(self, seconds: float, units: float) -> None:
        self.seconds += seconds
        self.units += units

    def per_unit(self, otherwise: float) -> float:
        return self.seconds / self.units if self.units else otherwise


@dataclass
class Tally:
    """Running totals of a search; takes its facts in the order of the ledger."""

    config: SearchConfig
    spent: float = 0.0  # in full fine-tunes
    compared: int = 0  # evaluations on the test split
    lost: int = 0
    names: dict[int, str] = field(default_factory=dict)  # of baselines
    experts: dict[int, str] = field(default_factory=dict)  # by name, `expert: law`
    baselines: dict[str, Mapping[str, float]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    winner: int | None = None
    worked: float = 0.0  # seconds of evaluations, by all workers together

    def __post_init__(self) -> None:
        self.front = np.empty((0, len(self.config.objectives)))  # losses, (members, objectives)
        self._portions: dict[int, float] = {}  # of the budget, by individual
        self._measured: dict[int, list[Mapping[str, float]]] = {}  # by individual
        self._scored: dict[int, Individual] = {}
        self._controls = 0
        self._last: tuple[str | None, float] = ("", 0.0)  # worker and start of the last evaluation
        self._search, self._test, self._base = Pace(), Pace(), Pace()
        self._tested: Counter[bool] = Counter()  # on the test split, by whether it was trained

    def take(self, fact: Fact) -> None:
        """Take in one fact."""
        if fact["fact"] == "individual":
            self._portions[fact["id"]] = portion(self.config, from_fact(fact))
            if fact["operator"].startswith(EXPERT):
                self.experts[fact["id"]] = fact["operator"]
            elif fact["operator"].startswith(ANCHOR):
                self.names[fact["id"]] = fact["operator"].removeprefix(ANCHOR)
        elif fact["fact"] == "lost":
            self.lost += 1
        elif fact["fact"] == "simulation":
            self.worked += fact["finished"] - fact["started"]
        elif fact["fact"] == "winner":
            self.winner = fact["individual"]
        elif fact["fact"] == "control":
            self._controls += 1
        elif fact["fact"] == "evaluation":
            self._evaluated(fact)

    def _evaluated(self, fact: Evaluated) -> None:
        copied = bool(details(fact).keys() & {"same_as", "recalled"})
        seconds = 0.0
        began = (fact.get("worker"), fact["started"])
        if not copied and began != self._last:  # else of one bucket
            self._last = began
            seconds = fact["finished"] - fact["started"]
        self.worked += seconds
        if fact["split"] == "samples":
            return
        if fact["split"] == "test":
            self.compared += 1
            self._tested[fact["fidelity"] > 0] += 1
            (self._test if fact["fidelity"] else self._base).add(seconds, not copied)
            return
        if fact["fidelity"] == 0:
            self._base.add(seconds, 1)
            self.baselines[BASE] = fact["measurements"]
            for individual, measured in self._measured.items():  # limits may be relative to base
                for measurements in measured:
                    self._compare(individual, measurements)
            return
        share = self.share(fact["individual"], fact["seed"], fact["fidelity"], fact["split"])
        self.spent += share
        if not copied:
            self._search.add(seconds, share)
        if fact["fidelity"] < 1:  # paused at a rung: it does not compete with the others yet
            return
        if fact["status"] != "ok":
            self.failures[fact["status"]] += 1
            return
        self._learned(fact["individual"], fact["measurements"])

    def share(self, individual: int, seed: int, fidelity: float, split: str) -> float:
        """Share of a full fine-tune that an evaluation takes of the budget."""
        portion = self._portions.get(individual, 1.0)
        return spending.share(self.config, portion, seed, fidelity, split)

    def _learned(self, individual: int, measurements: Mapping[str, float]) -> None:
        measured = self._measured.setdefault(individual, [])
        measured.append(measurements)
        if (name := self.names.get(individual)) is not None:
            self.baselines[name] = self.means(individual)
        self._compare(individual, measurements)

    def _compare(self, individual: int, measurements: Mapping[str, float]) -> None:
        """Score an individual and update the front with its measurements."""
        base, measured = self.baselines.get(BASE, {}), self._measured[individual]
        self._scored[individual] = score(self.config, Individual(individual, {}), measured, base)
        if feasible(self.config, measurements, base):
            self.front = joined(self.front, np.array(losses(self.config, measurements)))

    def limits(self) -> tuple[Constraint, ...]:
        """The constraints, with limits relative to the base where that is measured."""
        return constraints(self.config, self.baselines.get(BASE, {}))

    def means(self, individual: int) -> dict[str, float]:
        """Measurements of an individual on the selection split, averaged over its seeds."""
        measured = self._measured[individual]
        return {name: fmean(one[name] for one in measured) for name in measured[0]}

    @property
    def best(self) -> Individual | None:
        """Best individual so far, or the nearest to feasible if none meets the constraints.

        None if no individual has been evaluated at full fidelity.
        """
        return selection.best(list(self._scored.values()), seeds=self.config.search.replicates)

    def why_none(self) -> str:
        """Reason why there is no best individual yet; empty if there is one."""
        best = self.best
        if best is None:
            tried = self.failures.total()
            return (
                f"nothing counts as best yet: all {tried} evaluations so far have failed"
                if tried
                else "nothing counts as best yet: no individual has had its full budget"
            )
        if best.violation == 0:
            return ""
        means = self.means(best.id)
        broken = [limit for limit in self.limits() if limit.excess(means) > 0]
        limits = " and ".join(map(str, broken))
        values = " and ".join(f"{means[limit.name]:.4g}" for limit in broken)
        return (
            f"nothing counts as best yet: no individual meets {limits}; the nearest, individual "
            f"{best.id}, has {values}"
        )

    # Time left: (remaining evaluations * mean seconds per full fine-tune) / busy workers, for the
    # search and then for the comparison, whose evaluations score another split and so have a pace
    # of their own. A running evaluation is credited with the time it has run, at most MOST of its
    # expected duration, so that one that takes longer than expected never counts as finished.

    def seconds_left(
        self, now: float, running: Sequence[Doing], workers: int, lanes: float
    ) -> float | None:
        """Expected seconds to the end of the comparison; None before a fine-tune has finished.

        `lanes` are the workers that the search has kept busy on average.
        """
        if not self._search.units:
            return None
        unit = self._search.per_unit(0.0)
        test = self._test.per_unit(unit)
        base = self._base.per_unit(unit)
        search = max(0.0, self.config.budget.evaluations - self.spent) * unit
        trained, untrained = self._comparisons()
        jobs = max(0, trained - self._tested[True]), max(0, untrained - self._tested[False])
        compare = jobs[0] * test + jobs[1] * base
        longest = 0.0
        for doing in running:
            expected, in_test = 0.0, False
            for spec in doing.specs:
                share = self.share(spec.individual, spec.seed, spec.fidelity, spec.split)
                in_test = spec.split == "test"
                expected += base if spec.fidelity == 0 else test if in_test else unit * share
            behind = min(now - doing.since, MOST * expected)
            longest = max(longest, expected - behind)
            if in_test:
                compare -= behind
            elif any(spec.fidelity for spec in doing.specs):
                search -= behind
        wide = max(1, min(workers, sum(jobs)))
        left = max(0.0, search) / min(max(1.0, lanes), workers) + max(0.0, compare) / wide
        return max(left, longest)

    def _comparisons(self) -> tuple[int, int]:
        """Evaluations on the test split: of trained contenders, and of the untouched base."""
        contenders = len(self.names) + 1 + self._controls + warm_starts(self.config)
        if self.winner is not None and self.winner in self.names:
            contenders -= 1
        seeds = self.config.comparison.seeds
        return seeds * contenders, seeds
