"""The queue of evaluations, for Ray workers with the base model and the data in memory.

A worker that dies, or whose node does, is replaced, and its evaluation is tried again by the next
free one; the lost attempt does not count against the individual. An evaluation over its time limit
is killed with its worker and recorded as `timed_out`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evo.cluster.activity import Doing, Phase
from evo.cluster.connection import ClusterError, connect, connection, leave, reason
from evo.cluster.health import Liveness
from evo.cluster.machine import fitting
from evo.cluster.shipping import marks
from evo.cluster.worker import Dropped, Worker, actor_class, broke_the_gpu, start, titles
from evo.config import Resources
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed

if TYPE_CHECKING:
    import ray

Answer = TypeVar("Answer")

LOAD_SECONDS = 300.0
TRY_SECONDS = 300.0  # for a measurement of speed
GRACE_SECONDS = 10.0  # for the first process to report a failure too, before all are ended
LOOK_SECONDS = 0.01  # between looks at many workers while evaluations are submitted
FAILED_STARTS = 3  # in a row, of the same worker


@dataclass(frozen=True, slots=True)
class Lost:
    """An attempt that died with its worker; the evaluation is tried again."""

    spec: EvaluationSpec
    attempt: int
    worker: str
    message: str


class Cluster:
    """A queue of evaluations for a fixed number of workers that stay loaded."""

    def __init__(self, resources: Resources, task: Task, *, import_paths: Iterable[Path] = ()):
        """Connect, or start Ray on this machine, and start the workers without waiting for them."""
        connect(resources, task, list(import_paths))
        import ray

        self._resources = resources
        self._queue: deque[tuple[tuple[EvaluationSpec, ...], int]] = deque()
        self._contents: dict[Path, ray.ObjectRef] = {}
        self._workers: list[Worker] = []
        self._free: deque[Worker] = deque()
        self._pending: dict[ray.ObjectRef, Worker] = {}
        self._seen: list[Evaluation | Lost] = []  # until the next poll
        self._looked = 0.0  # when
        self._soonest = float("inf")  # no limit is before it, of time.monotonic()
        self._liveness = Liveness(resources)
        self.on_look: Callable[[], None] = lambda: None  # called after every look at the workers
        self.busy_seconds = 0.0
        try:
            self.size = fitting(resources, [n["Resources"] for n in ray.nodes() if n["Alive"]])
            self._titles = titles(task)
            self._task = ray.put(task)
            self._wanted = ray.put({} if resources.address == "local" else marks(task))
            self._remote = actor_class(resources)
            self._workers = [self._start() for _ in range(self.size)]
        except BaseException:
            self.close()
            raise

    def grow(self, count: int) -> None:
        """Start workers up to so many; Ray's autoscaler adds machines for those without room.

        They wait for it as long as the search runs, which needs none of them.
        """
        self._workers += [self._start() for _ in range(count - len(self._workers))]

    def fastest_bucket(self, recipe: Mapping[str, Any]) -> int:
        """Fastest size of a bucket of such recipes, measured on the first worker that is ready.

        1 if that takes too long or kills the worker.
        """
        return self._call(lambda actor: actor.fastest_bucket.remote(recipe), 1)

    def bfloat16_cost(self) -> float:
        """Time of a matrix product in bfloat16 relative to float32, on the first worker.

        Infinite if it cannot be measured.
        """
        return self._call(lambda actor: actor.bfloat16_cost.remote(), float("inf"))

    def _call(self, method: "Callable[[Any], ray.ObjectRef]", otherwise: Answer) -> Answer:
        """Result of a call to the first ready worker; `otherwise` if it dies or is too slow."""
        import ray

        while not self._free:
            self._look(LOOK_SECONDS)
            self._check_room()
        worker = self._free.popleft()
        try:
            answer: Answer = ray.get(method(worker.actors[0]), timeout=TRY_SECONDS)
        except (
            ray.exceptions.RayActorError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.GetTimeoutError,
        ):
            self._replace(worker)
            return otherwise
        self._rest(worker)
        return answer

    def submit(self, *specs: EvaluationSpec) -> None:
        """Queue an evaluation, or those of a bucket; `poll` returns each when it is done.

        Workers that have finished take the next: many may be submitted before the next poll.
        """
        self._queue.append((specs, 1))
        if self._free:
            self._dispatch()
        elif time.monotonic() > self._looked + LOOK_SECONDS:
            self._look(0.0)

    def cancel_queued(self) -> int:
        """Empty the queue; return how many evaluations no worker had started."""
        cancelled = sum(len(specs) for specs, _ in self._queue)
        self._queue.clear()
        return cancelled

    @property
    def busy(self) -> int:
        """Number of evaluations that are running, or that the next poll returns."""
        return len(self._seen) + sum(len(worker.specs) for worker in self._workers)

    def doing(self) -> list[Doing]:
        """Current activity of each worker."""
        return [Doing(w.name, w.phase, w.since, w.specs) for w in list(self._workers)]

    def poll(self, seconds: float) -> list[Evaluation | Lost]:
        """Evaluations that have finished or were lost; waits at most `seconds` for the first."""
        if not self._seen:
            self._look(seconds)
        self._check_room()
        results, self._seen = self._seen, []
        return results

    def _check_room(self) -> None:
        started = any(worker.name for worker in self._workers)
        self._liveness.check_room(len(self._workers), started=started)

    def _look(self, seconds: float) -> None:
        """Collect results and lost workers, and give queued evaluations to free workers."""
        import ray

        self._liveness.check_ray()
        if not self._pending:
            time.sleep(seconds)
            self.on_look()
            return
        waiting = list(self._pending)
        with connection():
            limit = self._soonest - time.monotonic()
            ready, _ = ray.wait(waiting, timeout=max(0.0, min(seconds, limit)))
            if ready:  # collect all others that are ready too
                ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            for ref in ready:
                if ref in self._pending:  # else its worker was replaced meanwhile
                    self._seen += self._answered(self._pending.pop(ref), ref)
            for worker in self._late():
                self._seen += self._overdue(worker)
            self._dispatch()
        self._looked = time.monotonic()
        self.on_look()

    def close(self) -> None:
        """Stop every worker at once, and Ray too if it was started here."""
        import ray

        ended = self._liveness.ended
        for worker in self._workers if ray.is_initialized() and not ended else []:
            with suppress(Exception):  # of a cluster that may be gone
                worker.end()
        leave(lost=ended)

    def _start(self, failed_starts: int = 0) -> Worker:
        given = (next(self._titles), self._task, self._wanted)
        worker = start(self._remote, self._resources, *given, failed_starts=failed_starts)
        self._begin(worker, "starting")
        return worker

    def _begin(
        self, worker: Worker, phase: Phase, *given: Any, seconds: float = float("inf")
    ) -> None:
        """Begin a phase of a worker; `_look` collects the answers of its actors."""
        worker.begin(phase, *given, seconds=seconds)
        self._soonest = min(self._soonest, worker.limit)
        self._pending |= dict.fromkeys(worker.calls, worker)

    def _replace(self, worker: Worker, failed_starts: int = 0) -> None:
        """Replace a worker; end the old one, which may still run if only the connection broke."""
        worker.end()
        for ref in worker.calls:
            self._pending.pop(ref, None)
        self._workers[self._workers.index(worker)] = self._start(failed_starts)

    def _dispatch(self) -> None:
        while self._queue and self._free:
            worker = self._free.popleft()
            worker.specs, worker.attempt = self._queue.popleft()
            worker.started = time.time()
            seconds = self._resources.timeout * sum(map(_evaluations, worker.specs))
            self._begin(worker, "evaluating", worker.specs, seconds=seconds)

    def _answered(self, worker: Worker, call: "ray.ObjectRef") -> list[Evaluation | Lost]:
        """Process an actor's answer; once all of a worker have answered, end its phase."""
        try:
            place = worker.receive(call)
        except Dropped as dropped:
            return self._dropped(worker, dropped)
        if worker.phase == "evaluating" and len(worker.actors) > 1:
            self._note_failure(worker, place)
        return AFTER[worker.phase](self, worker) if worker.answered else []

    def _started(self, worker: Worker) -> list[Evaluation | Lost]:
        """End `starting`: the worker has a place, by which it is named."""
        worker.name = worker.answers[0]
        self._load(worker, [])
        return []

    def _loaded(self, worker: Worker) -> list[Evaluation | Lost]:
        """End `loading`; it begins again with the files that a machine does not have."""
        if absent := {path for paths in worker.answers.values() for path in paths}:
            self._load(worker, sorted(absent))
        elif len(worker.actors) > 1:
            self._meet(worker)
        else:
            self._ready(worker)
        return []

    def _ready(self, worker: Worker) -> list[Evaluation | Lost]:
        """End `meeting`, `loading` of a worker of one process, or the check of an idle one."""
        worker.failed_starts = 0
        self._rest(worker)
        return []

    def _evaluated(self, worker: Worker) -> list[Evaluation | Lost]:
        """End `evaluating`, with the results of the first actor."""
        if worker.failure and worker.failure.status is Status.LOST:
            return self._overdue(worker)
        results: list[Evaluation] = worker.answers[0]
        recorded: list[Evaluation | Lost] = [self._recorded(one, worker) for one in results]
        worker.specs, worker.failure = (), None
        if any(map(broke_the_gpu, results)):
            self._replace(worker)
        else:
            self._rest(worker)
        return recorded

    def _dropped(self, worker: Worker, dropped: Dropped) -> list[Evaluation | Lost]:
        """Replace a worker of which Ray dropped a call; what follows depends on its phase."""
        if worker.phase != "evaluating":
            if isinstance(dropped.cause, InputError):
                raise InputError(f"worker {worker.name}: {dropped.cause}") from None
            return self._failed_to_start(worker, reason(dropped.cause))
        if dropped.status is Status.OUT_OF_MEMORY:
            return self._too_much(worker, dropped.status, str(dropped.error))
        if dropped.status is Status.LOST:
            self._replace(worker)
            return self._lost(worker, reason(dropped.error))
        raise dropped.error from None  # a bug: Evaluator.evaluate turns all else into data

    def _rest(self, worker: Worker) -> None:
        """Mark a worker as free for the next evaluation of the queue."""
        worker.rest()
        self._free.append(worker)

    def _check_idle(self) -> None:
        """Have the idle workers answer before they get an evaluation.

        Nothing tells that an idle worker is gone until it is called, and an evaluation that was
        given to one after the other of a lost machine would count as lost too often.
        """
        while self._free:
            self._begin(self._free.popleft(), "checked", seconds=LOAD_SECONDS)

    def _note_failure(self, worker: Worker, place: int) -> None:
        """Note the failure of one of several processes: the others wait for it, and are ended soon.

        A process with status LOST only lost its peer and does not know why: the peer's answer
        counts, or its death.
        """
        (evaluation,) = worker.answers[place]
        if evaluation.status in (Status.OK, Status.DIVERGED):
            return
        if worker.failure is None or worker.failure.status is Status.LOST:
            worker.failure = evaluation
        worker.limit = min(worker.limit, time.monotonic() + GRACE_SECONDS)
        self._soonest = min(self._soonest, worker.limit)

    def _load(self, worker: Worker, absent: list[Path]) -> None:
        """Let a worker load; send files missing on its machine through the object store."""
        import ray

        for path in absent:
            if path not in self._contents:
                self._contents[path] = ray.put(path.read_bytes())
        contents = {path: self._contents[path] for path in absent}
        self._begin(worker, "loading", contents, seconds=LOAD_SECONDS)

    def _meet(self, worker: Worker) -> None:
        """Connect the processes of a worker with one another."""
        here = self._resources.address == "local"
        self._begin(
            worker,
            "meeting",
            worker.actors[0].meeting_place.remote(here),
            seconds=LOAD_SECONDS,
        )

    def _recorded(self, evaluation: Evaluation, worker: Worker) -> Evaluation:
        seconds = time.monotonic() - worker.begun
        self.busy_seconds += seconds / len(worker.specs)
        finished = worker.started + seconds
        return replace(evaluation, worker=worker.name, started=worker.started, finished=finished)

    def _lost(self, worker: Worker, why: str) -> list[Evaluation | Lost]:
        self._check_idle()
        if worker.attempt > self._resources.retries:
            why = f"its worker died {worker.attempt} times, the last time: {why}"
            return [self._recorded(failed(s, Status.LOST, why), worker) for s in worker.specs]
        self._queue.appendleft((worker.specs, worker.attempt + 1))
        return [Lost(spec, worker.attempt, worker.name, why) for spec in worker.specs]

    def _too_much(self, worker: Worker, status: Status, why: str) -> list[Evaluation | Lost]:
        """Fail an evaluation that is too large or too slow; retry those of a bucket one by one."""
        self._replace(worker)
        if len(worker.specs) == 1:
            return [self._recorded(failed(worker.specs[0], status, why), worker)]
        self._queue.extendleft(((spec,), worker.attempt) for spec in reversed(worker.specs))
        return []

    def _late(self) -> list[Worker]:
        """Workers that have passed their time limit; checked only once one may have."""
        if time.monotonic() < self._soonest:
            return []
        owing = [w for w in self._workers if any(ref in self._pending for ref in w.calls)]
        self._soonest = min((worker.limit for worker in owing), default=float("inf"))
        return [worker for worker in owing if worker.limit <= time.monotonic()]

    def _overdue(self, worker: Worker) -> list[Evaluation | Lost]:
        if worker.phase != "evaluating":
            return self._failed_to_start(worker, f"not done after {LOAD_SECONDS:.0f} s")
        if worker.failure and worker.failure.status is Status.LOST:
            self._replace(worker)
            return self._lost(worker, worker.failure.message)
        if worker.failure:
            return self._too_much(worker, worker.failure.status, worker.failure.message)
        why = f"over its limit of {self._resources.timeout:g} s (resources.timeout)"
        return self._too_much(worker, Status.TIMED_OUT, why)

    def _failed_to_start(self, worker: Worker, why: str) -> list[Evaluation | Lost]:
        if worker.failed_starts + 1 >= FAILED_STARTS:
            raise ClusterError(
                f"{FAILED_STARTS} workers in a row failed to start or to load the base model and "
                f"the data{f', the last on {worker.name}' if worker.name else ''}: {why}"
            )
        self._replace(worker, worker.failed_starts + 1)
        return []


def _evaluations(spec: EvaluationSpec) -> int:
    """Number of evaluations that a spec may last as long as: experts may have to train again."""
    if spec.simulation is None:
        return 1
    return len(spec.simulation.mixtures) + len(spec.simulation.sources)


# Ends of phases, once all actors of a worker have answered; `idle` has no calls.
AFTER: Mapping[Phase, Callable[[Cluster, Worker], list[Evaluation | Lost]]] = {
    "starting": Cluster._started,
    "loading": Cluster._loaded,
    "meeting": Cluster._ready,
    "checked": Cluster._ready,
    "evaluating": Cluster._evaluated,
}
