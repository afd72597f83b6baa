"""A simulated machine in this process: virtual time, processes that die at a step, a failing disk.

Everything is drawn from one random generator, so that a seed is one course of events. While a world
is `installed`, the functions of `os` that change files, and the clocks of `time`, are its own.
"""

import errno
import math
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from filelock import FileLock

START = 1_800_000_000.0  # Unix seconds, of the wall clock when a course begins
HOURS = 6 * 3600.0  # by which the wall clock is set forth or back, at most
TICK = 0.002  # seconds that a step takes, at most
CHANGING = ("ftruncate", "replace", "rename", "unlink", "remove", "rmdir", "mkdir")
FAILING = ("replace", "mkdir")  # besides writing and syncing, with a full disk


class Died(BaseException):
    """The process was killed: nothing of it runs any more, not even what cleans up."""


@dataclass(frozen=True)
class Weather:
    """Faults of a course: the most of each kind, or probabilities at each opportunity."""

    kills: int = 0  # of the driver
    crashes: float = 0.0  # share of the kills that are power cuts, which lose what is not synced
    disk: int = 0  # errors of the disk
    disk_rate: float = 0.0  # of an error, at each change of a file
    clock: float = 0.0  # of the wall clock being set, at each look of the driver
    stops: float = 0.0  # of Ctrl-C, at each look of the driver
    dying: float = 0.0  # of a worker, in each evaluation
    failing: float = 0.0  # of a worker, while it starts
    nodes: float = 0.0  # of a machine with all its workers, at each look of the driver
    broken: float = 0.0  # of the connection to the cluster, at each look of the driver
    orphans: float = 0.0  # of an evaluation outliving the driver that requested it
    slowest: float = 1.0  # an evaluation takes up to this many times the shortest


@dataclass
class Process:
    """A simulated process, which dies once it has taken so many steps."""

    name: str
    steps: float = math.inf
    dead: bool = False


class World:
    """Clock, disk and processes of one course of events; `root` is the only folder on its disk."""

    def __init__(self, seed: object, root: Path, weather: Weather) -> None:
        self.rng = random.Random(repr(seed))
        self.root = root
        self.weather = weather
        self.now = 0.0  # monotonic, seconds
        self.wall = START
        self.driver = self.process = Process("driver")
        self.events: list[str] = []
        self.happened = Counter[str]()  # faults, by kind
        self.steps = 0  # of drivers
        self.disk_errors = 0
        self.checkpoint_errors = 0  # those of workers, which cost a checkpoint
        self._full = False
        self._roomy = 0  # contexts of `room`
        self._synced: dict[int, int] = {}  # bytes by inode that survive a power cut
        self._locks: list[FileLock] = []
        self._files: set[int] = set()  # descriptors of the driver
        self._owner = threading.get_ident()
        self._real: dict[str, Callable[..., Any]] = {}

    def note(self, event: str) -> None:
        """Add to the course of events, which a failing seed prints."""
        self.events.append(f"{self.now:10.3f} {self.process.name}: {event}")

    def fault(self, kind: str, event: str = "") -> None:
        """Note a fault, and count it by its kind."""
        self.happened[kind] += 1
        self.note(event or kind)

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    def step(self, what: str) -> None:
        """Let the current process take a step; raises Died if it does not come to it."""
        one = self.process
        if one.dead:
            raise Died(one.name)
        self.now += self.rng.random() * TICK
        self.steps += one is self.driver
        one.steps -= 1
        if one.steps < 0:
            one.dead = True
            self.fault(f"{one.name}s killed", f"dies before: {what}")
            raise Died(one.name)

    def look(self) -> None:
        """Let happen what may happen whenever the driver looks at its workers."""
        if self.chance(self.weather.clock):
            self.wall += self.rng.uniform(-HOURS, HOURS)
            self.fault("clocks set", f"the clock is set to {self.wall - START:+.0f} s")
        handler = signal.getsignal(signal.SIGINT)
        if handler is signal.default_int_handler or not callable(handler):
            return
        if self.chance(self.weather.stops):
            self.fault("Ctrl-C")
            handler(signal.SIGINT, None)

    @contextmanager
    def acting(self, process: Process) -> Iterator[None]:
        """Let another process take the steps."""
        before, self.process = self.process, process
        try:
            yield
        finally:
            self.process = before

    @contextmanager
    def room(self) -> Iterator[None]:
        """Let no error of the disk happen.

        Without room to train a lost ancestor again, its children's evaluations fail, so that it is
        another search: a limit, as of any failure that is not the recipe's.
        """
        self._roomy += 1
        try:
            yield
        finally:
            self._roomy -= 1

    def start_driver(self, steps: float) -> None:
        """Start a driver that dies after so many steps."""
        self.driver = self.process = Process("driver", steps)
        self._full = False

    def bury(self, *, power_cut: bool) -> None:
        """Release what the system holds for a dead driver; after a power cut, lose what it can."""
        for lock in self._locks:
            lock.release(force=True)
        for file in self._files:
            with suppress(OSError):
                self._real["close"](file)
        self._locks.clear()
        self._files.clear()
        if power_cut:
            self.fault("power cuts")
            self._lose_unsynced()

    def synced(self, path: Path) -> int:
        """Bytes of a file that a power cut leaves."""
        return self._synced.get(path.stat().st_ino, 0) if path.exists() else 0

    def _lose_unsynced(self) -> None:
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                safe = min(status.st_size, self.synced(path))
                left = self.rng.randint(safe, status.st_size)
                if left < status.st_size:
                    self.note(f"{path.name} loses {status.st_size - left} bytes")
                    os.truncate(path, left)
                self._synced[status.st_ino] = left

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Use this world's disk and clocks in place of the real ones."""
        names = ("open", "close", "write", "fsync", *CHANGING)
        self._real = {name: getattr(os, name) for name in names}
        with ExitStack() as stack:
            for name in names:
                own = getattr(self, f"_{name}", None) or self._changing(name)
                stack.enter_context(patch.object(os, name, own))
            stack.enter_context(patch.object(time, "time", lambda: self.wall + self.now))
            stack.enter_context(patch.object(time, "monotonic", lambda: self.now))
            stack.enter_context(patch.object(time, "sleep", self._sleep))
            stack.enter_context(patch("fitness.facts.FileLock", self._lock))
            yield

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _lock(self, path: Path) -> FileLock:
        self._locks.append(FileLock(path))
        return self._locks[-1]

    def _elsewhere(self) -> bool:
        return threading.get_ident() != self._owner

    def _open(self, path: Any, *arguments: Any, **more: Any) -> int:
        file: int = self._real["open"](path, *arguments, **more)
        if str(path).endswith(".jsonl") and not self._elsewhere():
            self._files.add(file)
        return file

    def _close(self, file: int) -> None:
        self._files.discard(file)
        self._real["close"](file)

    def _changing(self, name: str) -> Callable[..., Any]:
        def change(path: Any, *arguments: Any, **more: Any) -> Any:
            if not self._elsewhere():
                self.step(f"{name} {_short(path)}")
                if name in FAILING:
                    self._perhaps_fail(errno.ENOSPC, str(path))
            return self._real[name](path, *arguments, **more)

        return change

    def _write(self, file: int, content: bytes) -> int:
        write = self._real["write"]
        if self._elsewhere():
            return int(write(file, content))
        if file <= 2:  # what a user would see
            return len(content)
        part = content[: self.rng.randint(0, len(content))]
        alive = not self.process.dead
        try:
            self.step(f"write of {len(content)} bytes")
        except Died:
            if alive:  # it dies in the middle
                write(file, part)
                self.fault("torn writes", f"{len(part)} of {len(content)} bytes are written")
            raise
        if self._fails():
            if part and self.chance(0.7):
                self.fault("short writes", f"the disk takes {len(part)} of {len(content)} bytes")
                self._full = self.chance(0.7)  # else something else has freed space meanwhile
                return int(write(file, part))
            self._raise(errno.ENOSPC, "write")
        if self._full:
            self._full = False
            self._raise(errno.ENOSPC, "write")
        return int(write(file, content))

    def _fsync(self, file: int) -> None:
        if self._elsewhere():
            return
        self.step("fsync")
        self._perhaps_fail(errno.EIO, "fsync")
        status = os.fstat(file)
        self._synced[status.st_ino] = status.st_size

    def _perhaps_fail(self, number: int, path: str) -> None:
        if self._fails():
            self._raise(number, path)

    def _fails(self) -> bool:
        if (
            self._roomy
            or self.disk_errors >= self.weather.disk
            or not self.chance(self.weather.disk_rate)
        ):
            return False
        self.disk_errors += 1
        self.checkpoint_errors += self.process is not self.driver
        return True

    def _raise(self, number: int, path: str) -> None:
        self.fault("disk errors", f"{os.strerror(number)}: {_short(path)}")
        raise OSError(number, os.strerror(number), path)


def _short(path: Any) -> str:
    return os.path.basename(str(path))
