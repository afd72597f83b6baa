"""Files and folders that appear whole or not at all; the cache; digests, checksums and sizes."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from fitness.errors import UNREADABLE, InputError

CHECKSUM = "crc32"  # key in the facts beside a cached file; entries from before 2027 lack it
BYTES_AT_ONCE = 2**18
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Temporary path to write a file or folder at; on success it is synced and renamed to `path`.

    With several writers at once, the last one's file is there, whole. A folder replaces none or an
    empty one, else it raises OSError. An incomplete file or folder is removed.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{uuid4().hex[:8]}.partial")
    try:
        yield partial
        written = partial.rglob("*") if partial.is_dir() else [partial]
        for file in filter(Path.is_file, written):
            _sync(file)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            partial.unlink()


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, on disk before it gets its name.

    A device or a pipe, such as /dev/stdout, is written to directly: root could replace it by a
    file.
    """
    binary = content.encode() if isinstance(content, str) else content
    if path.parent == Path("/dev") or path.is_char_device() or path.is_fifo():
        _write_to(path, binary)
        return
    try:
        with appearing(path) as partial:
            partial.write_bytes(binary)
    except OSError as error:  # which names the partial file, or none
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_to(device: Path, content: bytes) -> None:
    """Write to a device or pipe; OSError at once for a pipe without a reader."""
    target = os.open(device, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(target, True)
    try:
        with os.fdopen(target, "wb") as file:
            file.write(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(device)) from error


def remove_partial(path: Path) -> None:
    """Delete partial files beside `path`, left by processes that died while writing it.

    To be called only when no other process can be writing it.
    """
    for abandoned in path.parent.glob(f"{path.name}.*.partial"):
        shutil.rmtree(abandoned, ignore_errors=True)
        with suppress(OSError):
            abandoned.unlink()


def cache_folder() -> Path:
    """Cache folder: $EVOMIX_CACHE, else evomix in $XDG_CACHE_HOME, else in ~/.cache."""
    if chosen := os.environ.get("EVOMIX_CACHE"):
        return Path(os.path.expanduser(chosen))  # unlike Path's, without errors for an unknown user
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "evomix"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex. Raises InputError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        why = f"cannot be read ({error.strerror or error}); {UNREADABLE}"
        raise InputError(f"{path}: {why}") from error


def checksum(tokens: Path, facts: Mapping[str, Any]) -> str:
    """CRC-32, in hex, of a file and of the facts beside it other than the checksum.

    It detects any single burst of errors of up to 32 bits, misses one in 4 billion of other errors,
    and reads some 1.2 GB a second. A process reads each file once, unless it has changed since.
    """
    status = tokens.stat()
    whole = _file_checksum(tokens, status.st_ino, status.st_size, status.st_mtime_ns)
    others = {name: value for name, value in facts.items() if name != CHECKSUM}
    return f"{zlib.crc32(json.dumps(others, sort_keys=True).encode(), whole):08x}"


def intact(tokens: Path, facts: Mapping[str, Any]) -> bool:
    """Compare a file and its facts with their checksum; true where there is none to compare."""
    return CHECKSUM not in facts or facts[CHECKSUM] == checksum(tokens, facts)


@lru_cache(maxsize=1024)
def _file_checksum(path: Path, inode: int, size: int, changed: int) -> int:
    """CRC-32 of a file's content; inode, size and time are keys of the cache, for changed files."""
    total = 0
    with path.open("rb") as file:
        while block := file.read(BYTES_AT_ONCE):
            total = zlib.crc32(block, total)
    return total


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a number above 1."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
