"""A stand-in for the cluster, for launches and resumes whose evaluations run in this process."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from evo.cluster.activity import Doing
from evo.config import Resources
from fitness.evaluation import Task
from tests.evo.search.test_loop import InProcess


class Here(InProcess):
    """A cluster of two workers that are this process: no Ray, and nothing is imported anew."""

    def __init__(self, resources: Resources, task: Task, *, import_paths: list[Path]) -> None:
        super().__init__(task)
        self.busy_seconds = 0.0
        self.on_look: Callable[[], None] = lambda: None

    def poll(self, seconds: float) -> list[Any]:
        started = time.time()
        found: list[Any] = super().poll(seconds)
        finished = time.time()
        self.busy_seconds += finished - started
        return [replace(one, worker="here/1", started=started, finished=finished) for one in found]

    def doing(self) -> list[Doing]:
        return []

    def close(self) -> None:
        self._queue.clear()
