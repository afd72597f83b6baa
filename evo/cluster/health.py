"""Health checks: that Ray still runs, and that workers start and have room on a machine.

Why a single worker was dropped says `worker.Dropped`, what follows `queue.Cluster`.
"""

import time
import warnings

from evo.cluster.connection import ClusterError, Demand, answers, control_address, ended_here
from evo.cluster.machine import needed
from evo.config import Resources

ROOM_SECONDS = 120.0  # without room for any worker, before the search gives up
TELL_SECONDS = 10.0  # without a worker, before the cluster is asked for its room
START_SECONDS = 300.0  # for the first worker to start where there is room
KNOCK_SECONDS = 5.0  # between looks at whether a cluster's head answers
SILENT_SECONDS = 45.0  # of the head; Ray's own library ends this process after 60


class Liveness:
    """Repeated health checks of a cluster in use; ClusterError if it cannot continue."""

    def __init__(self, resources: Resources) -> None:
        self.ended = False  # Ray has ended and answers no more calls
        self._resources = resources
        self._control = None if resources.address == "local" else control_address()
        self._heard = self._knocked = time.monotonic()
        self._demand, self._queried = Demand(), 0.0
        self._without_worker: float | None = None  # since when there is none
        self._without_room: float | None = None  # since when none of the machines has any

    def check_ray(self) -> None:
        """Raise ClusterError once Ray has ended.

        Ray's own library would notice after a minute, and abort this process with a C++ stack.
        """
        now = time.monotonic()
        if self._control is None:
            if ended := ended_here():
                self.ended = True
                raise ClusterError(f"{ended}, a process of Ray on this machine, has ended")
        elif now > self._knocked + KNOCK_SECONDS:
            self._knocked = now
            if answers(self._control):
                self._heard = now
            elif now > self._heard + SILENT_SECONDS:
                self.ended = True
                host, port = self._control
                raise ClusterError(
                    f"the cluster's head does not answer on {host}:{port} since "
                    f"{SILENT_SECONDS:.0f} s; start it again"
                )

    def check_room(self, workers: int, *, started: bool) -> None:
        """Raise ClusterError if no worker has `started` for long; warn if there is no room."""
        if started:
            self._without_worker = self._without_room = None
            return
        now = time.monotonic()
        self._without_worker = self._without_worker or now
        elsewhere = self._resources.address != "local"  # else `fitting` has checked the room
        if elsewhere and now > self._without_worker + TELL_SECONDS and now > self._queried + 1:
            self._queried = now
            self._look_for_room(workers, now)
        if self._without_room is None and now > self._without_worker + START_SECONDS:
            raise ClusterError(
                f"no worker has started within {START_SECONDS:.0f} s; is the machine very busy?"
            )

    def _look_for_room(self, workers: int, now: float) -> None:
        """Distinguish workers that wait for room from those that only start slowly."""
        waiting = self._demand.waiting()
        if waiting is None or waiting < workers * self._resources.processes:
            self._without_room = None
            return
        self._without_room = self._without_room or now
        room = f"a worker of {needed(self._resources)}"
        if now > self._without_room + ROOM_SECONDS:
            raise ClusterError(
                f"no machine of the cluster had room for {room} within {ROOM_SECONDS:.0f} s; ask "
                "for less in `resources`, free some or add a machine, then resume"
            )
        warnings.warn(
            f"no machine of the cluster has room for {room}; waiting up to {ROOM_SECONDS:.0f} s "
            "for one",
            stacklevel=2,
        )
