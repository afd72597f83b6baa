"""Actors, references and errors of the simulated Ray."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fitness.evaluation import EvaluationSpec
from tests.faults.world import Process

if TYPE_CHECKING:
    from tests.faults.fake_ray import FakeRay

Call = tuple["Ref", str, tuple[Any, ...]]  # its answer, method and arguments


class RayError(Exception):
    """Any error of Ray."""


class RayActorError(RayError):
    """The actor died."""


class RayTaskError(RayError):
    """The method raised `cause`."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class OutOfMemoryError(RayError):
    """Ray killed the process, as its machine had no memory left."""


class ObjectLostError(RayError):
    """An argument or the answer of a call is gone."""


class GetTimeoutError(RayError):
    """No answer came in time."""


class RaySystemError(RayError):
    """Ray itself failed."""


@dataclass(eq=False)
class Ref:
    """Reference to an object that may not be there yet."""

    ready: bool = False
    value: Any = None
    error: RayError | None = None

    def settle(self, value: Any = None, error: RayError | None = None) -> None:
        self.ready, self.value, self.error = True, value, error


@dataclass(eq=False)
class Node:
    """A machine; `room` counts the actors that it has a place for."""

    name: str
    room: int
    alive: bool = True


@dataclass(eq=False)
class Group:
    """A placement group: the actors of one worker."""

    actors: "list[Actor]" = field(default_factory=list)


@dataclass(frozen=True)
class Strategy:
    """Place of an actor: its group and its number there."""

    group: Group
    rank: int


class Actor:
    """An actor: its methods are called by `actor.method.remote(...)`, one after the other."""

    def __init__(self, ray: "FakeRay", make: Callable[[], Any], group: Group | None) -> None:
        self._ray = ray
        self.make = make
        self.group = group
        self.instance: Any = None
        self.node: Node | None = None
        self.process = Process("worker")
        self.alive = True
        self.calls: deque[Call] = deque()
        self.running: Call | None = None
        self.acted = False  # what runs has had its effects

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Ref:
            return self._ray.called(self, name, arguments)

        return SimpleNamespace(remote=remote)

    @property
    def specs(self) -> tuple[EvaluationSpec, ...]:
        """Specs that it is evaluating."""
        evaluates = self.running is not None and self.running[1] == "evaluate"
        return self.running[2][0] if self.running is not None and evaluates else ()

    @property
    def at_stake(self) -> tuple[EvaluationSpec, ...]:
        """Specs whose evaluation is lost if it dies: its own, or those of its peers."""
        peers = self.group.actors if self.group else ()
        return self.specs or next((peer.specs for peer in peers if peer.specs), ())


class ActorClass:
    """The class of actors, as `ray.remote(...)` returns it."""

    def __init__(self, ray: "FakeRay", kind: type, group: Group | None = None) -> None:
        self._ray, self._kind, self._group = ray, kind, group

    def options(self, name: str = "", scheduling_strategy: Any = None) -> "ActorClass":
        group = None if scheduling_strategy is None else scheduling_strategy.group
        return ActorClass(self._ray, self._kind, group)

    def remote(self, *arguments: Any) -> Actor:
        self._ray.world.step("start of an actor")
        return self._ray.started(lambda: self._kind(*map(resolved, arguments)), self._group)


def resolved(argument: Any) -> Any:
    return argument.value if isinstance(argument, Ref) else argument
