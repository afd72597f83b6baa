"""What has been asked and answered: the ledger in front, the cluster behind.

Nothing is evaluated twice: what the ledger holds is answered from it, and equal genomes under an
equal seed, fidelity and split share one evaluation.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from evo.cluster import Cluster, ClusterError, Lost
from evo.config import SearchConfig, constraints, decode
from evo.ledger import Fact, Ledger
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Split, Status
from population.individual import ANCHOR, Individual

POLL_SECONDS = 0.5
Key = tuple[int, int, float, str]


class Stopped(Exception):
    """Somebody asked the search to stop; the ledger is whole and the run can be resumed."""


class Asked:
    """How often somebody asked to stop: once, finish what runs; twice, stop now."""

    def __init__(self) -> None:
        self.times = 0


class Evaluations:
    """What has been asked and answered: the ledger before, the cluster behind."""

    def __init__(
        self,
        config: SearchConfig,
        ledger: Ledger,
        cluster: Cluster,
        asked: Asked,
        watch: Callable[[Fact], None],
        genome_key: Callable[[Mapping[str, Any]], str],
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._cluster = cluster
        self._asked = asked
        self._watch = watch
        self._genome_key = genome_key
        facts = ledger.facts
        self._individuals: dict[int, Fact] = {
            fact["id"]: fact for fact in facts if fact["fact"] == "individual"
        }
        self._winner = next((f["individual"] for f in facts[::-1] if f["fact"] == "winner"), None)
        self._done: dict[Key, Evaluation] = {}
        self._same: dict[tuple[str, int, float, str], EvaluationSpec] = {}
        self._twins: dict[Key, list[EvaluationSpec]] = {}
        for fact in facts:
            if fact["fact"] == "evaluation":
                evaluation = from_fact(fact)
                self._done[_key(evaluation.spec)] = evaluation

    def breed(self, individual: Individual, generation: int, scored: list[Individual]) -> None:
        """Write the individual down, or check that it is the one written down before."""
        known = self._individuals.get(individual.id)
        if known is None:
            self._individuals[individual.id] = self._write(
                "individual",
                id=individual.id,
                genome=individual.genome,
                parents=list(individual.parents),
                operator=individual.operator,
                generation=generation,
                learned_from=scored[-1].id if scored else None,
            )
        elif known["genome"] != individual.genome:
            raise InputError(
                f"{self._ledger.path}: individual {individual.id} comes out different from the "
                "one recorded, so this would not be the same search; resume with the versions "
                "that began it (they are in the first line of the ledger)"
            )

    def request(
        self,
        individual: Individual,
        *,
        seed: int,
        fidelity: float = 1.0,
        split: Split = "selection",
    ) -> None:
        """Ask for an evaluation; none is made for what is known or an equal genome has."""
        recipe = decode(self._config, individual.genome)
        spec = EvaluationSpec(individual.id, recipe, seed, fidelity, split)
        genome = self._genome_key(individual.genome)
        first = self._same.setdefault((genome, seed, fidelity, split), spec)
        if _key(spec) in self._done:
            return
        if first is spec:
            self._cluster.submit(spec)
        elif known := self._done.get(_key(first)):
            self._record(_copied(known, spec))
        elif first != spec:  # of another individual; the same one has been asked for already
            self._twins.setdefault(_key(first), []).append(spec)

    def result(
        self,
        individual: Individual,
        *,
        seed: int,
        fidelity: float = 1.0,
        split: Split = "selection",
    ) -> Evaluation:
        """Wait for an evaluation that was requested; writes down whatever finishes meanwhile."""
        key = (individual.id, seed, fidelity, split)
        while key not in self._done:
            if self._asked.times:
                self._finish_what_runs()
            self._collect()
        return self._done[key]

    def individual(self, number: int) -> Individual:
        """An individual as it was bred."""
        fact = self._individuals[number]
        return Individual(number, fact["genome"], tuple(fact["parents"]), fact["operator"])

    def baselines(self) -> list[Individual]:
        """The individuals that stand for what one would do without a search."""
        bred = map(self.individual, self._individuals)
        return [individual for individual in bred if individual.operator.startswith(ANCHOR)]

    def name_winner(self, winner: Individual) -> None:
        """Write down who won on the selection split, before the test split is read."""
        if self._winner != winner.id:
            self._write("winner", individual=winner.id, split="selection", time=time.time())

    def _collect(self) -> None:
        for result in self._cluster.poll(POLL_SECONDS):
            if isinstance(result, Lost):
                self._write(
                    "lost",
                    individual=result.spec.individual,
                    seed=result.spec.seed,
                    split=result.spec.split,
                    attempt=result.attempt,
                    worker=result.worker,
                    message=result.message,
                    time=time.time(),
                )
                continue
            self._record(result)
            for twin in self._twins.pop(_key(result.spec), []):
                self._record(_copied(result, twin))

    def _record(self, evaluation: Evaluation) -> None:
        evaluation = self._with_all_wanted(evaluation)
        if evaluation.status is not Status.OK and evaluation.spec.fidelity == 0:
            raise ClusterError(
                f"the untouched base could not be evaluated ({evaluation.status}): "
                f"{evaluation.message.strip()}"
            )
        self._write("evaluation", **evaluation.fact())
        self._done[_key(evaluation.spec)] = evaluation

    def _with_all_wanted(self, evaluation: Evaluation) -> Evaluation:
        """As it came, or failed where an objective or a constraint was not measured."""
        wanted = [*self._config.objectives, *(c.name for c in constraints(self._config))]
        absent = [name for name in wanted if name not in evaluation.measurements]
        if evaluation.status is not Status.OK or not absent:
            return evaluation
        why = (
            f"{absent[0]} was not measured, only {', '.join(evaluation.measurements) or 'nothing'}"
        )
        return replace(evaluation, status=Status.ERROR, message=why)

    def _finish_what_runs(self) -> None:
        self._cluster.cancel_queued()
        while self._cluster.busy and self._asked.times < 2:
            self._collect()
        raise Stopped

    def _write(self, fact: str, **values: Any) -> Fact:
        record = self._ledger.append(fact, **values)
        self._watch(record)
        return record


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


def _key(spec: EvaluationSpec) -> Key:
    return (spec.individual, spec.seed, spec.fidelity, spec.split)


def _copied(known: Evaluation, spec: EvaluationSpec) -> Evaluation:
    """An equal genome's evaluation, at no cost of its own."""
    details = {"same_as": known.spec.individual}
    return replace(known, spec=spec, cost={}, details=details)
