"""The queue of evaluations, and the Ray workers with the base model and the data in memory.

With `connection.py` the only importer of ray. A worker is one actor, or several that train each
individual together. A worker that dies, or whose node does, is replaced, and its evaluation is
tried again by the next free one; the lost attempt does not count against the individual. An
evaluation over its time limit is killed with its worker and recorded as `timed_out`.
"""

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evo.cluster.connection import ClusterError, connect, connection, leave, reason
from evo.cluster.doing import Doing, Phase
from evo.cluster.liveness import Liveness
from evo.cluster.machine import fitting
from evo.cluster.shipping import marks, missing, moved, stored
from evo.config import Resources
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed

if TYPE_CHECKING:
    import ray

Marks = Mapping[Path, str | int]
Answer = TypeVar("Answer")

LOAD_SECONDS = 300.0
PHASES: Mapping[str, Phase] = {
    "name": "starting",
    "load": "loading",
    "meet": "meeting",
    "evaluate": "evaluating",
}
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


@dataclass(slots=True)
class _Worker:
    """State of a worker: its actors, the first of which leads, and their pending calls.

    The calls are, in order: `name` (answered once the actor has a place), `load` of base model and
    data, `meet` of several processes, and then `evaluate` of one or several specs.
    """

    actors: list[Any]
    failed_starts: int
    room: Any = None  # placement group of several actors
    calls: "list[ray.ObjectRef]" = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)  # to pending calls, by actor's number
    name: str = ""
    phase: Phase = "starting"
    since: float = 0.0  # Unix seconds, of the phase
    loaded: bool = False
    specs: tuple[EvaluationSpec, ...] = ()
    attempt: int = 0
    started: float = 0.0  # Unix seconds, for the record
    limit: float = float("inf")  # of time.monotonic()
    failure: Evaluation | None = None  # of a process while the others may wait for it


class _Evaluator:
    """Actor in a worker process, which holds the base model and the data."""

    def __init__(self, task: Task, wanted: Marks, rank: int) -> None:
        self._task = task
        self._wanted = wanted
        self._rank = rank

    def name(self) -> str:
        return f"{socket.gethostname()}/{os.getpid()}"

    def load(self, contents: "Mapping[Path, ray.ObjectRef]") -> list[Path]:
        """Load the task, or return the files to send because this machine does not have them."""
        import ray

        from fitness.evaluate.evaluator import Evaluator

        absent = missing(self._task, self._wanted)
        if not contents and absent:
            return absent
        copies = {path: stored(path, ray.get(contents[path]), self._wanted) for path in contents}
        self._evaluator = Evaluator(moved(self._task, copies))
        return []

    def meeting_place(self, here: bool) -> str:
        import ray

        from fitness.training.ranks import meeting_place

        by_file = here and not ray.get_gpu_ids()  # nccl would keep reading the file
        return meeting_place(None if by_file else ray.util.get_node_ip_address())

    def meet(self, url: str) -> None:
        """Wait for the other processes of this worker."""
        import ray

        from fitness.training.ranks import meet

        task, own_gpu = self._task, bool(ray.get_gpu_ids())
        ranks = meet(url, self._rank, task.processes, seconds=task.timeout, own_gpu=own_gpu)
        self._evaluator.join(ranks)

    def fastest_bucket(self, recipe: Mapping[str, Any]) -> int:
        return self._evaluator.fastest_bucket(recipe)

    def bfloat16_cost(self) -> float:
        return self._evaluator.bfloat16_cost()

    def evaluate(self, specs: tuple[EvaluationSpec, ...]) -> list[Evaluation]:
        if len(specs) == 1:
            return [self._evaluator.evaluate(specs[0])]
        return self._evaluator.evaluate_bucket(specs)


class Cluster:
    """A queue of evaluations for a fixed number of workers that stay loaded."""

    def __init__(self, resources: Resources, task: Task, *, import_paths: Iterable[Path] = ()):
        """Connect, or start Ray on this machine, and start the workers without waiting for them."""
        connect(resources, task, list(import_paths))
        import ray

        self._resources = resources
        self._queue: deque[tuple[tuple[EvaluationSpec, ...], int]] = deque()
        self._contents: dict[Path, ray.ObjectRef] = {}
        self._workers: list[_Worker] = []
        self._free: deque[_Worker] = deque()
        self._pending: dict[ray.ObjectRef, _Worker] = {}
        self._seen: list[Evaluation | Lost] = []  # until the next poll
        self._looked = 0.0  # when
        self._soonest = float("inf")  # no limit is before it, of time.monotonic()
        self._liveness = Liveness(resources)
        self.on_look: Callable[[], None] = lambda: None  # called after every look at the workers
        self.busy_seconds = 0.0
        try:
            self.size = fitting(resources, [n["Resources"] for n in ray.nodes() if n["Alive"]])
            self._task = ray.put(task)
            self._wanted = ray.put({} if resources.address == "local" else marks(task))
            self._remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(_Evaluator)
            self._workers = [self._start() for _ in range(self.size)]
        except BaseException:
            self.close()
            raise

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
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
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
                _end(worker)
        leave(lost=ended)

    def _start(self, failed_starts: int = 0) -> _Worker:
        count = self._resources.processes
        room, places = _room(self._resources) if count > 1 else (None, [{}])
        actors = [
            self._remote.options(**place).remote(self._task, self._wanted, rank)
            for rank, place in enumerate(places)
        ]
        worker = _Worker(actors, failed_starts, room)
        self._begin(worker, "name")
        return worker

    def _begin(
        self, worker: _Worker, method: str, *given: Any, seconds: float = float("inf")
    ) -> None:
        """Call a method of all actors of a worker; `_look` collects the answers."""
        worker.phase, worker.since = PHASES[method], time.time()
        worker.limit = time.monotonic() + seconds
        self._soonest = min(self._soonest, worker.limit)
        worker.calls = [getattr(actor, method).remote(*given) for actor in worker.actors]
        worker.answers = {}
        self._pending |= dict.fromkeys(worker.calls, worker)

    def _replace(self, worker: _Worker, failed_starts: int = 0) -> None:
        """Replace a worker; end the old one, which may still run if only the connection broke."""
        _end(worker)
        for ref in worker.calls:
            self._pending.pop(ref, None)
        self._workers[self._workers.index(worker)] = self._start(failed_starts)

    def _dispatch(self) -> None:
        while self._queue and self._free:
            worker = self._free.popleft()
            worker.specs, worker.attempt = self._queue.popleft()
            worker.started = time.time()
            seconds = self._resources.timeout * len(worker.specs)
            self._begin(worker, "evaluate", worker.specs, seconds=seconds)

    def _answered(self, worker: _Worker, answer: "ray.ObjectRef") -> list[Evaluation | Lost]:
        """Process an actor's answer: the worker's next call, or the results of its evaluations."""
        import ray

        specs, place = worker.specs, worker.calls.index(answer)
        try:
            worker.answers[place] = ray.get(answer)
        except ray.exceptions.OutOfMemoryError as error:
            if not specs:
                return self._failed_to_start(worker, reason(error))
            return self._too_much(worker, Status.OUT_OF_MEMORY, str(error))
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            if not specs:
                return self._failed_to_start(worker, reason(error))
            self._replace(worker)
            return self._lost(worker, reason(error))
        except ray.exceptions.RayTaskError as error:
            if specs:
                raise  # a bug: Evaluator.evaluate turns all else into data
            if isinstance(error.cause, InputError):
                raise InputError(f"worker {worker.name}: {error.cause}") from None
            return self._failed_to_start(worker, reason(error.cause))
        if specs and len(worker.actors) > 1:
            self._note_failure(worker, place)
        if len(worker.answers) < len(worker.actors):
            return []
        first, *others = [worker.answers[place] for place in range(len(worker.actors))]
        if specs:
            if worker.failure and worker.failure.status is Status.LOST:
                return self._overdue(worker)
            recorded: list[Evaluation | Lost] = [self._recorded(one, worker) for one in first]
            worker.specs, worker.failure = (), None
            if any(map(_broke_the_gpu, first)):
                self._replace(worker)
            else:
                self._rest(worker)
            return recorded
        if not worker.name:
            worker.name = first
            self._load(worker, [])
        elif not worker.loaded and any([first, *others]):
            self._load(worker, sorted({path for absent in (first, *others) for path in absent}))
        elif others and not worker.loaded:
            worker.loaded = True
            self._meet(worker)
        else:
            worker.failed_starts = 0
            self._rest(worker)
        return []

    def _rest(self, worker: _Worker) -> None:
        """Mark a worker as free for the next evaluation of the queue."""
        worker.phase, worker.since = "idle", time.time()
        self._free.append(worker)

    def _note_failure(self, worker: _Worker, place: int) -> None:
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

    def _load(self, worker: _Worker, absent: list[Path]) -> None:
        """Let a worker load; send files missing on its machine through the object store."""
        import ray

        for path in absent:
            if path not in self._contents:
                self._contents[path] = ray.put(path.read_bytes())
        contents = {path: self._contents[path] for path in absent}
        self._begin(worker, "load", contents, seconds=LOAD_SECONDS)

    def _meet(self, worker: _Worker) -> None:
        """Connect the processes of a worker with one another."""
        here = self._resources.address == "local"
        self._begin(
            worker,
            "meet",
            worker.actors[0].meeting_place.remote(here),
            seconds=LOAD_SECONDS,
        )

    def _recorded(self, evaluation: Evaluation, worker: _Worker) -> Evaluation:
        finished = time.time()
        self.busy_seconds += (finished - worker.started) / len(worker.specs)
        return replace(evaluation, worker=worker.name, started=worker.started, finished=finished)

    def _lost(self, worker: _Worker, why: str) -> list[Evaluation | Lost]:
        if worker.attempt > self._resources.retries:
            why = f"its worker died {worker.attempt} times, the last time: {why}"
            return [self._recorded(failed(s, Status.LOST, why), worker) for s in worker.specs]
        self._queue.appendleft((worker.specs, worker.attempt + 1))
        return [Lost(spec, worker.attempt, worker.name, why) for spec in worker.specs]

    def _too_much(self, worker: _Worker, status: Status, why: str) -> list[Evaluation | Lost]:
        """Fail an evaluation that is too large or too slow; retry those of a bucket one by one."""
        self._replace(worker)
        if len(worker.specs) == 1:
            return [self._recorded(failed(worker.specs[0], status, why), worker)]
        self._queue.extendleft(((spec,), worker.attempt) for spec in reversed(worker.specs))
        return []

    def _late(self) -> list[_Worker]:
        """Workers that have passed their time limit; checked only once one may have."""
        if time.monotonic() < self._soonest:
            return []
        owing = [w for w in self._workers if any(ref in self._pending for ref in w.calls)]
        self._soonest = min((worker.limit for worker in owing), default=float("inf"))
        return [worker for worker in owing if worker.limit <= time.monotonic()]

    def _overdue(self, worker: _Worker) -> list[Evaluation | Lost]:
        if not worker.specs:
            return self._failed_to_start(worker, f"not done after {LOAD_SECONDS:.0f} s")
        if worker.failure and worker.failure.status is Status.LOST:
            self._replace(worker)
            return self._lost(worker, worker.failure.message)
        if worker.failure:
            return self._too_much(worker, worker.failure.status, worker.failure.message)
        why = f"over its limit of {self._resources.timeout:g} s (resources.timeout)"
        return self._too_much(worker, Status.TIMED_OUT, why)

    def _failed_to_start(self, worker: _Worker, why: str) -> list[Evaluation | Lost]:
        if worker.failed_starts + 1 >= FAILED_STARTS:
            raise ClusterError(
                f"{FAILED_STARTS} workers in a row failed to start or to load the base model and "
                f"the data{f', the last on {worker.name}' if worker.name else ''}: {why}"
            )
        self._replace(worker, worker.failed_starts + 1)
        return []


def _room(resources: Resources) -> tuple[Any, list[dict[str, Any]]]:
    """A placement group for the processes of a worker, close together, and options of each."""
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    each = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}
    group = placement_group([each] * resources.processes, strategy="PACK")
    return group, [
        {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, rank)}
        for rank in range(resources.processes)
    ]


def _end(worker: _Worker) -> None:
    """Kill the actors of a worker, and remove its placement group."""
    import ray
    from ray.util.placement_group import remove_placement_group

    for actor in worker.actors:
        ray.kill(actor)
    if worker.room is not None:
        remove_placement_group(worker.room)


def _broke_the_gpu(evaluation: Evaluation) -> bool:
    """True if the process can no longer use its GPU, as after a failed kernel.

    CUDA returns the same error for every later call; a new process starts with a sound device.
    """
    return evaluation.status is Status.ERROR and "CUDA error" in evaluation.message
