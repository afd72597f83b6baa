"""Optuna's samplers as strategies: Akiba et al. 2019, Optuna, a next-generation framework.

A sampler gets a study of the individuals told: the genomes as evaluated, anchors included, not as
proposed. Mixtures enter as roots of shares, one number a source; other genes as Optuna's own
distributions. Every sampler has Optuna's defaults, except the population size of `nsga2` and
`nsga3`, which is the search's. As in Optuna, failed trials are ignored, genes with `when` are
sampled independently, and `cmaes`, `qmc` and `random` ignore constraints.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from population.genes import Choice, Int, Simplex, Value
from population.individual import Individual
from population.space import AnyGene, Genome, SearchSpace
from population.strategies.taken import Taken

if TYPE_CHECKING:  # importing optuna takes a second, so that it is left to the first ask or tell
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SAMPLERS = {
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsga2": "NSGAIISampler",
    "nsga3": "NSGAIIISampler",
    "qmc": "QMCSampler",
    "random": "RandomSampler",
}
POPULATED = ("nsga2", "nsga3")
# Samplers that learn from a trial only if they noted its generation when it was proposed.
NOTING = ("cmaes", *POPULATED)
ATTEMPTS = 3  # proposals before a duplicate gives way to a fresh draw


class Optuna:
    """The base of one class per sampler (`using`); the first slots hold the anchors."""

    breeds: ClassVar[bool] = False
    planned: ClassVar[bool] = False
    sampler: ClassVar[str]

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        budget: int,
        anchors: Sequence[tuple[str, Genome]] = (),
    ) -> None:
        self._space = space
        self._population = population
        self._taken = Taken(space, anchors)
        self._trials: dict[int, FrozenTrial] = {}  # by individual, in the order of telling
        self._generations: dict[str, Any] = {}  # the parents that NSGA-II and III chose for each
        self._objectives = 1  # until the first scored individual
        self._constrained = False

    @classmethod
    def minimum_population(cls, *, objectives: int, anchors: int) -> int:
        """Two parents, if it has any. Raises ValueError for CMA-ES with several objectives."""
        if cls.sampler == "cmaes" and objectives > 1:
            raise ValueError(
                f"optuna:cmaes knows one objective, this search has {objectives};"
                " use optuna:nsga2 or optuna:tpe"
            )
        return 2 if cls.sampler in POPULATED else 1

    def ask(self, slot: int, rng: np.random.Generator) -> Individual:
        if anchor := self._taken.anchor(slot):
            return anchor
        for _ in range(ATTEMPTS):
            with quiet():
                genome = self._propose(slot, int(rng.integers(2**31)))
            if genome not in self._taken:
                return Individual(slot, genome, operator=self.sampler)
        return self._taken.drawn(slot, rng)

    def possible_parents(self) -> frozenset[int]:
        """Empty: individuals have no parents here."""
        return frozenset()

    def tell(self, individual: Individual) -> None:
        self._taken.add(individual.genome)
        if individual.losses is not None:
            self._objectives = len(individual.losses)
        known = self._trials.get(individual.id)
        with quiet():
            notes = dict(known.system_attrs) if known else self._notes()
            number = known.number if known else len(self._trials)
            self._trials[individual.id] = self._trial(number, individual, notes)
            if not self._constrained and 0 < individual.violation < np.inf:
                # Optuna takes constraints to be there for all trials or for none.
                self._constrained = True
                for trial in self._trials.values():
                    _constrain(trial, trial.user_attrs["violation"])

    def _propose(self, slot: int, seed: int) -> Genome:
        """The sampler's suggestion; notes that it makes are discarded: `ask` has no effect."""
        distributions = _distributions(self._space)
        sampler, study, trial = self._make(seed), self._study(), self._new_trial()
        if self.sampler == "qmc":
            # Its place in the sequence is the slot, not the number of calls of `ask`.
            sampler._find_sample_id = lambda *_: slot  # type: ignore[attr-defined]
            relative = sampler.sample_relative(study, trial, distributions)
        else:
            relative = sampler.sample_relative(study, trial, self._relative(sampler, study, trial))

        def value_of(name: str, gene: AnyGene) -> Value:
            values = []
            for parameter in _parameters(name, gene):
                distribution = distributions[parameter]
                if parameter in relative:
                    values.append(relative[parameter])
                elif distribution.single():
                    values.append(distribution.to_external_repr(0))
                else:
                    value = sampler.sample_independent(study, trial, parameter, distribution)
                    values.append(value)
            return gene.decode(values) if isinstance(gene, Simplex) else gene.repair(values[0])

        return self._space.assemble(value_of)

    def _relative(self, sampler: "BaseSampler", study: Any, trial: Any) -> dict[str, Any]:
        """The parameters sampled jointly: never a gene with `when`, so that the set never changes.

        CMA-ES, once started on other parameters, would fall back to random draws permanently.
        """
        steady = {
            parameter
            for name, gene in self._space.genes.items()
            if not gene.when
            for parameter in _parameters(name, gene)
        }
        inferred = sampler.infer_relative_search_space(study, trial)
        return {name: inferred[name] for name in sorted(inferred) if name in steady}

    def _notes(self) -> dict[str, Any]:
        """Notes that the sampler would make on a trial proposed now, such as its generation."""
        if self.sampler not in NOTING:
            return {}
        sampler, study, trial = self._make(seed=0), self._study(), self._new_trial()
        sampler.sample_relative(study, trial, self._relative(sampler, study, trial))
        self._generations = study._storage.get_study_system_attrs(study._study_id)
        notes: dict[str, Any] = study._storage.notes
        return notes

    def _make(self, seed: int) -> "BaseSampler":
        from optuna import samplers

        options = {"population_size": self._population} if self.sampler in POPULATED else {}
        made: BaseSampler = getattr(samplers, SAMPLERS[self.sampler])(seed=seed, **options)
        return made

    def _study(self) -> Any:
        from optuna import Study

        trials = list(self._trials.values())
        storage = _storage_class()(trials, self._generations, self._objectives)
        return Study("told", storage)

    def _new_trial(self) -> "FrozenTrial":
        return _frozen(len(self._trials), "RUNNING")

    def _trial(self, number: int, individual: Individual, notes: dict[str, Any]) -> "FrozenTrial":
        """A pending individual is a running trial, a failed one a failed trial."""
        state, values = "RUNNING", None
        if individual.losses is not None:
            state, values = ("FAIL", None) if individual.failed else ("COMPLETE", individual.losses)
        notes = {key: value for key, value in notes.items() if not key.startswith("constraints")}
        parameters = _encode(individual.genome, self._space)
        trial = _frozen(number, state, values, parameters, _distributions(self._space), notes)
        trial.set_user_attr("violation", individual.violation)
        if self._constrained:
            _constrain(trial, individual.violation)
        return trial


def using(sampler: str) -> type[Optuna]:
    """The strategy that uses the sampler of this name in `SAMPLERS`."""
    return type(f"Optuna_{sampler}", (Optuna,), {"sampler": sampler})


def _parameters(name: str, gene: AnyGene) -> list[str]:
    if not isinstance(gene, Simplex):
        return [name]
    return [f"{name}[{source}]" for source in gene.over]


def _distributions(space: SearchSpace) -> "dict[str, BaseDistribution]":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for name, gene in space.genes.items():
        if isinstance(gene, Simplex):
            parameters = _parameters(name, gene)
            found |= {parameter: FloatDistribution(0.0, 1.0) for parameter in parameters}
        elif isinstance(gene, Choice):
            found[name] = CategoricalDistribution(gene.options)
        elif isinstance(gene, Int):
            found[name] = IntDistribution(gene.low, gene.high, log=gene.log)
        else:
            found[name] = FloatDistribution(gene.low, gene.high, log=gene.log)
    return found


def _encode(genome: Genome, space: SearchSpace) -> dict[str, object]:
    """Values of the active parameters, within their distributions."""
    values: dict[str, Any] = {}
    for name, value in space.repair(genome).items():
        gene = space.genes[name]
        numbers = gene.encode(value) if isinstance(gene, Simplex) else [value]
        values |= zip(_parameters(name, gene), numbers, strict=True)
    return values


def _frozen(
    number: int,
    state: str,
    values: Sequence[float] | None = None,
    parameters: Mapping[str, Any] | None = None,
    distributions: "Mapping[str, BaseDistribution] | None" = None,
    notes: dict[str, Any] | None = None,
) -> "FrozenTrial":
    from optuna.trial import FrozenTrial, TrialState

    parameters = dict(parameters or {})
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState[state],
        value=None,
        values=values,
        datetime_start=None,
        datetime_complete=None,
        params=parameters,
        distributions={name: (distributions or {})[name] for name in parameters},
        user_attrs={},
        system_attrs=notes or {},
        intermediate_values={},
    )


def _constrain(trial: "FrozenTrial", violation: float) -> None:
    if np.isfinite(violation):
        trial.set_constraint("violation", violation)


@cache
def _storage_class() -> Any:
    from optuna.storages import InMemoryStorage
    from optuna.study import StudyDirection

    class Storage(InMemoryStorage):
        """One study of the given trials; `notes` holds the sampler's notes on the new trial."""

        def __init__(self, trials: Any, generations: dict[str, Any], objectives: int) -> None:
            super().__init__()
            self._told = trials
            self.notes: dict[str, Any] = {}
            study = self.create_new_study([StudyDirection.MINIMIZE] * objectives, "told")
            for key, parents in generations.items():
                self.set_study_system_attr(study, key, parents)

        def get_all_trials(self, study_id: Any, deepcopy: Any = True, states: Any = None) -> Any:
            return [trial for trial in self._told if states is None or trial.state in states]

        def set_trial_system_attr(self, trial_id: Any, key: Any, value: Any) -> None:
            self.notes[key] = value

    return Storage


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log messages and warnings, such as those on experimental features."""
    from optuna import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
