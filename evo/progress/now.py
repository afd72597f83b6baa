"""The file `now.json` of a running search: the driver's current phase, for `evo status`.

It has nothing that the ledger does not record later, is overwritten every few seconds and deleted
at the end; nothing but `evo status` reads it.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evo.cluster.activity import Doing, described
from fitness.files import write_whole

FILE = "now.json"


class WorkerNow(BaseModel):
    """A worker, its current work in words, and when that started (Unix seconds)."""

    model_config = ConfigDict(frozen=True)

    name: str
    does: str
    since: float


class Now(BaseModel):
    """The driver's phase, workers and expected time left; times in Unix seconds."""

    model_config = ConfigDict(frozen=True)

    time: float
    phase: str
    begun: float
    busy_share: float | None = None
    seconds_left: float | None = None
    workers: tuple[WorkerNow, ...] = ()
    stopping: bool = False
    finishing: int = 0  # running evaluations that a stop waits for


def workers_now(workers: Sequence[Doing]) -> tuple[WorkerNow, ...]:
    """State of each worker, in words."""
    return tuple(
        WorkerNow(name=one.worker, does=described(one), since=one.since) for one in workers
    )


def write(run: Path, now: Now) -> None:
    """Overwrite the run's file; a full disk or a deleted folder is reported by the ledger."""
    with suppress(OSError):
        write_whole(run / FILE, now.model_dump_json().encode())


def read(run: Path) -> Now | None:
    """Read the file as the driver last wrote it; None if there is none."""
    try:
        return Now.model_validate(json.loads((run / FILE).read_bytes()))
    except (OSError, ValueError):
        return None


def remove(run: Path) -> None:
    """Delete the file, when the driver is about to end."""
    with suppress(OSError):
        (run / FILE).unlink(missing_ok=True)
