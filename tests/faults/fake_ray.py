"""The part of Ray that `evo.cluster` calls, in one process and in the virtual time of a world.

Calls of actors are events: they begin once the actor has a place on a machine, act on the disk at
some moment, and are answered later, or never, as actors and machines die before, during or after.
"""

import heapq
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from fitness.evaluation import EvaluationSpec, Status, failed
from tests.faults.actors import (
    Actor,
    ActorClass,
    GetTimeoutError,
    Group,
    Node,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    Ref,
    Strategy,
    resolved,
)
from tests.faults.synthetic import Hangs, KillsItsWorker, OutOfMemory
from tests.faults.world import Died, World

DEAD = "The actor is dead because its worker process has died."
MEMORY = "Task was killed due to the node running low on memory."
TIMES = {"name": 0.5, "load": 3.0, "meet": 1.0, "meeting_place": 0.1}  # seconds, at most
EVALUATION = 0.5  # seconds, at least
SURVIVABLE = 3  # deaths of an evaluation that do not count against it: resources.retries
ORPHAN = "orphan"  # name of a worker whose driver has died
BACK = 10.0  # seconds until a machine is back, on average


class FakeRay:
    """A cluster of Ray for the lifetime of one driver."""

    def __init__(self, world: World, nodes: Sequence[int]) -> None:
        self.world = world
        self.machines = [Node(f"node-{place}", room) for place, room in enumerate(nodes)]
        self.ended = ""  # the process of Ray on this machine that has ended
        self.silent_until = 0.0  # the head answers nothing before
        self.actors: list[Actor] = []
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._deaths: Counter[EvaluationSpec] = Counter()

    # Ray's own interface

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": n.alive, "Resources": {"CPU": n.room}} for n in self.machines]

    def put(self, value: Any) -> Ref:
        self.world.step("ray.put")
        return Ref(True, value)

    def get(self, ref: Ref, timeout: float | None = None) -> Any:
        self.world.step("ray.get")
        limit = float("inf") if timeout is None else self.world.now + timeout
        self._run(limit, lambda: ref.ready)
        if not ref.ready:
            raise GetTimeoutError
        if ref.error is not None:
            raise ref.error
        return ref.value

    def wait(
        self, refs: list[Ref], *, timeout: float, num_returns: int = 1
    ) -> tuple[list[Ref], list[Ref]]:
        self.world.step("ray.wait")
        if timeout:
            self._happenings()
        self._run(self.world.now + timeout, lambda: any(ref.ready for ref in refs))
        ready = [ref for ref in refs if ref.ready]
        self.world.rng.shuffle(ready)
        return ready[:num_returns], [ref for ref in refs if ref not in ready[:num_returns]]

    def kill(self, actor: Actor) -> None:
        self.world.step("ray.kill")
        actor.calls.clear()
        self._end(actor, None)

    def remote(self, **_: Any) -> Callable[[type], ActorClass]:
        return lambda kind: ActorClass(self, kind)

    def is_initialized(self) -> bool:
        return True

    def get_gpu_ids(self) -> list[int]:
        return []

    # What happens in the cluster

    def waiting(self) -> int:
        """Number of actors without a place."""
        return sum(actor.alive and actor.node is None for actor in self.actors)

    def orphans(self) -> list[Callable[[], object]]:
        """Evaluations that go on for a moment without their driver, which has died."""
        left = [one for one in self.actors if one.alive and one.specs and not one.acted]
        left = [one for one in left if self.world.chance(self.world.weather.orphans)]
        for one in left:
            one.process.name = ORPHAN
        return [partial(self._act, one) for one in left]

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Let something happen in so many seconds."""
        self._count += 1
        heapq.heappush(self._agenda, (self.world.now + seconds, self._count, action))

    def started(self, make: Callable[[], Any], group: Group | None) -> Actor:
        actor = Actor(self, make, group)
        self.actors = [one for one in self.actors if one.alive] + [actor]
        if group is not None:
            group.actors.append(actor)
        self._place()
        return actor

    def called(self, actor: Actor, method: str, arguments: tuple[Any, ...]) -> Ref:
        self.world.step(f"call of {method}")
        ref = Ref()
        if actor.alive:
            actor.calls.append((ref, method, arguments))
            self._next(actor)
        else:
            ref.settle(error=RayActorError(DEAD))
        return ref

    def _run(self, deadline: float, enough: Callable[[], bool]) -> None:
        """Let everything happen up to a time, or until it is enough."""
        world = self.world
        while not enough() and self._agenda and self._agenda[0][0] <= deadline:
            moment, _, action = heapq.heappop(self._agenda)
            world.now = max(world.now, moment)
            action()
        if not enough() and deadline < float("inf"):
            world.now = max(world.now, deadline)

    def _happenings(self) -> None:
        """Faults that the driver did not cause: of machines, of the connection, of the head."""
        world = self.world
        world.look()
        if world.chance(world.weather.broken):
            world.fault("connections broken")
            raise ConnectionError("the connection was reset")
        if not world.chance(world.weather.nodes):
            return
        if len(self.machines) == 1:
            world.fault("Ray ended")
            self.ended = "raylet"
            return
        if world.chance(0.2):
            self.silent_until = world.now + world.rng.uniform(0, 90)
            world.fault("heads silent")
        node = world.rng.choice(self.machines)
        here = [actor for actor in self.actors if actor.node is node and actor.alive]
        if node.alive and all(self._survivable(actor.at_stake) for actor in here):
            world.fault("machines lost", f"{node.name} dies")
            node.alive = False
            for actor in here:
                self._dies(actor)
            self.at(world.rng.expovariate(1 / BACK), lambda: self._returns(node))

    def _returns(self, node: Node) -> None:
        node.alive = True
        self.world.note(f"{node.name} is back")
        self._place()

    def _place(self) -> None:
        """Give actors without a place one, where there is room."""
        for actor in self.actors:
            if not actor.alive or actor.node is not None:
                continue
            for node in self.machines:
                used = sum(one.node is node for one in self.actors if one.alive)
                if node.alive and used < node.room:
                    actor.node = node
                    self.at(self.world.rng.uniform(0.1, 3), partial(self._next, actor))
                    break

    def _next(self, actor: Actor) -> None:
        """Begin the next call of an actor, if it has a place and nothing else to do."""
        if not (actor.alive and actor.node and actor.calls) or actor.running is not None:
            return
        actor.running, actor.acted = actor.calls.popleft(), False
        world, (_, method, _) = self.world, actor.running
        if method == "evaluate":
            seconds = EVALUATION * world.rng.uniform(1, world.weather.slowest)
            fate = self._fate(actor)
        else:
            seconds = world.rng.uniform(0, TIMES.get(method, 1.0))
            fate = "before" if world.chance(world.weather.failing) else ""
        moment = seconds * world.rng.random()
        call = actor.running
        if fate == "before":
            self.at(moment, lambda: self._dies_in(actor, call))
            return
        if fate == "during":
            actor.process.steps = world.rng.randrange(8)
        self.at(moment, lambda: self._acts(actor, call, seconds - moment, fate))

    def _fate(self, actor: Actor) -> str:
        """Moment in an evaluation at which its worker dies; empty if it does not."""
        world = self.world
        if not world.chance(world.weather.dying) or not self._survivable(actor.specs):
            return ""
        return world.rng.choice(("before", "during", "after"))

    def _survivable(self, specs: Sequence[EvaluationSpec]) -> bool:
        return all(self._deaths[spec] < SURVIVABLE for spec in specs)

    def _dies_in(self, actor: Actor, call: object) -> None:
        if actor.alive and actor.running is call:
            self._dies(actor)

    def _acts(self, actor: Actor, call: object, rest: float, fate: str) -> None:
        """Have the effects of a call, and answer it after so many more seconds."""
        if not actor.alive or actor.running is not call:
            return
        answer = self._act(actor)
        if answer is None:  # it has died, or hangs
            return
        if fate == "after":
            self.at(rest, lambda: self._dies_in(actor, call))
        else:
            actor.process.steps = float("inf")
            self.at(rest, lambda: self._answers(actor, call, answer))

    def _act(self, actor: Actor) -> Ref | None:
        """Run the method of a call; None if it has no answer."""
        assert actor.running is not None
        _, method, arguments = actor.running
        actor.acted, answer = True, Ref()
        with self.world.acting(actor.process):
            try:
                if actor.instance is None:
                    actor.instance = actor.make()
                found = getattr(actor.instance, method)(*map(resolved, arguments))
                answer.settle(found)
            except Died:
                self._dies(actor)
                return None
            except KillsItsWorker:
                self._dies(actor)
                return None
            except Hangs:
                self.world.note("hangs")
                return None
            except OutOfMemory:
                self._end(actor, OutOfMemoryError(MEMORY))
                return None
        return answer

    def _answers(self, actor: Actor, call: object, answer: Ref) -> None:
        if not actor.alive or actor.running is not call:
            return
        assert actor.running is not None
        actor.running[0].settle(answer.value, answer.error)
        actor.running = None
        self._next(actor)

    def _dies(self, actor: Actor) -> None:
        """Let a worker process die; its evaluation, if any, is lost."""
        self._deaths.update(actor.at_stake)
        self._end(actor, RayActorError(DEAD))

    def _end(self, actor: Actor, error: RayError | None) -> None:
        """End an actor; without an error nobody waits for its answers."""
        if not actor.alive:
            return
        actor.alive = False
        actor.process.dead = True
        if error is not None:
            numbers = [spec.individual for spec in actor.specs]
            doing = actor.running[1] if actor.running else "idle"
            self.world.fault("workers lost", f"a worker dies: {doing} {numbers or ''}")
            for ref, *_ in [*([actor.running] if actor.running else []), *actor.calls]:
                ref.settle(error=error)
            for peer in actor.group.actors if actor.group else ():
                if peer is not actor and peer.alive and peer.specs:
                    self._parted(peer)
        actor.running = None
        actor.calls.clear()
        self._place()

    def _parted(self, peer: Actor) -> None:
        """A process that lost its peer says so, or waits for ever."""
        call, peer.acted = peer.running, True
        answer = Ref(True, [failed(spec, Status.LOST, "the peer is gone") for spec in peer.specs])
        peer.running = (call[0], "parted", ()) if call else None
        if self.world.chance(0.5):
            running = peer.running
            self.at(1.0, lambda: self._answers(peer, running, answer))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Use this cluster as the module `ray`, without starting or joining any."""
        with (
            _imported(modules(self)),
            patch("evo.cluster.queue.connect", lambda *_: self.world.step("ray.init")),
            patch("evo.cluster.queue.leave", lambda lost: None),
            patch("evo.cluster.health.ended_here", lambda: self.ended),
            patch("evo.cluster.health.control_address", lambda: ("head", 6379)),
            patch("evo.cluster.health.answers", lambda _: self.world.now >= self.silent_until),
            patch("evo.cluster.health.Demand", lambda: SimpleNamespace(waiting=self.waiting)),
        ):
            yield


@contextmanager
def _imported(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Put modules in place of others; those that are imported meanwhile stay."""
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)


def modules(ray: FakeRay) -> dict[str, ModuleType]:
    """The modules that `import ray` and its like find."""
    died = (RayActorError, OutOfMemoryError, ObjectLostError)
    errors = (RayError, RayTaskError, GetTimeoutError, RaySystemError, *died)
    groups = {
        "placement_group": lambda *_, **__: Group(),
        "remove_placement_group": lambda group: None,
    }
    parts: dict[str, dict[str, Any]] = {
        "ray.exceptions": {error.__name__: error for error in errors},
        "ray.util.placement_group": groups,
        "ray.util.scheduling_strategies": {"PlacementGroupSchedulingStrategy": Strategy},
        "ray.util": {"get_node_ip_address": lambda: "127.0.0.1"},
        "ray": {
            name: getattr(ray, name)
            for name in ("nodes", "put", "get", "wait", "kill", "remote", "is_initialized")
        },
    }
    found: dict[str, ModuleType] = {}
    for name, values in parts.items():
        found[name] = ModuleType(name)
        vars(found[name]).update(values)
    inner = {"exceptions": found["ray.exceptions"], "util": found["ray.util"]}
    vars(found["ray"]).update(inner, get_gpu_ids=ray.get_gpu_ids)
    return found
