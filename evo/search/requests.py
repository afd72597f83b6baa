"""Requests of evaluations: what is sent to the cluster, and the wait for what comes back.

An evaluation that another run has, or that is in the ledger or shared with an equal genome
(`evo.search.results`), is not sent.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from evo.cluster.queue import Cluster, ClusterError, Lost
from evo.config import SearchConfig, constraints, decode
from evo.config.aggregates import NOTHING
from evo.config.composition import scored_sets
from evo.planning.experts import is_expert
from evo.planning.lineages import Lineage, Lineages
from evo.planning.spending import continued_from
from evo.record.ledger import Ledger
from evo.search.aggregation import aggregated, aggregated_scores, is_relative, unaggregated
from evo.search.jobs import Job, Key, key_of
from evo.search.results import Results
from fitness.buckets.together import shared
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status
from population.individual import Individual

POLL_SECONDS = 0.2  # short, since Ctrl-C takes effect only between two polls
Recalled = Callable[[EvaluationSpec], Evaluation | None]  # evaluations made elsewhere


def unknown(_: EvaluationSpec) -> None:
    """No evaluation: default for `Recalled`, without another run."""


class Stopped(Exception):
    """The user stopped the search; the ledger is complete and the run can be resumed."""


class StopRequests:
    """Number of requests to stop: 1, finish running evaluations first; 2, stop now."""

    def __init__(self) -> None:
        self.times = 0


class Requests:
    """The cluster, the results that it adds to, and the lineages of what is requested from it.

    `individual` looks up an individual by its number.
    """

    def __init__(
        self,
        config: SearchConfig,
        ledger: Ledger,
        cluster: Cluster,
        individual: Callable[[int], Individual],
        stop_requests: StopRequests,
        recalled: Recalled = unknown,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._stop_requests = stop_requests
        self._recalled = recalled
        self._relative = is_relative(config)
        self.results = Results(config, ledger)
        self.lineages = Lineages(config, individual, self._first)

    def _first(self, number: int) -> Mapping[str, object]:
        """The details of an individual's first evaluation at full fidelity."""
        return self.results[number, self._config.seed, 1.0, "selection"].details

    @property
    def workers(self) -> int:
        """Number of evaluations that run at the same time."""
        return self._cluster.size

    def request(self, *jobs: Job) -> None:
        """Request evaluations that neither the ledger nor an equal genome has.

        Jobs that are requested together are trained in one bucket where their recipes match. If
        one of a bucket has no result yet, all of it are submitted: the numbers of an individual
        depend on the bucket that it is trained in.
        """
        specs = [spec for job in jobs if (spec := self._unshared(job)) is not None]
        for bucket in [specs] if len(specs) == 1 else self._buckets(specs):
            if any(key_of(spec) not in self.results for spec in bucket):
                self._cluster.submit(*bucket)
        if self._relative and any(job.key == self._base_key(job.split) for job in jobs):
            self._result(self._base_key(jobs[0].split))  # no other can be recorded before

    def _unshared(self, job: Job) -> EvaluationSpec | None:
        """Specification of a job's evaluation; None if it has, or shares, a result or a request."""
        spec = self._spec(job)
        if self.results.shares(spec, job.individual.genome):
            return None
        known = job.key in self.results or is_expert(job.individual)  # whose weights are needed
        if not known and (earlier := self._recalled(spec)) is not None:
            self._record(unaggregated(self._config, earlier))
        return spec

    def _spec(self, job: Job) -> EvaluationSpec:
        """Recipe, warm start and training to resume of a job's evaluation."""
        recipe = decode(self._config, job.individual.genome)
        if not 0 < job.fidelity <= 1:
            lineage = Lineage()
        elif job.writing is not None:
            lineage = self.lineages.itself(job.individual)
        else:
            lineage = self.lineages.of(job.individual)
        trains_expert = is_expert(job.individual) and job.fidelity > 0  # 0: the untouched base
        return EvaluationSpec(
            job.individual.id,
            recipe,
            job.seed,
            job.fidelity,
            job.split,
            keep_weights=job.seed == self._config.seed,
            continue_from=continued_from(self._config, job.seed, job.fidelity, job.split),
            keep_state=job.fidelity < 1 and not is_expert(job.individual),
            parents=lineage.parents,
            seen=lineage.seen,
            ancestors=lineage.ancestors,
            writing=job.writing,
            scored=scored_sets(self._config) if trains_expert else None,  # as the sums of it are
        )

    def _buckets(self, specs: list[EvaluationSpec]) -> list[list[EvaluationSpec]]:
        """Groups of specs whose recipes match, so that they can be trained in one bucket."""
        if not self._config.form.trains:
            return [[spec] for spec in specs]
        buckets: dict[object, list[EvaluationSpec]] = {}
        for place, spec in enumerate(specs):
            key = shared(spec)
            buckets.setdefault(("alone", place) if key is None else key, []).append(spec)
        return list(buckets.values())

    def result(self, job: Job) -> Evaluation:
        """Wait for a requested evaluation; records all that finish meanwhile."""
        return self._result(job.key)

    def all_of(self, jobs: Sequence[Job]) -> list[Evaluation]:
        """Request evaluations, each on its own, and wait for all."""
        for job in jobs:
            self.request(job)
        return [self.result(job) for job in jobs]

    def simulated(self, specs: Sequence[EvaluationSpec]) -> list[Mapping[str, float]]:
        """Scores of the mixtures that the specs request, in order; empty for those that failed.

        InputError if the ledger has scores of other mixtures under the same numbers.
        """
        for spec in specs:
            if key_of(spec) not in self.results:
                self._cluster.submit(spec)
        return [scores for spec in specs for scores in self._scores(spec)]

    def _scores(self, spec: EvaluationSpec) -> list[Mapping[str, float]]:
        done, wanted = self._result(key_of(spec)), spec.simulation
        assert wanted is not None
        if done.spec.simulation is None or done.spec.simulation.mixtures != wanted.mixtures:
            raise InputError(
                f"simulation {spec.individual} differs from the one recorded, so this would not "
                "be the same search; resume with the versions that started it (they are in the "
                "first line of the ledger)"
            )
        nothing: list[Mapping[str, float]] = [{} for _ in wanted.mixtures]
        return list(done.details.get("scores") or nothing)

    def new(self) -> deque[Key]:
        """The queue of new results, as soon as there is one in it."""
        while not self.results.new:
            self._wait()
        return self.results.new

    def untouched(self) -> Mapping[str, float]:
        """Measurements of the untouched base on the selection split; waits for them.

        Empty, without waiting, if neither a constraint nor an aggregate is relative to the base.
        """
        limits = constraints(self._config)
        if not self._relative and all(constraint.factor is None for constraint in limits):
            return {}
        return self._result(self._base_key("selection")).measurements

    def _base_key(self, split: str) -> Key:
        """Key of the untouched base's first evaluation on a split, which others are relative to."""
        seed = self._config.seed + (split == "test")  # the closing comparison's first seed
        return (0, seed, 0.0, split)

    def _base(self, evaluation: Evaluation) -> Mapping[str, float]:
        """Measurements of the untouched base, if an aggregate of the evaluation needs them."""
        if not self._relative or not evaluation.spec.scores_split:
            return NOTHING
        key = self._base_key(evaluation.spec.split)
        base = evaluation if key_of(evaluation.spec) == key else self.results[key]
        return base.measurements

    def _result(self, key: Key) -> Evaluation:
        while key not in self.results:
            self._wait()
        return self.results[key]

    def _wait(self) -> None:
        """Wait for the next result; raise Stopped if the user has requested to stop."""
        if self._stop_requests.times:
            self._finish_running()
        self._collect()

    def _collect(self) -> None:
        for result in self._cluster.poll(POLL_SECONDS):
            if isinstance(result, Lost):
                self.results.record_lost(result)
            elif key_of(result.spec) not in self.results:  # else again with the rest of its bucket
                self._record(result)

    def _record(self, evaluation: Evaluation) -> None:
        if evaluation.spec.simulation is not None:
            scored = aggregated_scores(self._config, evaluation, self.untouched())
            self.results.record(scored)
            return
        evaluation = aggregated(self._config, evaluation, self._base(evaluation))
        evaluation = _checked(self._config, evaluation)
        if evaluation.status is not Status.OK and evaluation.spec.fidelity == 0:
            raise ClusterError(
                f"the untouched base could not be evaluated ({evaluation.status}): "
                f"{evaluation.message.strip()}"
            )
        self.results.record(evaluation)

    def _finish_running(self) -> None:
        self._cluster.cancel_queued()
        while self._cluster.busy and self._stop_requests.times < 2:
            self._collect()
        raise Stopped


def _checked(config: SearchConfig, evaluation: Evaluation) -> Evaluation:
    """The evaluation, marked as failed if an objective or a constraint was not measured."""
    needed = [*config.objectives, *(constraint.name for constraint in constraints(config))]
    absent = [name for name in needed if name not in evaluation.measurements]
    if evaluation.status is not Status.OK or not absent or not evaluation.spec.scores_split:
        return evaluation
    why = f"{absent[0]} was not measured, only {', '.join(evaluation.measurements) or 'nothing'}"
    return replace(evaluation, status=Status.ERROR, message=why)
