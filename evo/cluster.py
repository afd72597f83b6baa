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
    base model and the data, or an evaluation."""

    actor: Any
    waiting_for: "ray.ObjectRef | None"
    failed_births: int
    name: str = ""
    loaded: bool = False
    spec: EvaluationSpec | None = None
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

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        return self._evaluator.evaluate(spec)


class Cluster:
    """A queue of evaluations before a fixed number of warm workers."""

    def __init__(self, resources: Resources, task: Task, *, import_paths: Iterable[Path] = ()):
        """Connect, or start Ray on this machine, and begin to start the workers."""
        _connect(resources, task, list(import_paths))
        import ray

        self._resources = resources
        self._queue: deque[tuple[EvaluationSpec, int]] = deque()
        self._contents: dict[Path, ray.ObjectRef] = {}
        self._workers: list[_Worker] = []
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

    def submit(self, spec: EvaluationSpec) -> None:
        """Queue an evaluation; `poll` returns it when it is done."""
        self._queue.append((spec, 1))
        self._dispatch()

    def cancel_queued(self) -> int:
        """Forget what no worker has started; how many that was."""
        cancelled = len(self._queue)
        self._queue.clear()
        return cancelled

    @property
    def busy(self) -> int:
        """Number of workers that evaluate right now."""
        return sum(worker.spec is not None for worker in self._workers)

    def poll(self, seconds: float) -> list[Evaluation | Lost]:
        """What has finished or died, after waiting at most `seconds` for the first of it."""
        import ray

        waiting = {w.waiting_for: w for w in self._workers if w.waiting_for is not None}
        if not waiting:
            time.sleep(seconds)
            return []
        soonest = min(worker.limit for worker in waiting.values()) - time.monotonic()
        with _connection():
            ready, _ = ray.wait(list(waiting), timeout=max(0.0, min(seconds, soonest)))
            if ready:  # whatever else is ready by now comes along
                ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            results = [result for ref in ready for result in self._answered(waiting[ref])]
            results += [r for worker in list(self._workers) for r in self._overdue(worker)]
            self._dispatch()
        self._check_room()
        return results

    def close(self) -> None:
        """Stop every worker at once, and Ray too if it was started here."""
        import ray

        for worker in self._workers if ray.is_initialized() else []:
            with suppress(Exception):  # of a cluster that may be gone
                ray.kill(worker.actor)
        ray.shutdown()

    def _birth(self, failed_births: int = 0) -> _Worker:
        actor = self._remote.remote(self._task, self._wanted)
        return _Worker(actor, actor.name.remote(), failed_births)

    def _replace(self, worker: _Worker, failed_births: int = 0) -> None:
        """Another actor in its place; the old one may live where only the connection broke."""
        import ray

        ray.kill(worker.actor)
        self._workers[self._workers.index(worker)] = self._birth(failed_births)

    def _dispatch(self) -> None:
        for worker in self._workers:
            if self._queue and worker.loaded and worker.spec is None:
                worker.spec, worker.attempt = self._queue.popleft()
                worker.started = time.time()
                worker.limit = time.monotonic() + self._resources.timeout
                worker.waiting_for = worker.actor.evaluate.remote(worker.spec)

    def _answered(self, worker: _Worker) -> list[Evaluation | Lost]:
        import ray

        spec, answer = worker.spec, worker.waiting_for
        try:
            value = ray.get(answer)
        except ray.exceptions.OutOfMemoryError as error:
            if spec is None:
                return self._stillborn(worker, _reason(error))
            self._replace(worker)
            return [self._recorded(failed(spec, Status.OUT_OF_MEMORY, error), worker)]
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            if spec is None:
                return self._stillborn(worker, _reason(error))
            self._replace(worker)
            return self._lost(worker, spec, _reason(error))
        except ray.exceptions.RayTaskError as error:
            if spec is not None:
                raise  # a bug: Evaluator.evaluate turns all else into data
            if isinstance(error.cause, InputError):
                raise InputError(f"worker {worker.name}: {error.cause}") from None
            return self._stillborn(worker, _reason(error.cause))
        worker.spec = worker.waiting_for = None
        worker.limit = float("inf")
        if spec is not None:
            return [self._recorded(value, worker)]
        if not worker.name:
            worker.name = value
            self._load(worker, [])
        elif value:
            self._load(worker, value)
        else:
            worker.loaded, worker.failed_births = True, 0
        return []

    def _load(self, worker: _Worker, absent: list[Path]) -> None:
        """Let it load, and send what its machine lacks through the object store."""
        import ray

        for path in absent:
            if path not in self._contents:
                self._contents[path] = ray.put(path.read_bytes())
        contents = {path: self._contents[path] for path in absent}
        worker.limit = time.monotonic() + LOAD_SECONDS
        worker.waiting_for = worker.actor.load.remote(contents)

    def _recorded(self, evaluation: Evaluation, worker: _Worker) -> Evaluation:
        finished = time.time()
        self.busy_seconds += finished - worker.started
        return replace(evaluation, worker=worker.name, started=worker.started, finished=finished)

    def _lost(self, worker: _Worker, spec: EvaluationSpec, why: str) -> list[Evaluation | Lost]:
        if worker.attempt > self._resources.retries:
            why = f"its worker died {worker.attempt} times, the last time: {why}"
            return [self._recorded(failed(spec, Status.LOST, why), worker)]
        self._queue.appendleft((spec, worker.attempt + 1))
        return [Lost(spec, worker.attempt, worker.name, why)]

    def _overdue(self, worker: _Worker) -> list[Evaluation | Lost]:
        if time.monotonic() < worker.limit:
            return []
        if worker.spec is None:
            return self._stillborn(worker, f"not done after {LOAD_SECONDS:.0f} s")
        self._replace(worker)
        why = f"over its limit of {self._resources.timeout:g} s (resources.timeout)"
        return [self._recorded(failed(worker.spec, Status.TIMED_OUT, why), worker)]

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
