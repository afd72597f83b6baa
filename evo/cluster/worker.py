"""A worker: its processes, the phases that it goes through, and why Ray drops one.

A worker is one actor, or several that train each individual together. It is `starting` until its
actors have a place on a machine, then `loading` the base model and the data, `meeting` if it has
several processes, and from then on `idle` or `evaluating`; once another worker is lost, an idle one
is `checked` before it evaluates, since a machine may have taken all of its workers with it.
"""

import itertools
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.cluster.activity import Phase
from evo.cluster.shipping import missing, moved, stored
from evo.config import Resources
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task

if TYPE_CHECKING:
    import ray

Marks = Mapping[Path, str | int]

METHODS: Mapping[Phase, str] = {  # of the actors, which all are called when a phase begins
    "starting": "name",
    "loading": "load",
    "meeting": "meet",
    "checked": "name",
    "evaluating": "evaluate",
}


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
        self._task = moved(self._task, copies)
        self._evaluator = Evaluator(self._task)
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
        from fitness.merging.exchange import exchanged

        with exchanged(self._task, specs):
            if len(specs) == 1:
                return [self._evaluator.evaluate(specs[0])]
            return self._evaluator.evaluate_bucket(specs)


class Dropped(Exception):
    """A call that an actor did not answer.

    `status` says why: OUT_OF_MEMORY if Ray killed the process because its machine had no memory
    left, LOST if the process, its machine or an argument of the call is gone, ERROR if the call
    raised `cause`. Otherwise the cause is Ray's `error` itself.
    """

    def __init__(self, status: Status, error: Exception, cause: BaseException) -> None:
        super().__init__(status, error, cause)
        self.status = status
        self.error = error
        self.cause = cause


@dataclass(slots=True)
class Worker:
    """State of a worker: its actors, the first of which leads, its phase, and its pending calls."""

    actors: list[Any]
    failed_starts: int
    room: object = None  # placement group of several actors
    calls: "list[ray.ObjectRef]" = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)  # to pending calls, by actor's number
    name: str = ""
    phase: Phase = "starting"
    since: float = 0.0  # Unix seconds, of the phase
    specs: tuple[EvaluationSpec, ...] = ()
    attempt: int = 0
    started: float = 0.0  # Unix seconds, for the record
    begun: float = 0.0  # when the phase began, of time.monotonic(): the clock may be set
    limit: float = float("inf")  # of time.monotonic()
    failure: Evaluation | None = None  # of a process while the others may wait for it

    def begin(self, phase: Phase, *given: Any, seconds: float) -> None:
        """Begin a phase: call its method of all actors, which have so long to answer."""
        self.phase, self.since, self.begun = phase, time.time(), time.monotonic()
        self.limit = self.begun + seconds
        self.calls = [getattr(actor, METHODS[phase]).remote(*given) for actor in self.actors]
        self.answers = {}

    def rest(self) -> None:
        """Begin the phase without calls, in which a worker waits for its next evaluation."""
        self.phase, self.since = "idle", time.time()

    def receive(self, call: "ray.ObjectRef") -> int:
        """Receive an actor's answer; return the actor's number. Raises Dropped if it has none."""
        import ray

        place = self.calls.index(call)
        try:
            self.answers[place] = ray.get(call)
        except ray.exceptions.OutOfMemoryError as error:
            raise Dropped(Status.OUT_OF_MEMORY, error, error) from None
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            raise Dropped(Status.LOST, error, error) from None
        except ray.exceptions.RayTaskError as error:
            raise Dropped(Status.ERROR, error, error.cause) from None
        return place

    @property
    def answered(self) -> bool:
        """True once all actors have answered the calls of the phase."""
        return len(self.answers) == len(self.actors)

    def end(self) -> None:
        """Kill the actors, and remove their placement group."""
        import ray
        from ray.util.placement_group import remove_placement_group

        for actor in self.actors:
            ray.kill(actor)
        if self.room is not None:
            remove_placement_group(self.room)


def actor_class(resources: Resources) -> object:
    """Ray's class of actors for a worker's processes, each with its CPUs and GPUs."""
    import ray

    return ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(_Evaluator)


def start(remote: Any, resources: Resources, title: str, *given: Any, failed_starts: int) -> Worker:
    """Start the actors of a worker, without waiting for them; `given` to each, and its number.

    They are named by `title`, which no worker of this driver had before: Ray gives a name free
    only some time after its actor was killed. Names of other drivers are in their own namespace.
    """
    room, places = _room(resources) if resources.processes > 1 else (None, [{}])
    actors = []
    for rank, place in enumerate(places):
        name = title if len(places) == 1 else f"{title}/process-{rank}"
        actors.append(remote.options(name=name, **place).remote(*given, rank))
    return Worker(actors, failed_starts, room)


def titles(task: Task) -> Iterator[str]:
    """Names for the actors of a run's workers, without end: `runs/first/worker-1`.

    `ray list actors` and Ray's dashboard show them.
    """
    run = task.artifacts.parent.parts[-2:] if task.artifacts else ("evo",)
    return (f"{'/'.join(run)}/worker-{number}" for number in itertools.count(1))


def _room(resources: Resources) -> tuple[object, list[dict[str, object]]]:
    """A placement group for the processes of a worker, close together, and options of each."""
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    each = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}
    group = placement_group([each] * resources.processes, strategy="PACK")
    return group, [
        {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, rank)}
        for rank in range(resources.processes)
    ]


def broke_the_gpu(evaluation: Evaluation) -> bool:
    """True if the process can no longer use its GPU, as after a failed kernel.

    CUDA returns the same error for every later call; a new process starts with a sound device.
    """
    return evaluation.status is Status.ERROR and "CUDA error" in evaluation.message
