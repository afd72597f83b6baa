"""Surrogate-assisted evolution: breed many offspring, evaluate the one predicted to be best.

Pre-selection by a surrogate (Jin 2011, Surrogate-assisted evolutionary computation, sec. 3.1), by
the expected improvement of Bayesian optimization.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from population import modelled
from population.composition import Composition, Limit, Term, plain, plain_parts
from population.guides import Guide, Guides
from population.individual import Individual
from population.modelled import Modelled, Outcomes, Target
from population.predictor import Predictor, Setting, estimate
from population.selection import Ranks, rank, survivors, tournament
from population.space import Genome, SearchSpace
from population.strategies.taken import Taken
from population.variation import Odds, breed

Array = npt.NDArray[np.float64]

INITIAL = 10  # slots that hold the anchors and a spread of draws, if the population is as large
INITIAL_OF_PARTS = 5  # as many where each loss is made of several parts, which are learned sooner
LEAST = 4  # scored individuals to learn anything from
OFFSPRING = 120  # candidates for a slot
STRENGTHS = (0.5, 1.0, 2.0)  # of their mutation
GUIDED = 0.3  # share of the candidates that are made of a guide's best records, if there is one
CONTENDERS = 5  # for each parent
ELITE = 250  # the best, of which offspring are bred
LATEST = 250  # whatever their scores; the surrogate is fitted to these and the elite


@dataclass(frozen=True)
class Parts:
    """Switches for the ablation (`tests/benchmarks/ablation.py`); the default has all parts."""

    process: bool = True  # the Gaussian process, else the trees alone
    trees: bool = True  # else the process alone
    members: bool = True  # a model for each part of a loss, else one of their sum
    trust: bool = True  # weights by cross-validation, else halves
    tempering: bool = True  # of bad outcomes, else standardised ones
    pending: bool = True  # pending evaluations count as done, with the predicted outcomes
    offspring: bool = True  # else all candidates are draws
    draws: float = 0.3  # share of the candidates drawn from the whole space
    unscreened: float = 0.05  # share of slots whose offspring is taken as bred

    @property
    def fixed_trust(self) -> float | None:
        """The trust in the process, where it is fixed; None where it is estimated."""
        if self.process and self.trees:
            return None if self.trust else 0.5
        return 1.0 if self.process else 0.0


class Surrogate:
    """Weighs constraints by the probability of meeting them; a failure counts as the worst outcome.

    Scores at lower fidelities help to predict full ones: fidelity is one more coordinate.
    """

    breeds: ClassVar[bool] = True
    planned: ClassVar[bool] = False
    bounded: ClassVar[bool] = False  # to a population of mates, see `bounded`

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        budget: int,
        anchors: Sequence[tuple[str, Genome]] = (),
        composition: Composition | None = None,
        parts: Parts | None = None,
    ) -> None:
        self._space = space
        self._parts = parts or Parts()
        self._composition = composition if self._parts.members else None
        sooner = self._composition is not None and self._composition.of_several
        initial = INITIAL_OF_PARTS if sooner else INITIAL
        self._initial = max(len(anchors), min(population, initial))
        self._most = min(population, ELITE) if self.bounded else ELITE
        self._taken = Taken(space, anchors)
        self._waiting: dict[int, Individual] = {}
        self._latest: dict[tuple[int, float], Individual] = {}
        self._elite: list[Individual] = []
        self._places: dict[int, Array] = {}  # encoded genomes of the latest and the elite
        self._told = 0
        self._checkpoint = self._previous = Checkpoint(0, [])
        self._settings: dict[tuple[int, Target], Setting] = {}  # by checkpoint and target
        self._fitted: _Fitted | None = None
        self._guides = Guides(space, self._table)

    @staticmethod
    def minimum_population(*, objectives: int, anchors: int) -> int:
        """One: there are no generations."""
        return 1

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        if anchor := self._taken.anchor(slot):
            return anchor
        mates = [one for one in self._elite if not one.failed]
        early = self._guides.starts if self._guides else slot < self._initial
        if early or self._told < LEAST or len(mates) < 2:
            anchor = self._taken.anchor(0)
            known = mates or ([anchor] if anchor else [])
            led = self._guides.start(slot, known, self._taken, rng)
            return led or self._taken.drawn(slot, rng)
        ranks = rank(mates)
        if rng.random() < self._parts.unscreened:
            child = self._child(slot, mates, ranks, rng)
            return self._taken.drawn(slot, rng) if child.genome in self._taken else child
        candidates = self._candidates(slot, mates, ranks, rng)
        if not candidates:
            return self._taken.drawn(slot, rng)
        return candidates[int(np.argmax(self._promise(candidates, rng)))]

    def guide(self, guide: Guide) -> None:
        """Learn from scores of another origin, from the next `ask` on."""
        self._guides.add(guide)
        self._fitted = None
        self._settings.clear()

    def possible_parents(self) -> frozenset[int]:
        return frozenset(one.id for one in self._elite if not one.failed)

    def tell(self, individual: Individual) -> None:
        self._taken.add(individual.genome)
        if individual.losses is None:
            self._waiting[individual.id] = individual
            return
        self._waiting.pop(individual.id, None)
        self._told += 1
        self._places[individual.id] = self._space.encode(individual.genome)
        record = individual.id, individual.fidelity
        self._latest.pop(record, None)
        self._latest[record] = individual
        if len(self._latest) > LATEST:
            del self._latest[next(iter(self._latest))]
        self._elite = [one for one in self._elite if one.id != individual.id] + [individual]
        if len(self._elite) > self._most:
            self._elite = survivors(self._elite, self._most)
        before = self._checkpoint.told
        if self._told >= max(LEAST, before + max(1, before // 8)):
            self._previous = self._checkpoint
            self._checkpoint = Checkpoint(self._told, self._known())
        if self._told % LATEST == 0:
            known = [*self._known(), *self._checkpoint.records, *self._previous.records]
            kept = {one.id for one in known}
            self._places = {id: place for id, place in self._places.items() if id in kept}
            self._guides.forget()

    def _known(self) -> list[Individual]:
        """The data of the surrogate, oldest first; an individual once per fidelity."""
        records = {(one.id, one.fidelity): one for one in self._elite} | self._latest
        return sorted(records.values(), key=lambda one: (one.id, one.fidelity))

    def _child(
        self, slot: int, mates: Sequence[Individual], ranks: Ranks, rng: np.random.Generator
    ) -> Individual:
        first, second = (tournament(mates, ranks, rng, size=CONTENDERS) for _ in range(2))
        parents = [first] if first.id == second.id else [first, second]
        genome, operator = breed(
            [one.genome for one in parents],
            self._space,
            rng,
            odds=Odds(),
            strength=float(rng.choice(STRENGTHS)),
        )
        return Individual(slot, genome, tuple(one.id for one in parents), operator)

    def _candidates(
        self, slot: int, mates: Sequence[Individual], ranks: Ranks, rng: np.random.Generator
    ) -> list[Individual]:
        draws = round(OFFSPRING * (self._parts.draws if self._parts.offspring else 1.0))
        bred = [self._taken.drawn(slot, rng) for _ in range(draws)]
        guided = round(OFFSPRING * GUIDED) if self._guides else 0
        bred += [self._child(slot, mates, ranks, rng) for _ in range(OFFSPRING - draws - guided)]
        for _ in range(guided):
            mate = tournament(mates, ranks, rng, size=CONTENDERS)
            bred.append(self._guides.child(slot, mate, rng, float(rng.choice(STRENGTHS))))
        return [one for one in bred if one.genome not in self._taken]

    def _promise(self, candidates: Sequence[Individual], rng: np.random.Generator) -> Array:
        """Log expected improvement of each candidate, (len(candidates),)."""
        fitted = self._fit()
        at = self._points([one.genome for one in candidates], fitted.models.models, fitted.violated)
        return fitted.models.promise(at, fitted.leading, rng)

    def _fit(self) -> "_Fitted":
        """The surrogate fitted to the individuals told; cached until there is another one."""
        version = self._told, tuple(self._waiting)
        if self._fitted is None or self._fitted.version != version:
            records = self._known()
            composition, known, violated = self._outcomes(records)
            models = {}
            for place, (target, one) in enumerate(known.items()):
                points, seeds = self._data(records, target, violated)
                setting = self._setting(target, place, len(known))
                models[target] = Predictor(points, one.modelled, seeds, setting)
            if self._waiting and self._parts.pending:
                pending = [one.genome for one in self._waiting.values()]
                at = self._points(pending, known, violated)
                models = {
                    target: model.with_pending(at[target]) for target, model in models.items()
                }
            fitted = Modelled(composition, models, known)
            self._fitted = _Fitted(version, fitted, leading(records), violated)
        return self._fitted

    def _setting(self, target: Target, place: int, count: int) -> Setting:
        """Settings of a target, as of the last checkpoint: estimates at every `ask` would be slow.

        Those of many members are estimated one after the other until the next checkpoint.
        """
        last, former = self._checkpoint, self._previous
        wait = place * (last.told // 8) // count if target.role == "member" else 0
        at = former if former.records and self._told < last.told + wait else last
        if (at.told, target) not in self._settings:
            _, known, violated = self._outcomes(at.records)
            points, seeds = self._data(at.records, target, violated)
            outcomes = known.get(target) or next(iter(known.values()))
            trust = 1.0 if target.role == "member" else self._parts.fixed_trust
            self._settings = {
                key: one
                for key, one in self._settings.items()
                if key[0] in (last.told, former.told)
            }
            setting = estimate(
                points, outcomes.modelled, seeds, trust=trust, guides=len(self._guides)
            )
            self._settings[at.told, target] = setting
        return self._settings[at.told, target]

    def _outcomes(
        self, records: Sequence[Individual]
    ) -> tuple[Composition, dict[Target, Outcomes], bool]:
        """Outcomes of the records to model; while none is feasible (True), the violation alone."""
        failed = np.array([one.failed for one in records])
        missed = failed | [one.violation > 0 for one in records]
        levels = np.array([one.fidelity for one in records])
        violated = bool(missed.all())
        composition = self._composition or plain(len(records[0].losses or ()))
        if violated:
            composition = Composition((Term({0: 1.0}),))
        elif not missed.any():
            composition = replace(composition, limits=())
        elif failed.any() and self._composition is not None:
            failures = Limit(Term({composition.size: 1.0}), 0.5)  # the last part: 1 if it failed
            composition = replace(composition, limits=(*composition.limits, failures))
        table = self._table(records, violated)
        known = {
            target: modelled.outcomes(target, table, levels, temper=self._parts.tempering)
            for target in modelled.targets_of(composition)
        }
        return composition, known, violated

    def _table(self, records: Sequence[Individual], violated: bool) -> Array:
        """Parts (n, parts) of the records; their violation alone, if none evaluated is feasible."""
        parts: list[tuple[float, ...]]
        if violated:
            parts = [(one.violation,) for one in records]
        elif self._composition is None:
            parts = [plain_parts(one.losses or (), one.violation) for one in records]
        else:
            nothing = (float("nan"),) * self._composition.size
            parts = [(*(nothing if one.failed else one.parts), one.failed) for one in records]
        return np.array(parts, dtype=np.float64)

    def _data(
        self, records: Sequence[Individual], target: Target, violated: bool
    ) -> tuple[Array, Array]:
        """Coordinates of the records, as a target is modelled in, and their numbers of seeds."""
        places = np.array([[*self._places[one.id], one.fidelity] for one in records])
        seeds = np.array([one.seeds for one in records], dtype=np.float64)
        return np.hstack([places, self._guides.hints_of(target, violated, records)]), seeds

    def _points(
        self, genomes: Sequence[Genome], targets: Iterable[Target], violated: bool
    ) -> dict[Target, Array]:
        """Coordinates of genomes at full fidelity, as each target is modelled in."""
        places = np.array([[*self._space.encode(genome), 1.0] for genome in genomes])
        if not self._guides:
            return dict.fromkeys(targets, places)
        guided = self._guides.places(genomes)
        return {
            target: np.hstack([places, self._guides.hints(target, violated, guided)])
            for target in targets
        }


def bounded() -> type[Surrogate]:
    """The surrogate that breeds from the best `population` alone, as evolution does.

    For children that start from their parents' weights: only so many checkpoints have to be stored.
    """
    return type("Bounded", (Surrogate,), {"bounded": True})


@dataclass(frozen=True)
class Checkpoint:
    """The records by which settings are estimated, when so many individuals were told."""

    told: int
    records: list[Individual]


@dataclass(frozen=True)
class _Fitted:
    version: tuple[int, tuple[int, ...]]  # number of individuals told, ids of pending ones
    models: Modelled
    leading: list[int]  # indices of the records to improve on
    violated: bool  # every evaluation violates the constraints: the violation is modelled


def leading(records: Sequence[Individual]) -> list[int]:
    """Indices of the records to improve on: at the highest fidelity, the feasible ones if any."""
    highest = max(one.fidelity for one in records)
    full = [i for i, one in enumerate(records) if one.fidelity == highest and not one.failed]
    full = full or [i for i, one in enumerate(records) if not one.failed]
    feasible = [i for i in full if records[i].violation == 0]
    return feasible or full
