"""What has been asked and answered: the ledger in front, the cluster behind.

Nothing is evaluated twice: what the ledger holds is answered from it, and equal genomes under an
equal seed, fidelity and split share one evaluation.
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

POLL_SECONDS = 0.2  # no longer, since Ctrl-C is only noticed between two polls
SHARED = ("cumulative_tokens", "inherited_from", "items")  # details that hold for an equal one
Key = tuple[int, int, float, str]
Recalled = Callable[[EvaluationSpec], Evaluation | None]  # what was measured elsewhere


def unknown(_: EvaluationSpec) -> None:
    """Nothing was."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one slot of the schedule, or one part of the closing comparison, evaluates.

    Or what an individual writes, for the split `samples`.
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
    """The fidelity at which such a job goes on; 0 where it begins, as under every other seed."""
    if config.evaluator != BUILTIN or seed != config.seed or split != "selection":
        return 0.0
    return max((rung for rung in config.search.rungs if rung < fidelity), default=0.0)


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
        recalled: Recalled = unknown,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._cluster = cluster
        self._asked = asked
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
        self._same: dict[tuple[Any, ...], EvaluationSpec] = {}
        self._twins: dict[Key, list[EvaluationSpec]] = {}
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
        self._finished: deque[int] = deque()  # slots, not yet given out
        for fact in facts:
            if fact["fact"] == "evaluation":
                self._answered(from_fact(fact))

    @property
    def workers(self) -> int:
        """How many evaluations run at the same time."""
        return self._cluster.size

    def repeated(self, slot: int, *, otherwise: Callable[[], Job | None]) -> Job | None:
        """What is evaluated again in a slot, as recorded; None where an individual is bred.

        A slot that was not filled yet is left to `otherwise`: with a larger budget it would decide
        otherwise about earlier slots too.
        """
        fact = self._decisions.get(slot)
        if fact is None:
            return otherwise()
        if fact["fact"] == "individual":
            return None
        return Job(self.individual(fact["individual"]), fact["seed"], fact["fidelity"])

    def decide(self, slot: int, job: Job, *, learned_from: int | None) -> None:
        """Write down what a slot evaluates, or check that it is what was written down before.

        `learned_from` is the last slot that was learned from.
        """
        self._slots[job.key] = slot
        individual, known = job.individual, self._decisions.get(slot)
        if known is None:
            self._decisions[slot] = self._write(
                **self._decision(slot, job), learned_from=learned_from
            )
            if individual.id == slot:
                self._individuals[slot] = self._decisions[slot]
        elif individual.id == slot and _differs(individual, known):
            raise InputError(
                f"{self._ledger.path}: individual {individual.id} comes out different from the "
                "one recorded, so this would not be the same search; resume with the versions "
                "that began it (they are in the first line of the ledger)"
            )

    def _decision(self, slot: int, job: Job) -> dict[str, Any]:
        """The fact of a slot: an individual that is bred, or one that is evaluated again."""
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
        """The steps that earlier drivers of an asynchronous search took."""
        learned = None
        for slot, fact in list(self._decisions.items()):
            while learned != fact["learned_from"]:
                learned = self._finished.popleft()
                yield Learn(learned)
            yield Breed(slot)

    def finished(self) -> list[int]:
        """Slots that finished since this was last asked, in the order of the ledger; waits."""
        while not self._finished:
            self._wait()
        slots = list(self._finished)
        self._finished.clear()
        return slots

    def request(self, *jobs: Job) -> None:
        """Ask for evaluations; none is made for what is known or an equal genome has.

        Jobs that are asked for together are trained together where they fit. Where one of those has
        no answer yet all are asked for, so that it is trained as it would have been.
        """
        wanted = [spec for job in jobs if (spec := self._wanted(job)) is not None]
        for bucket in [wanted] if len(wanted) == 1 else self._buckets(wanted):
            if any(_key(spec) not in self._done for spec in bucket):
                self._cluster.submit(*bucket)

    def _wanted(self, job: Job) -> EvaluationSpec | None:
        """What answers a job; None where something else that was asked for does."""
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
            if job.key not in self._done and (known := self._recalled(spec)) is not None:
                self._record(known)
            return spec
        if job.key in self._done:
            return None
        if known := self._done.get(_key(first)):
            self._record(_copied(known, spec))
        elif first != spec:  # of another individual; the same one has been asked for already
            self._twins.setdefault(_key(first), []).append(spec)
        return None

    def _buckets(self, specs: list[EvaluationSpec]) -> list[list[EvaluationSpec]]:
        """Those who fit one another, together."""
        if self._config.evaluator != BUILTIN:
            return [[spec] for spec in specs]
        found: dict[Any, list[EvaluationSpec]] = {}
        for place, spec in enumerate(specs):
            key = shared(spec)
            found.setdefault(("alone", place) if key is None else key, []).append(spec)
        return list(found.values())

    def result(self, job: Job) -> Evaluation:
        """Wait for an evaluation that was requested; writes down whatever finishes meanwhile."""
        while job.key not in self._done:
            self._wait()
        return self._done[job.key]

    def untouched(self) -> Mapping[str, float]:
        """What the untouched base measures on the selection split; waits for it.

        Nothing where no constraint is relative to it, so that nobody waits for nothing.
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
        """The individuals that stand for what one would do without a search."""
        bred = map(self.individual, self._individuals)
        return [individual for individual in bred if individual.operator.startswith(ANCHOR)]

    def controls(self, winner: Individual) -> list[Individual]:
        """The winner on other mixtures (`planning.controls`), recorded before they are tested."""
        found = list(controls(self._config, winner))
        for control in found:
            if control.id not in self._controls:
                self._controls.add(control.id)
                self._write(
                    "control",
                    id=control.id,
                    name=control.operator.removeprefix(CONTROL),
                    individual=winner.id,
                    genome=control.genome,
                )
        return found

    def name_winner(self, winner: Individual) -> None:
        """Write down who won on the selection split, before the test split is read."""
        if self._winner != winner.id:
            self._write(
                "winner",
                individual=winner.id,
                split="selection",
                seeds=winner.seeds,
                time=time.time(),
            )

    def _wait(self) -> None:
        """For the next thing to finish, unless somebody asked to stop."""
        if self._asked.times:
            self._finish_what_runs()
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
                continue  # evaluated again beside others of its bucket
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
        self._answered(evaluation)

    def _answered(self, evaluation: Evaluation) -> None:
        key = _key(evaluation.spec)
        self._done[key] = evaluation
        if key in self._slots:
            self._finished.append(self._slots[key])

    def _with_all_wanted(self, evaluation: Evaluation) -> Evaluation:
        """As it came, or failed where an objective or a constraint was not measured."""
        wanted = [*self._config.objectives, *(c.name for c in constraints(self._config))]
        absent = [name for name in wanted if name not in evaluation.measurements]
        if evaluation.status is not Status.OK or not absent or evaluation.spec.split == "samples":
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


def _differs(individual: Individual, known: Fact) -> bool:
    """Whether it is another one than was recorded: its parents count, for their weights may."""
    return bool(
        known["genome"] != individual.genome or tuple(known["parents"]) != individual.parents
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


def _copied(known: Evaluation, spec: EvaluationSpec) -> Evaluation:
    """An equal genome's evaluation, at no cost of its own."""
    told = {name: known.details[name] for name in SHARED if name in known.details}
    details = {"same_as": known.spec.individual, **told}
    return replace(known, spec=spec, cost={}, details=details)
