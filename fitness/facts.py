"""Append-only files of facts: one JSON object a line, on disk before anything else happens.

A torn last line (its writer died while writing it) is dropped with a warning; anything else
malformed stops with file, line and remedy. Reading never needs a lock; writing always does.

Each line ends with a checksum of itself, {"fact":...,"crc":"89abcdef"}: the CRC-32 of the bytes
before `,"crc"`, which detects every flipped bit. Lines of earlier versions have none; after a line
that has one, a line without is damaged.
"""

import gc
import json
import os
import socket
import time
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic_core import from_json

from fitness.errors import InputError

Fact = dict[str, Any]

MARK, END = b',"crc":"', b'"}\n'
SUM = 8  # hexadecimal digits
TAIL = len(MARK) + SUM + len(END)


def read_facts(
    path: Path, remedy: str, *passes: Callable[[Fact], object]
) -> tuple[list[Fact], int]:
    """Read the facts of a file; returns them and the number of bytes of their whole lines.

    Each fact is given to the functions `passes` as soon as it is read, which may change it, or
    raise ValueError if it is invalid. Raises InputError, which ends with `remedy`, for a line that
    is not a fact.
    """
    facts: list[Fact] = []
    whole, summed = 0, False
    with path.open("rb") as lines, _collector_paused():
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                warnings.warn(
                    f"{path}:{number}: dropped a torn last line of {len(line)} bytes", stacklevel=3
                )
                break
            has_sum = line[-TAIL : -TAIL + len(MARK)] == MARK
            try:
                if has_sum or summed:
                    _check_sum(line)
                fact = _parse(line)
                for each in passes:
                    each(fact)
            except ValueError as error:
                raise InputError(
                    f"{path}:{number}: {error}; the file was changed by something other than "
                    f"evomix: restore it from a copy, or {remedy}"
                ) from None
            summed = summed or has_sum
            facts.append(fact)
            whole += len(line)
    return facts, whole


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the search for cyclic garbage while facts are read.

    Facts have no cycles, and the search takes most of the time of reading a long file.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse(line: bytes) -> Fact:
    """Parse a line as a fact, without its checksum. Raises ValueError if it is none."""
    try:
        fact = from_json(line)  # three times as fast as json, to the same numbers
    except ValueError as error:
        raise ValueError(f"not a fact ({error})") from None
    if not isinstance(fact, dict) or "fact" not in fact:
        raise ValueError("a fact is a JSON object with the key `fact`")
    fact.pop("crc", None)
    return fact


def _check_sum(line: bytes) -> None:
    body, tail = line[:-TAIL], line[-TAIL:]
    if tail != _tail(body):
        raise ValueError("the line is damaged: its checksum does not match")


def _tail(body: bytes) -> bytes:
    """End of a line, with the checksum of its bytes before."""
    return MARK + f"{zlib.crc32(body):0{SUM}x}".encode() + END


def as_line(fact: Mapping[str, Any]) -> bytes:
    text = json.dumps(fact, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = text.encode().removesuffix(b"}")
    return body + _tail(body)


def as_lines(facts: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(map(as_line, facts))


class Closing(ABC):
    """Context manager that closes itself at the end of its `with` block."""

    @abstractmethod
    def close(self) -> None:
        """Release files and locks."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class FactFile(Closing):
    """A file of facts, open for appending; its user must hold the lock that goes with it."""

    def __init__(self, path: Path, whole: int) -> None:
        """Open a file whose first `whole` bytes are whole lines, cutting a torn tail off it."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, 0, os.SEEK_END)

    def append(self, *facts: Mapping[str, Any]) -> None:
        """Write facts and wait until they are on disk. On a full disk the file stays whole."""
        lines = as_lines(facts)
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while lines:  # a full disk may take a part; the next write says why, or takes more
                lines = lines[os.write(self._file, lines) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)
            raise

    def close(self) -> None:
        os.close(self._file)


def lock(folder: Path, name: str, *, wait: float = 0) -> FileLock:
    """Take the lock `name` of a folder, until it is released or this process ends in any way.

    Raises InputError, which names the process, if another one still has it after `wait` seconds.
    """
    owner = folder / f"{name}.json"
    held = FileLock(folder / f"{name}.lock")
    try:
        held.acquire(timeout=wait)
    except Timeout:
        try:
            process = json.loads(owner.read_text())
            holder = f"process {process['pid']} on {process['host']} since {process['since']}"
        except (OSError, ValueError, KeyError):
            holder = "another process"
        raise InputError(
            f"{folder} is in use by {holder}; wait for it, stop it, or choose another folder"
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
    return held
