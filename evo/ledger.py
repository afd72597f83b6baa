"""The append-only run record: one fact a line, on disk before anything else happens.

A torn last line (the driver died while writing it) is dropped with a warning; anything else
malformed stops with file, line and remedy. Reading never needs the lock; writing always does.
"""

import gc
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic_core import from_json

from evo.files import write_whole
from fitness.errors import InputError

FORMAT = 1
FILE = "ledger.jsonl"
LOCK = "driver.lock"
Fact = dict[str, Any]


def read(run: Path) -> list[Fact]:
    """Every whole fact of a run folder, in the order written."""
    facts, _ = _read(ledger_file(run), samples=True)
    return facts


def ledger_file(run: Path) -> Path:
    """The ledger of a run folder, or an InputError that says what a run folder is."""
    path = run / FILE
    if not path.is_file():
        why = "it has no ledger.jsonl" if run.is_dir() else "there is no such folder"
        raise InputError(f"{run} is not a run folder: {why}; name the folder `evo launch` printed")
    return path


def _read(path: Path, *, samples: bool) -> tuple[list[Fact], int]:
    """Facts, with or without their samples, and the bytes of the whole lines that hold them."""
    facts: list[Fact] = []
    whole = 0
    with path.open("rb") as lines, _collector_paused():
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                warnings.warn(
                    f"{path}:{number}: dropped a torn last line of {len(line)} bytes", stacklevel=3
                )
                break
            fact = _parse(line, path, number)
            if not samples:
                (fact.get("details") or {}).pop("samples", None)
            facts.append(fact)
            whole += len(line)
    if not facts and whole == 0:
        raise InputError(f"{path}: holds no whole fact; remove the folder and launch again")
    if facts[0]["fact"] != "search" or facts[0].get("format") != FORMAT:
        raise InputError(
            f"{path}:1: expected the fact `search` in format {FORMAT}, got "
            f"{facts[0]['fact']!r} in format {facts[0].get('format')!r}; "
            "use the version of evomix that wrote this run"
        )
    return facts, whole


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No search for cyclic garbage: facts have none, and looking through them takes most of the
    time of reading a long ledger. Nor is what was read looked through later."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _parse(line: bytes, path: Path, number: int) -> Fact:
    try:
        fact = from_json(line)  # three times as fast as json, to the same numbers
    except ValueError as error:
        raise InputError(
            f"{path}:{number}: not a fact ({error}); the file was changed by something other than "
            "evomix: restore it from a copy, or cut it before this line and resume"
        ) from None
    if not isinstance(fact, dict) or "fact" not in fact:
        raise InputError(f"{path}:{number}: a fact is a JSON object with the key `fact`")
    return fact


def in_use(run: Path) -> bool:
    """Whether some driver writes this run right now."""
    path = run / LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # somebody else's folder, which we may not write
        return False


class Ledger:
    """A run folder's ledger, locked for writing.

    `facts` is what it held when it was opened, without the samples, which nothing but a report
    reads; what is appended stays on disk alone, so that a driver's memory does not grow with it.
    """

    def __init__(self, run: Path) -> None:
        """Lock and open an existing ledger, cutting a torn tail off the file."""
        self.path = ledger_file(run)
        self._lock = _locked(run)
        try:
            self.facts, whole = _read(self.path, samples=False)
            self._file = os.open(self.path, os.O_RDWR)
            os.ftruncate(self._file, whole)
            os.lseek(self._file, 0, os.SEEK_END)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def create(cls, run: Path, search: Fact) -> Self:
        """A new ledger whose first fact is `search`; the folder must hold none."""
        run.mkdir(parents=True, exist_ok=True)
        lock = _locked(run)
        try:
            path = run / FILE
            if path.exists():
                raise InputError(f"{run} holds a run already; `evo resume {run}` goes on with it")
            write_whole(path, _line({"fact": "search", "format": FORMAT, **search}))
        finally:
            lock.release()
        return cls(run)

    def append(self, fact: str, **values: Any) -> Fact:
        """Write one fact and wait until it is on disk. On a full disk the file stays whole."""
        record = {"fact": fact, **values}
        line = _line(record)
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            written = os.write(self._file, line)
            if written < len(line):  # a full disk may take a part; the next write says why
                os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)
            raise
        return record

    def close(self) -> None:
        os.close(self._file)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _locked(run: Path) -> FileLock:
    """The run's lock, held until released or until this process ends, however it ends."""
    owner = run / "driver.json"
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            who = json.loads(owner.read_text())
            holder = f"process {who['pid']} on {who['host']} since {who['since']}"
        except (OSError, ValueError, KeyError):
            holder = "another process"
        raise InputError(
            f"{run} is in use by {holder}; wait for it, stop it, or choose another folder"
        ) from None
    owner.write_text(
        json.dumps(
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            }
        )
    )
    return lock
