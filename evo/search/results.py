"""Results of a search: evaluations that are done, recorded in the ledger, shared by equal genomes.

Nothing is evaluated twice: an evaluation in the ledger is taken from there, and equal genomes with
equal seed, fidelity and split share one evaluation.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evo.cluster.queue import Lost
from evo.config import SearchConfig, space
from evo.record.ledger import Fact, Ledger
from evo.search.jobs import Key, key_of
from fitness.evaluation import Evaluation, EvaluationSpec, Simulation, Status

SHARED = ("cumulative_tokens", "inherited_from", "items")  # details copied to an equal genome


class Results:
    """Evaluations by key, and the specs that wait for the evaluation of an equal genome.

    `new` is a queue of the keys of all evaluations, in the order of the ledger, to be taken from.
    """

    def __init__(self, config: SearchConfig, ledger: Ledger) -> None:
        self._ledger = ledger
        self._genome_key = space(config).key
        self._done: dict[Key, Evaluation] = {}
        self._first: dict[tuple[Any, ...], EvaluationSpec] = {}  # first request of equal ones
        self._waiting: dict[Key, list[EvaluationSpec]] = {}  # by the key of the first of equal ones
        self.new: deque[Key] = deque()
        for fact in ledger.facts:
            if fact["fact"] == "evaluation":
                self._add(from_fact(fact))
            elif fact["fact"] == "simulation":
                self._add(from_simulation(fact))

    def __contains__(self, key: Key) -> bool:
        return key in self._done

    def __getitem__(self, key: Key) -> Evaluation:
        return self._done[key]

    def shares(self, spec: EvaluationSpec, genome: Mapping[str, Any]) -> bool:
        """True if another request answers `spec`: an equal genome's, or an earlier one of its own.

        If that one has a result, it is recorded as that of `spec` too; else once it has one.
        """
        alike = (spec.parents, spec.seed, spec.fidelity, spec.split)
        first = self._first.setdefault((self._genome_key(genome), *alike), spec)
        if first is spec:
            return False
        if key_of(spec) in self._done:
            return True
        if result := self._done.get(key_of(first)):
            self._record(_copied(result, spec))
        elif first != spec:  # of another individual; else this evaluation is already requested
            waiting = self._waiting.setdefault(key_of(first), [])
            waiting += [spec] if spec not in waiting else []  # a winner may be a baseline as well
        return True

    def record(self, evaluation: Evaluation) -> None:
        """Record an evaluation, and a copy for each equal genome that waits for it."""
        self._record(evaluation)
        for spec in self._waiting.pop(key_of(evaluation.spec), []):
            self._record(_copied(evaluation, spec))

    def record_lost(self, lost: Lost) -> None:
        """Record an attempt that died with its worker; its evaluation is still to come."""
        self._ledger.append(
            "lost",
            individual=lost.spec.individual,
            seed=lost.spec.seed,
            fidelity=lost.spec.fidelity,
            split=lost.spec.split,
            attempt=lost.attempt,
            worker=lost.worker,
            message=lost.message,
            time=time.time(),
        )

    def _record(self, evaluation: Evaluation) -> None:
        if (simulation := evaluation.spec.simulation) is not None:
            self._ledger.append("simulation", **evaluation.simulation_fact(simulation))
        else:
            self._ledger.append("evaluation", **evaluation.fact())
        self._add(evaluation)

    def _add(self, evaluation: Evaluation) -> None:
        key = key_of(evaluation.spec)
        self._done[key] = evaluation
        self.new.append(key)


def _copied(evaluation: Evaluation, spec: EvaluationSpec) -> Evaluation:
    """The evaluation of an equal genome, as that of `spec`, at no cost of its own."""
    shared_details = {n: evaluation.details[n] for n in SHARED if n in evaluation.details}
    details = {"same_as": evaluation.spec.individual, **shared_details}
    return replace(evaluation, spec=spec, cost={}, details=details)


def from_fact(fact: Fact) -> Evaluation:
    """The evaluation that a ledger's fact records; the recipe follows from the genome."""
    spec = EvaluationSpec(fact["individual"], {}, fact["seed"], fact["fidelity"], fact["split"])
    return Evaluation(
        spec,
        Status(fact["status"]),
        **{name: fact[name] for name in ("measurements", "cost", "details", "message", "worker")},
        started=fact["started"],
        finished=fact["finished"],
    )


def from_simulation(fact: Fact) -> Evaluation:
    """The evaluation of simulated mixtures that a ledger's fact records."""
    mixtures = tuple(fact["mixtures"])
    request = Simulation(tuple(fact["sources"]), mixtures)
    spec = EvaluationSpec(fact["number"], {}, fact["seed"], split="simulated", simulation=request)
    details = {"scores": fact["scores"]} if fact["status"] == Status.OK else {}
    return Evaluation(
        spec,
        Status(fact["status"]),
        details=details,
        **{name: fact[name] for name in ("cost", "message", "worker", "started", "finished")},
    )
