"""The part of a run folder that is mirrored: its ledgers, small files, and weights."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from evo.record import lease
from evo.record.artifacts import DELETED
from evo.record.ledger import FILE as LEDGER
from evo.storage.layout import WEIGHTS
from fitness.merging.lineage import RETRAINED
from fitness.models.weights import ADAPTER, SERVED

TEMPORARY = (".partial", ".lock")
NOT_MIRRORED = ("logs", "report.html", lease.FILE)
Stamp = tuple[tuple[str, int, int], ...]  # name, bytes and time of change of each file


@dataclass
class Contents:
    """The mirrored part of a run folder, by name: ledgers, small files, and weights."""

    ledgers: list[str] = field(default_factory=list)  # outer ones first
    files: dict[str, Stamp] = field(default_factory=dict)
    weights: dict[str, Stamp] = field(default_factory=dict)  # model folders, training states
    deleted: list[str] = field(default_factory=list)  # checkpoints, by `evo.record.artifacts`

    def __contains__(self, name: str) -> bool:
        return name in self.files or name in self.weights


def contents(run: Path) -> Contents:
    """List what is mirrored of a run folder; links are left out, since they may lead anywhere."""
    found = Contents()
    for folder, inner, files in os.walk(run):
        inner[:] = sorted(name for name in inner if _is_mirrored(name))
        own = [Path(folder, name) for name in sorted(files) if _is_mirrored(name)]
        stamps = {path.name: stamp for path in own if (stamp := _stamp(path)) is not None}
        within = Path(folder).relative_to(run).as_posix()
        if {"config.json", ADAPTER} & stamps.keys():
            found.weights[within] = tuple(stamps.values())
            inner.clear()
            continue
        for name, stamp in stamps.items():
            if f"{Path(name).stem}.lock" in files:  # the owner of a lock
                continue
            path = name if within == "." else f"{within}/{name}"
            if name == LEDGER:
                found.ledgers.append(path)
            elif name.endswith(DELETED):
                found.deleted.append(path.removesuffix(DELETED))
            else:
                (found.weights if name.endswith(WEIGHTS) else found.files)[path] = (stamp,)
    return found


def _is_mirrored(name: str) -> bool:
    temporary = name.endswith(TEMPORARY) or name.startswith((RETRAINED, SERVED))
    return not temporary and name not in NOT_MIRRORED


def _stamp(path: Path) -> tuple[str, int, int] | None:
    """Name, bytes and time of change of a regular file; None for a link or one that is gone."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    regular = stat.S_ISREG(status.st_mode)
    return (path.name, status.st_size, status.st_mtime_ns) if regular else None


def whole_bytes(ledger: Path) -> int:
    """Bytes of the whole lines of a ledger: its last one may be half written."""
    with ledger.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 2**16)
            file.seek(begin)
            if (last := file.read(end - begin).rfind(b"\n")) >= 0:
                return begin + last + 1
            end = begin
    return 0
