"""Files that appear whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, on disk before it gets its name.

    Of several writers at once, the last one's is there, whole. A device or a pipe, such as
    /dev/stdout, is written to as it is: for root, a file could take its place.
    """
    if path.parent == Path("/dev") or path.is_char_device() or path.is_fifo():
        _write_to(path, content if isinstance(content, bytes) else content.encode())
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}-{uuid4().hex[:8]}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:  # which names the partial file, or none
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _write_to(device: Path, content: bytes) -> None:
    """Write to what is no file; OSError, and no waiting, for a pipe that nobody reads."""
    target = os.open(device, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(target, True)
    try:
        with os.fdopen(target, "wb") as file:
            file.write(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(device)) from error
