"""Ray: warm workers that each hold the base model and the data, and what becomes of lost ones.

The only importer of ray. A worker that dies, or whose node does, is replaced and its evaluation
goes to the next free one: `lost` is charged to nobody. An evaluation over its time limit is
killed with its worker and recorded as `timed_out`.
"""

import os
import socket
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.config import Resources
from evo.machine import fitting, logical_cpus, reach, set_token, variables_set, worker_variables
from evo.shipping import lacking, marks, moved, own_modules, stored
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed

if TYPE_CHECKING:
    import ray

Marks = Mapping[Path, str | int]

ROOM_SECONDS = 120.0  # without any worker, before the search gives up
TELL_SECONDS = 10.0
LOAD_SECONDS = 300.0
TRY_SECONDS = 300.0  # of measuring the size of a bucket
LOOK_SECONDS = 0.01  # between looks at many workers while evaluations are submitted
FAILED_BIRTHS = 3  # in a row, in one place
PACKAGES = ("evo", "population", "fitness")


class ClusterError(Exception):
    """The cluster cannot go on; the run can be resumed. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An attempt that died with its worker; the evaluation is tried again."""

    spec: EvaluationSpec
    attempt: int
    worker: str
    message: str


@dataclass(slots=True)
class _Worker:
    """One actor, and the answer it owes: its name (once it has a place), that it has loaded the
    base model and the data, or the evaluations of one or several specs."""

    actor: Any
    failed_births: int
    waiting_for: "ray.ObjectRef | None" = None
    name: str = ""
    specs: tuple[EvaluationSpec, ...] = ()
    attempt: int = 0
    started: float = 0.0  # Unix seconds, for the record
    limit: float = float("inf")  # of time.monotonic()


class _Evaluator:
    """Runs in a worker process: the one place that holds a base model."""

    def __init__(self, task: Task, wanted: Marks) -> None:
        self._task = task
        self._wanted = wanted

    def name(self) -> str:
        return f"{socket.gethostname()}/{os.getpid()}"

    def load(self, contents: "Mapping[Path, ray.ObjectRef]") -> list[Path]:
        """Load, or return the files to send because they are not on this machine."""
        import ray

        from fitness.evaluate import Evaluator

        absent = lacking(self._task, self._wanted)
        if not contents and absent:
            return absent
        copies = {path: stored(path, ray.get(contents[path]), self._wanted) for path in contents}
        self._evaluator = Evaluator(moved(self._task, copies))
        return []

    def fastest_bucket(self, recipe: Mapping[str, Any]) -> int:
        return self._evaluator.fastest_bucket(recipe)

    def evaluate(self, specs: tuple[EvaluationSpec, ...]) -> list[Evaluation]:
        if len(specs) == 1:
            return [self._evaluator.evaluate(specs[0])]
        return self._evaluator.evaluate_bucket(specs)


class Cluster:
    """A queue of evaluations before a fixed number of warm workers."""

    def __init__(self, resources: Resources, task: Task, *, import_paths: Iterable[Path] = ()):
        """Connect, or start Ray on this machine, and begin to start the workers."""
        _connect(resources, task, list(import_paths))
        import ray

        self._resources = resources
        self._queue: deque[tuple[tuple[EvaluationSpec, ...], int]] = deque()
        self._contents: dict[Path, ray.ObjectRef] = {}
        self._workers: list[_Worker] = []
        self._free: deque[_Worker] = deque()
        self._owed: dict[ray.ObjectRef, _Worker] = {}
        self._seen: list[Evaluation | Lost] = []  # until the next poll
        self._looked = 0.0  # when
        self._soonest = float("inf")  # no limit is before it, of time.monotonic()
        self._homeless_since: float | None = None
        self.busy_seconds = 0.0
        try:
            self.size = fitting(resources, [n["Resources"] for n in ray.nodes() if n["Alive"]])
            self._task = ray.put(task)
            self._wanted = ray.put({} if resources.address == "local" else marks(task))
            self._remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(_Evaluator)
            self._workers = [self._birth() for _ in range(self.size)]
        except BaseException:
            self.close()
            raise

    def fastest_bucket(self, recipe: Mapping[str, Any]) -> int:
        """How large a bucket of such recipes the first worker that is there trains fastest.

        1 where that takes too long, or the worker dies of it.
        """
        import ray

        while not self._free:
            self._look(LOOK_SECONDS)
            self._check_room()
        worker = self._free.popleft()
        try:
            size: int = ray.get(worker.actor.fastest_bucket.remote(recipe), timeout=TRY_SECONDS)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            self._replace(worker)
            return 1
        self._free.append(worker)
        return size

    def submit(self, *specs: EvaluationSpec) -> None:
        """Queue an evaluation, or those of a bucket; `poll` returns each when it is done.

        Whoever has finished meanwhile takes the next: many may be submitted before the next poll.
        """
        self._queue.append((specs, 1))
        if self._free:
            self._dispatch()
        elif time.monotonic() > self._looked + LOOK_SECONDS:
            self._look(0.0)

    def cancel_queued(self) -> int:
        """Forget what no worker has started; how many that was."""
        cancelled = sum(len(specs) for specs, _ in self._queue)
        self._queue.clear()
        return cancelled

    @property
    def busy(self) -> int:
        """Number of evaluations that run right now, or that the next poll returns."""
        return len(self._seen) + sum(len(worker.specs) for worker in self._workers)

    def poll(self, seconds: float) -> list[Evaluation | Lost]:
        """What has finished or died, after waiting at most `seconds` for the first of it."""
        if not self._seen:
            self._look(seconds)
        self._check_room()
        results, self._seen = self._seen, []
        return results

    def _look(self, seconds: float) -> None:
        """See what has finished or died, and give the queue to whoever is free."""
        import ray

        if not self._owed:
            time.sleep(seconds)
            return
        waiting = list(self._owed)
        with _connection():
            limit = self._soonest - time.monotonic()
            ready, _ = ray.wait(waiting, timeout=max(0.0, min(seconds, limit)))
            if ready:  # whatever else is ready by now comes along
                ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            for ref in ready:
                self._seen += self._answered(self._owed.pop(ref))
            for worker in self._late():
                self._seen += self._overdue(worker)
            self._dispatch()
        self._looked = time.monotonic()

    def close(self) -> None:
        """Stop every worker at once, and Ray too if it was started here."""
        import ray

        for worker in self._workers if ray.is_initialized() else []:
            with suppress(Exception):  # of a cluster that may be gone
                ray.kill(worker.actor)
        ray.shutdown()

    def _birth(self, failed_births: int = 0) -> _Worker:
        actor = self._remote.remote(self._task, self._wanted)
        worker = _Worker(actor, failed_births)
        self._owes(worker, actor.name.remote())
        return worker

    def _owes(
        self, worker: _Worker, answer: "ray.ObjectRef", seconds: float = float("inf")
    ) -> None:
        worker.limit = time.monotonic() + seconds
        self._soonest = min(self._soonest, worker.limit)
        worker.waiting_for = answer
        self._owed[answer] = worker

    def _replace(self, worker: _Worker, failed_births: int = 0) -> None:
        """Another actor in its place; the old one may live where only the connection broke."""
        import ray

        ray.kill(worker.actor)
        self._owed.pop(worker.waiting_for, None)
        self._workers[self._workers.index(worker)] = self._birth(failed_births)

    def _dispatch(self) -> None:
        while self._queue and self._free:
            worker = self._free.popleft()
            worker.specs, worker.attempt = self._queue.popleft()
            worker.started = time.time()
            answer = worker.actor.evaluate.remote(worker.specs)
            self._owes(worker, answer, self._resources.timeout * len(worker.specs))

    def _answered(self, worker: _Worker) -> list[Evaluation | Lost]:
        import ray

        specs, answer = worker.specs, worker.waiting_for
        try:
            value = ray.get(answer)
        except ray.exceptions.OutOfMemoryError as error:
            if not specs:
                return self._stillborn(worker, _reason(error))
            return self._too_much(worker, Status.OUT_OF_MEMORY, str(error))
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            if not specs:
                return self._stillborn(worker, _reason(error))
            self._replace(worker)
            return self._lost(worker, _reason(error))
        except ray.exceptions.RayTaskError as error:
            if specs:
                raise  # a bug: Evaluator.evaluate turns all else into data
            if isinstance(error.cause, InputError):
                raise InputError(f"worker {worker.name}: {error.cause}") from None
            return self._stillborn(worker, _reason(error.cause))
        worker.waiting_for = None
        if specs:
            self._free.append(worker)
            recorded: list[Evaluation | Lost] = [self._recorded(one, worker) for one in value]
            worker.specs = ()
            return recorded
        if not worker.name:
            worker.name = value
            self._load(worker, [])
        elif value:
            self._load(worker, value)
        else:
            worker.failed_births = 0
            self._free.append(worker)
        return []

    def _load(self, worker: _Worker, absent: list[Path]) -> None:
        """Let it load, and send what its machine lacks through the object store."""
        import ray

        for path in absent:
            if path not in self._contents:
                self._contents[path] = ray.put(path.read_bytes())
        contents = {path: self._contents[path] for path in absent}
        self._owes(worker, worker.actor.load.remote(contents), LOAD_SECONDS)

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
        """What an evaluation fails by; a bucket is taken apart, and each tried alone."""
        self._replace(worker)
        if len(worker.specs) == 1:
            return [self._recorded(failed(worker.specs[0], status, why), worker)]
        self._queue.extendleft(((spec,), worker.attempt) for spec in reversed(worker.specs))
        return []

    def _late(self) -> list[_Worker]:
        """Who has passed a limit; nobody is looked at before one can be passed."""
        if time.monotonic() < self._soonest:
            return []
        owing = list(self._owed.values())
        self._soonest = min((worker.limit for worker in owing), default=float("inf"))
        return [worker for worker in owing if worker.limit <= time.monotonic()]

    def _overdue(self, worker: _Worker) -> list[Evaluation | Lost]:
        if not worker.specs:
            return self._stillborn(worker, f"not done after {LOAD_SECONDS:.0f} s")
        why = f"over its limit of {self._resources.timeout:g} s (resources.timeout)"
        return self._too_much(worker, Status.TIMED_OUT, why)

    def _stillborn(self, worker: _Worker, why: str) -> list[Evaluation | Lost]:
        if worker.failed_births + 1 >= FAILED_BIRTHS:
            raise ClusterError(
                f"{FAILED_BIRTHS} workers in a row failed to start or to load the base model and "
                f"the data{f', the last on {worker.name}' if worker.name else ''}: {why}"
            )
        self._replace(worker, worker.failed_births + 1)
        return []

    def _check_room(self) -> None:
        """Say so where no worker at all has a place, and give up after a while."""
        if any(worker.name for worker in self._workers):
            self._homeless_since = None
            return
        now = time.monotonic()
        self._homeless_since = self._homeless_since or now
        room = f"a worker of {self._resources.cpus} CPUs and {self._resources.gpus:g} GPUs"
        if now > self._homeless_since + ROOM_SECONDS:
            raise ClusterError(
                f"no machine of the cluster had room for {room} within {ROOM_SECONDS:.0f} s; ask "
                "for less in `resources`, free some or add a machine, then resume"
            )
        if now > self._homeless_since + TELL_SECONDS:
            warnings.warn(
                f"no machine of the cluster has room for {room}; waiting {ROOM_SECONDS:.0f} s "
                "in all for one",
                stacklevel=2,
            )


def _reason(error: BaseException) -> str:
    """The line of an error that says why: Ray surrounds it with much else."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("The actor is dead because")]
    return (told or [f"{type(error).__name__}: {lines[-1] if lines else ''}"])[0]


@contextmanager
def _connection() -> Iterator[None]:
    """A cluster that is gone is not a bug."""
    import ray

    try:
        yield
    except (ConnectionError, ray.exceptions.RaySystemError) as error:
        raise ClusterError(f"the connection to the cluster broke ({_reason(error)})") from None


def _connect(resources: Resources, task: Task, import_paths: list[Path]) -> None:
    """Start Ray here, or connect to a cluster within a bounded time."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # never to another cluster by itself
    set_token(resources.address)
    import ray  # reads those variables

    local = resources.address == "local"
    variables = worker_variables(resources.cpus, import_paths)
    settings: dict[str, Any]
    if local:  # workers inherit this process's variables, which is a second faster
        settings = {"include_dashboard": False, "num_cpus": logical_cpus(resources)}
    else:
        reach(resources.address)
        packages = [Path(__file__).parents[1] / name for name in PACKAGES]
        modules = [str(path) for path in (*packages, *own_modules(task, import_paths))]
        settings = {"runtime_env": {"env_vars": variables, "py_modules": modules}}
    try:
        with variables_set(variables if local else {}):
            ray.init(
                address=resources.address, log_to_driver=False, logging_level="ERROR", **settings
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(
            f"resources.address {resources.address!r}: cannot connect to Ray ({_reason(error)}); "
            "is the cluster up? `ray status` there tells"
        ) from None
    # raylets' complaints would go to standard output, among the facts of --json
    ray._private.worker._worker_logs_enabled = False
