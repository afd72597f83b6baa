"""Evaluation requests: answered from the ledger or an equal genome, else sent to the cluster.

Nothing is evaluated twice: an evaluation in the ledger is taken from there, and equal genomes with
equal seed, fidelity and split share one evaluation. Every result is recorded in the ledger.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evo.cluster.queue import Cluster, ClusterError, Lost
from evo.config import SearchConfig, constraints, decode
from evo.planning import lineages
from evo.planning.controls import CONTROL, controls
from evo.planning.lineages import Lineage, Lineages
from evo.planning.schedule import Breed, Learn, Step
from evo.record.ledger import Fact, Ledger
from fitness.buckets.together import shared
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Purpose, Status, Writing
from fitness.evaluators import BUILTIN
from population.individual import ANCHOR, Individual

POLL_SECONDS = 0.2  # short, since Ctrl-C takes effect only between two polls
SHARED = ("cumulative_tokens", "inherited_from", "items")  # details copied to an equal genome
Key = tuple[int, int, float, str]
Recalled = Callable[[EvaluationSpec], Evaluation | None]  # evaluations from earlier rounds


def unknown(_: EvaluationSpec) -> None:
    """No evaluation: default for `Recalled`, without earlier rounds."""


@dataclass(frozen=True, slots=True)
class Job:
    """An evaluation for a slot of the schedule or for the closing comparison.

    With `writing` and the split `samples`: generation of samples by an individual.
    """

    individual: Individual
    seed: int
    fidelity: float = 1.0
    split: Purpose = "selection"
    writing: Writing | None = None

    @property
    def key(self) -> Key:
        return (self.individual.id, self.seed, self.fidelity, self.split)


def continued_from(config: SearchConfig, seed: int, fidelity: float, split: str) -> float:
    """Fidelity from which a job resumes training; 0 from the start, as under every other seed."""
    if config.evaluator != BUILTIN or seed != config.seed or split != "selection":
        return 0.0
    return max((rung for rung in config.search.rungs if rung < fidelity), default=0.0)


class Stopped(Exception):
    """The user stopped the search; the ledger is complete and the run can be resumed."""


class StopRequests:
    """Number of requests to stop: 1, finish running evaluations first; 2, stop now."""

    def __init__(self) -> None:
        self.times = 0


class Evaluations:
    """Requests and records evaluations: from the ledger or an equal genome, else by the cluster."""

    def __init__(
        self,
        config: SearchConfig,
        ledger: Ledger,
        cluster: Cluster,
        stop_requests: StopRequests,
        watch: Callable[[Fact], None],
        genome_key: Callable[[Mapping[str, Any]], str],
        recalled: Recalled = unknown,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._cluster = cluster
        self._stop_requests = stop_requests
        self._watch = watch
        self._genome_key = genome_key
        self._recalled = recalled
        facts = ledger.facts
        self._individuals: dict[int, Fact] = {
            fact["id"]: fact for fact in facts if fact["fact"] == "individual"
        }
        self._winner = next((f["individual"] for f in facts[::-1] if f["fact"] == "winner"), None)
        self._controls = {fact["id"] for fact in facts if fact["fact"] == "control"}
        self._done: dict[Key, Evaluation] = {}
        self._same: dict[tuple[Any, ...], EvaluationSpec] = {}  # first request of equal ones
        self._twins: dict[Key, list[EvaluationSpec]] = {}  # wait for an equal one
        self._decisions: dict[int, Fact] = {}  # by slot
        self._slots: dict[Key, int] = {}
        first = (*config.search.rungs, 1.0)[0]
        for fact in facts:
            if fact["fact"] == "individual":
                self._decisions[fact["id"]] = fact
                self._slots[(fact["id"], config.seed, first, "selection")] = fact["id"]
            elif fact["fact"] == "repeat":
                self._decisions[fact["slot"]] = fact
                key = (fact["individual"], fact["seed"], fact["fidelity"], "selection")
                self._slots[key] = fact["slot"]
        self.lineages = Lineages(config, self.individual, self._first)
        self._finished: deque[int] = deque()  # slots not yet returned by `finished`
        for fact in facts:
            if fact["fact"] == "evaluation":
                self._add(from_fact(fact))

    @property
    def workers(self) -> int:
        """Number of evaluations that run at the same time."""
        return self._cluster.size

    def repeated(self, slot: int, *, otherwise: Callable[[], Job | None]) -> Job | None:
        """Recorded job of a slot that evaluates an individual again; None where one is bred.

        `otherwise` decides for a slot without a record only: after the budget was raised it could
        decide differently for slots that are recorded.
        """
        fact = self._decisions.get(slot)
        if fact is None:
            return otherwise()
        if fact["fact"] == "individual":
            return None
        return Job(self.individual(fact["individual"]), fact["seed"], fact["fidelity"])

    def decide(self, slot: int, job: Job, *, learned_from: int | None) -> None:
        """Record the job of a slot, or check it against the record of an earlier driver.

        `learned_from` is the last slot whose result the strategy has been given. Raises InputError
        if a bred individual differs from the recorded one.
        """
        self._slots[job.key] = slot
        individual, recorded = job.individual, self._decisions.get(slot)
        if recorded is None:
            self._decisions[slot] = self._write(
                **self._decision(slot, job), learned_from=learned_from
            )
            if individual.id == slot:
                self._individuals[slot] = self._decisions[slot]
        elif individual.id == slot and _differs(individual, recorded):
            raise InputError(
                f"{self._ledger.path}: individual {individual.id} differs from the one recorded, "
                "so this would not be the same search; resume with the versions that started it "
                "(they are in the first line of the ledger)"
            )

    def _decision(self, slot: int, job: Job) -> dict[str, Any]:
        """Ledger fact of a slot: an individual that is bred, or one that is evaluated again."""
        individual = job.individual
        if individual.id != slot:
            again = {"individual": individual.id, "seed": job.seed, "fidelity": job.fidelity}
            return {"fact": "repeat", "slot": slot, **again}
        return {
            "fact": "individual",
            "id": individual.id,
            "genome": individual.genome,
            "parents": list(individual.parents),
            "operator": individual.operator,
            "generation": slot // self._config.search.population,
        }

    def recorded(self) -> Iterator[Step]:
        """Steps of an asynchronous search that earlier drivers recorded, to be taken again."""
        learned = None
        for slot, fact in list(self._decisions.items()):
            while learned != fact["learned_from"]:
                learned = self._finished.popleft()
                yield Learn(learned)
            yield Breed(slot)

    def finished(self) -> list[int]:
        """Slots that finished since the last call, in the order of the ledger; waits for one."""
        while not self._finished:
            self._wait()
        slots = list(self._finished)
        self._finished.clear()
        return slots

    def request(self, *jobs: Job) -> None:
        """Request evaluations that neither the ledger nor an equal genome has.

        Jobs that are requested together are trained in one bucket where their recipes match. If
        one of a bucket has no result yet, all of it are submitted: the numbers of an individual
        depend on the bucket that it is trained in.
        """
        specs = [spec for job in jobs if (spec := self._spec(job)) is not None]
        for bucket in [specs] if len(specs) == 1 else self._buckets(specs):
            if any(_key(spec) not in self._done for spec in bucket):
                self._cluster.submit(*bucket)

    def _spec(self, job: Job) -> EvaluationSpec | None:
        """Specification of a job's evaluation; None if it has, or shares, a result or a request."""
        recipe = decode(self._config, job.individual.genome)
        if job.writing is not None:
            lineage = self.lineages.itself(job.individual)
        else:
            lineage = self.lineages.of(job.individual) if job.fidelity <= 1 else Lineage()
        spec = EvaluationSpec(
            job.individual.id,
            recipe,
            job.seed,
            job.fidelity,
            job.split,
            keep_weights=job.seed == self._config.seed,
            continue_from=continued_from(self._config, job.seed, job.fidelity, job.split),
            keep_state=job.fidelity < 1,
            parents=lineage.parents,
            seen=lineage.seen,
            ancestors=lineage.ancestors,
            writing=job.writing,
        )
        genome = self._genome_key(job.individual.genome)
        same = (genome, lineage.parents, job.seed, job.fidelity, job.split)
        first = self._same.setdefault(same, spec)
        if first is spec:
            if job.key not in self._done and (earlier := self._recalled(spec)) is not None:
                self._record(earlier)
            return spec
        if job.key in self._done:
            return None
        if result := self._done.get(_key(first)):
            self._record(_copied(result, spec))
        elif first != spec:  # of another individual; else this evaluation is already requested
            self._twins.setdefault(_key(first), []).append(spec)
        return None

    def _buckets(self, specs: list[EvaluationSpec]) -> list[list[EvaluationSpec]]:
        """Groups of specs whose recipes match, so that they can be trained in one bucket."""
        if self._config.evaluator != BUILTIN:
            return [[spec] for spec in specs]
        buckets: dict[Any, list[EvaluationSpec]] = {}
        for place, spec in enumerate(specs):
            key = shared(spec)
            buckets.setdefault(("alone", place) if key is None else key, []).append(spec)
        return list(buckets.values())

    def result(self, job: Job) -> Evaluation:
        """Wait for a requested evaluation; records all that finish meanwhile."""
        while job.key not in self._done:
            self._wait()
        return self._done[job.key]

    def untouched(self) -> Mapping[str, float]:
        """Measurements of the untouched base on the selection split; waits for them.

        Empty, without waiting, if no constraint is relative to the base.
        """
        if all(constraint.factor is None for constraint in constraints(self._config)):
            return {}
        return self.result(Job(self.individual(0), self._config.seed, 0.0)).measurements

    def individual(self, number: int) -> Individual:
        """An individual as it was bred."""
        return lineages.from_fact(self._individuals[number])

    def _first(self, number: int) -> Mapping[str, Any]:
        """The details of an individual's first evaluation at full fidelity."""
        return self._done[number, self._config.seed, 1.0, "selection"].details

    def baselines(self) -> list[Individual]:
        """Individuals of the baselines: mixtures that one would use without a search."""
        bred = map(self.individual, self._individuals)
        return [individual for individual in bred if individual.operator.startswith(ANCHOR)]

    def controls(self, winner: Individual) -> list[Individual]:
        """Controls of the winner, on other data (`planning.controls`); recorded before the test."""
        individuals = list(controls(self._config, winner))
        for control in individuals:
            if control.id not in self._controls:
                self._controls.add(control.id)
                self._write(
                    "control",
                    id=control.id,
                    name=control.operator.removeprefix(CONTROL),
                    individual=winner.id,
                    genome=control.genome,
                )
        return individuals

    def name_winner(self, winner: Individual) -> None:
        """Record the winner on the selection split, before the test split is read."""
        if self._winner != winner.id:
            self._write(
                "winner",
                individual=winner.id,
                split="selection",
                seeds=winner.seeds,
                time=time.time(),
            )

    def _wait(self) -> None:
        """Wait for the next result; raise Stopped if the user has requested to stop."""
        if self._stop_requests.times:
            self._finish_running()
        self._collect()

    def _collect(self) -> None:
        for result in self._cluster.poll(POLL_SECONDS):
            if isinstance(result, Lost):
                self._write(
                    "lost",
                    individual=result.spec.individual,
                    seed=result.spec.seed,
                    fidelity=result.spec.fidelity,
                    split=result.spec.split,
                    attempt=result.attempt,
                    worker=result.worker,
                    message=result.message,
                    time=time.time(),
                )
                continue
            if _key(result.spec) in self._done:
                continue  # evaluated again with the rest of its bucket
            self._record(result)
            for twin in self._twins.pop(_key(result.spec), []):
                self._record(_copied(result, twin))

    def _record(self, evaluation: Evaluation) -> None:
        evaluation = self._checked(evaluation)
        if evaluation.status is not Status.OK and evaluation.spec.fidelity == 0:
            raise ClusterError(
                f"the untouched base could not be evaluated ({evaluation.status}): "
                f"{evaluation.message.strip()}"
            )
        self._write("evaluation", **evaluation.fact())
        self._add(evaluation)

    def _add(self, evaluation: Evaluation) -> None:
        key = _key(evaluation.spec)
        self._done[key] = evaluation
        if key in self._slots:
            self._finished.append(self._slots[key])

    def _checked(self, evaluation: Evaluation) -> Evaluation:
        """The evaluation, marked as failed if an objective or a constraint was not measured."""
        needed = [*self._config.objectives, *(c.name for c in constraints(self._config))]
        absent = [name for name in needed if name not in evaluation.measurements]
        if evaluation.status is not Status.OK or not absent or evaluation.spec.split == "samples":
            return evaluation
        why = (
            f"{absent[0]} was not measured, only {', '.join(evaluation.measurements) or 'nothing'}"
        )
        return replace(evaluation, status=Status.ERROR, message=why)

    def _finish_running(self) -> None:
        self._cluster.cancel_queued()
        while self._cluster.busy and self._stop_requests.times < 2:
            self._collect()
        raise Stopped

    def _write(self, fact: str, **values: Any) -> Fact:
        record = self._ledger.append(fact, **values)
        self._watch(record)
        return record


def _differs(individual: Individual, recorded: Fact) -> bool:
    """Compare an individual with its record: genome, and parents, since it may start from them."""
    return bool(
        recorded["genome"] != individual.genome or tuple(recorded["parents"]) != individual.parents
    )


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


def _copied(evaluation: Evaluation, spec: EvaluationSpec) -> Evaluation:
    """The evaluation of an equal genome, as that of `spec`, at no cost of its own."""
    shared_details = {n: evaluation.details[n] for n in SHARED if n in evaluation.details}
    details = {"same_as": evaluation.spec.individual, **shared_details}
    return replace(evaluation, spec=spec, cost={}, details=details)
