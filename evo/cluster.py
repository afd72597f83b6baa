"""Ray: warm workers that each hold the base model and the data, and what becomes of lost ones.

The only importer of ray. A worker that dies, or whose node does, is replaced and its evaluation
goes to the next free one: `lost` is charged to nobody. An evaluation over its time limit is
killed with its worker and recorded as `timed_out`.
"""

import os
import socket
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.config import Resources
from evo.machine import available_cpus, reach, variables_set, worker_variables
from evo.shipping import files_of, missing, moved, stored
from fitness.errors import InputError
from fitness.evaluate import Evaluation, EvaluationSpec, Status, Task, failed

if TYPE_CHECKING:
    import ray

BIRTH_SECONDS = 300.0
FAILED_BIRTHS = 3
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
    """One actor: being born until `name` is known, then idle or busy with `spec`."""

    actor: Any
    waiting_for: "ray.ObjectRef | None"
    name: str = ""
    spec: EvaluationSpec | None = None
    started: float = field(default_factory=time.time)


class _Evaluator:
    """Runs in a worker process: the one place that holds a base model."""

    def __init__(self, task: Task, files: "Mapping[Path, ray.ObjectRef]") -> None:
        from fitness.evaluate import Evaluator

        self._evaluator = Evaluator(moved(task, _fetched(files)))

    def name(self) -> str:
        return f"{socket.gethostname()}/{os.getpid()}"

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        return self._evaluator.evaluate(spec)


class Cluster:
    """A queue of evaluations before a fixed number of warm workers."""

    def __init__(self, resources: Resources, task: Task, *, import_paths: Iterable[Path] = ()):
        """Connect, or start Ray on this machine, and begin to start the workers."""
        import ray

        self._resources = resources
        self._queue: deque[tuple[EvaluationSpec, int]] = deque()
        self._attempts: dict[EvaluationSpec, int] = {}
        self._failed_births = 0
        _connect(resources, worker_variables(resources.cpus, import_paths))
        self._files = {} if resources.address == "local" else _put(_missing_somewhere(task))
        self._task = ray.put(task)
        self._remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=0)(
            _Evaluator
        )
        self.size = resources.workers or _fitting(resources)
        self._workers = [self._birth() for _ in range(self.size)]
        self.busy_seconds = 0.0

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
        limits = [self._deadline(w) for w in waiting.values()]
        patience = max(0.0, min([seconds, *(limit - time.time() for limit in limits)]))
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=patience) if waiting else ([], [])
        if ready:  # whatever else is ready by now comes along
            ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        results = [result for ref in ready for result in self._finished(waiting[ref])]
        results += [r for w in list(self._workers) for r in self._overdue(w)]
        self._dispatch()
        return results

    def close(self) -> None:
        """Stop every worker at once, and Ray too if it was started here."""
        import ray

        for worker in self._workers:
            ray.kill(worker.actor)
        ray.shutdown()

    def _birth(self) -> _Worker:
        actor = self._remote.remote(self._task, self._files)
        return _Worker(actor, actor.name.remote())

    def _replace(self, worker: _Worker) -> None:
        self._workers[self._workers.index(worker)] = self._birth()

    def _deadline(self, worker: _Worker) -> float:
        return worker.started + (self._resources.timeout if worker.spec else BIRTH_SECONDS)

    def _dispatch(self) -> None:
        for worker in self._workers:
            if self._queue and worker.name and worker.spec is None:
                worker.spec, attempt = self._queue.popleft()
                self._attempts[worker.spec] = attempt
                worker.started = time.time()
                worker.waiting_for = worker.actor.evaluate.remote(worker.spec)

    def _finished(self, worker: _Worker) -> list[Evaluation | Lost]:
        import ray

        spec, ref = worker.spec, worker.waiting_for
        try:
            value = ray.get(ref)
        except ray.exceptions.OutOfMemoryError as error:
            self._replace(worker)
            if spec is None:
                return self._stillborn(error)
            return [self._recorded(failed(spec, Status.OUT_OF_MEMORY, error), worker)]
        except (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError) as error:
            self._replace(worker)
            return self._stillborn(error) if spec is None else self._lost(worker, spec, error)
        worker.spec = worker.waiting_for = None
        if spec is None:
            worker.name, self._failed_births = value, 0
            return []
        return [self._recorded(value, worker)]

    def _recorded(self, evaluation: Evaluation, worker: _Worker) -> Evaluation:
        finished = time.time()
        self.busy_seconds += finished - worker.started
        del self._attempts[evaluation.spec]
        return replace(evaluation, worker=worker.name, started=worker.started, finished=finished)

    def _lost(
        self, worker: _Worker, spec: EvaluationSpec, error: Exception
    ) -> list[Evaluation | Lost]:
        attempt = self._attempts[spec]
        message = str(error).strip().splitlines()[0]
        if attempt > self._resources.retries:
            why = f"its worker died {attempt} times, the last time: {message}"
            return [self._recorded(failed(spec, Status.LOST, why), worker)]
        self._queue.appendleft((spec, attempt + 1))
        return [Lost(spec, attempt, worker.name, message)]

    def _overdue(self, worker: _Worker) -> list[Evaluation | Lost]:
        import ray

        if worker.waiting_for is None or time.time() < self._deadline(worker):
            return []
        if worker.spec is None:
            worker.started = time.time()
            if any(other.name for other in self._workers):
                return []  # the others work; this one waits for the cluster to have room
            raise ClusterError(
                f"no worker came up within {BIRTH_SECONDS:.0f} s: the cluster has no room for "
                f"{self._resources.cpus} CPUs and {self._resources.gpus} GPUs; ask for less in "
                "`resources` or free some, then resume"
            )
        ray.kill(worker.actor)
        self._replace(worker)
        why = f"over its limit of {self._resources.timeout:g} s (resources.timeout)"
        return [self._recorded(failed(worker.spec, Status.TIMED_OUT, why), worker)]

    def _stillborn(self, error: Exception) -> list[Evaluation | Lost]:
        self._failed_births += 1
        if self._failed_births >= FAILED_BIRTHS:
            why = [line for line in str(error).splitlines() if line.strip()][-1].strip()
            raise ClusterError(f"workers die while they load the base model and the data: {why}")
        return []


def _connect(resources: Resources, variables: dict[str, str]) -> None:
    """Start Ray here, or connect to a cluster within a bounded time."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    local = resources.address == "local"
    if not local:
        reach(resources.address)
    packages = [str(Path(__file__).parents[1] / name) for name in PACKAGES]
    settings: dict[str, Any] = {"runtime_env": {"env_vars": variables, "py_modules": packages}}
    if local:  # workers inherit this process's variables, which is a second faster
        settings = {"include_dashboard": False, "num_cpus": _logical_cpus(resources)}
    try:
        with variables_set(variables if local else {}):
            ray.init(
                address=resources.address, log_to_driver=False, logging_level="ERROR", **settings
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"resources.address {resources.address!r}: cannot connect to Ray "
            f"({str(error).strip().splitlines()[0]}); is the cluster up? `ray status` there tells"
        ) from None


def _missing_somewhere(task: Task) -> list[Path]:
    """The task's files that some machine of the cluster does not have under the same path."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    wanted = {path: path.stat().st_size for path in files_of(task)}
    look = ray.remote(num_cpus=0)(missing)
    answers = [
        look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)
        ).remote(wanted)
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted({path for answer in ray.get(answers) for path in answer})


def _put(paths: Iterable[Path]) -> "dict[Path, ray.ObjectRef]":
    """The files' contents in the object store, of which each machine keeps one copy."""
    import ray

    return {path: ray.put(path.read_bytes()) for path in paths}


def _fetched(files: "Mapping[Path, ray.ObjectRef]") -> dict[Path, Path]:
    """Runs on a worker: its own copy of each file that is not there, by the original path."""
    import ray

    absent = [path for path in files if not path.exists()]
    return {path: stored(path, ray.get(files[path])) for path in absent}


def _logical_cpus(resources: Resources) -> int:
    """More workers than cores may be asked for; Ray must then be told that there is room."""
    wanted = (resources.workers or 0) * resources.cpus
    return max(wanted, available_cpus())


def _fitting(resources: Resources) -> int:
    """As many workers as the cluster has room for, at least one."""
    import ray

    total = ray.cluster_resources()
    by_cpu = int(total.get("CPU", 0) // resources.cpus)
    by_gpu = int(total.get("GPU", 0) / resources.gpus) if resources.gpus else by_cpu
    fitting = min(by_cpu, by_gpu)
    if fitting < 1:
        raise InputError(
            f"resources: a worker needs {resources.cpus} CPUs and {resources.gpus} GPUs, the "
            f"cluster has {total.get('CPU', 0):g} and {total.get('GPU', 0):g}; ask for less"
        )
    return fitting
