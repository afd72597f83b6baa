"""The file `now.json` of a run that goes on: what its driver does, for whoever looks from outside.

It says nothing that the ledger does not say later, is overwritten all the time and deleted at the
end; nothing reads it but `evo status`.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evo.cluster.doing import Doing, described
from fitness.files import write_whole

FILE = "now.json"


class WorkerNow(BaseModel):
    """A worker, what it does in words, and since when (Unix seconds)."""

    model_config = ConfigDict(frozen=True)

    name: str
    does: str
    since: float


class Now(BaseModel):
    """The driver's phase, its workers, and what it expects; times in Unix seconds."""

    model_config = ConfigDict(frozen=True)

    time: float
    phase: str
    begun: float
    busy_share: float | None = None
    seconds_left: float | None = None
    workers: tuple[WorkerNow, ...] = ()
    stopping: bool = False
    finishing: int = 0  # evaluations that are waited for before it stops


def workers_now(workers: Sequence[Doing]) -> tuple[WorkerNow, ...]:
    """Each worker in words."""
    return tuple(
        WorkerNow(name=one.worker, does=described(one), since=one.since) for one in workers
    )


def write(run: Path, now: Now) -> None:
    """Overwrite the run's file; a full disk or a folder that is gone is the ledger's to tell."""
    with suppress(OSError):
        write_whole(run / FILE, now.model_dump_json().encode())


def read(run: Path) -> Now | None:
    """What the driver wrote last, or None."""
    try:
        return Now.model_validate(json.loads((run / FILE).read_bytes()))
    except (OSError, ValueError):
        return None


def remove(run: Path) -> None:
    """The driver is about to end."""
    with suppress(OSError):
        (run / FILE).unlink(missing_ok=True)
