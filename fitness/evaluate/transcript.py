"""Output of a command, logged to a file of bounded size without secrets of the environment."""

import codecs
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fitness.secrets import Filter

BEGINNING = 64 * 1024  # bytes of the output that are kept as they come
END = 192 * 1024  # bytes that are added once it is over
READ = 64 * 1024
BYTES = "surrogateescape"  # what is no UTF-8 is kept byte by byte


class Transcript:
    """Log of an output: its beginning, written live, and its end; the middle is left out."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]) -> None:
        """Open the log; without a path only the end is kept, in memory."""
        self._secrets = Filter(environment)
        self._decoder = codecs.getincrementaldecoder("utf-8")(BYTES)
        self._waiting = ""  # may end with the beginning of a secret
        self._end = bytearray()
        self._size = 0
        self._closed = False
        self._file = None
        if path is not None:
            with suppress(OSError):  # as `_write`
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("wb", buffering=0)
        self.path = path if self._file is not None else None

    def drain(self, stream: BinaryIO) -> None:
        """Read a stream to its end, and close it."""
        with stream:
            while chunk := stream.read1(READ):  # type: ignore[attr-defined]
                self._waiting = self._secrets.clean(self._waiting + self._decoder.decode(chunk))
                ready = self._secrets.finished(self._waiting)
                self._keep(self._waiting[:ready])
                self._waiting = self._waiting[ready:]

    def close(self) -> None:
        """Write the end; nothing more is read. A second time changes nothing."""
        if self._closed:
            return
        self._closed = True
        self._keep(self._secrets.clean(self._waiting + self._decoder.decode(b"", final=True)))
        self._waiting = ""
        left_out = self._size - len(self._end) - BEGINNING
        if left_out > 0:
            self._write(f"\n... {left_out:,} bytes left out ...\n".encode())
        self._write(bytes(self._end[max(0, -left_out) :]))
        if self._file is not None:
            self._file.close()

    def last(self, characters: int) -> str:
        """Last whole lines, at most so many characters; of a single long line its end."""
        text = self._end.decode(errors="replace").strip()
        if len(text) <= characters:
            return text
        cut = text[-characters:]
        return cut.partition("\n")[2] or cut

    def _keep(self, text: str) -> None:
        content = text.encode(errors=BYTES)
        self._write(content[: max(0, BEGINNING - self._size)])
        self._size += len(content)
        self._end += content
        del self._end[: max(0, len(self._end) - END)]

    def _write(self, text: bytes) -> None:
        """Write to the log; on a full disk the log is incomplete, but the evaluation continues."""
        if self._file is not None:
            with suppress(OSError):
                self._file.write(text)
