"""What a command prints, kept in a file of bounded size without the secrets of the environment."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

BEGINNING = 64 * 1024  # bytes of the output that are kept as they come
END = 192 * 1024  # bytes that are added once it is over
READ = 64 * 1024
SECRET_NAMES = ("TOKEN", "SECRET", "PASSW", "KEY", "CREDENTIAL", "AUTH")
SECRET_LENGTH = 8  # a shorter value could stand anywhere by chance
HIDDEN = b"***"


def secrets_of(environment: Mapping[str, str]) -> list[bytes]:
    """The values of variables that are named like a secret, the longest first."""
    values = {
        value.encode(errors="surrogateescape")
        for name, value in environment.items()
        if len(value) >= SECRET_LENGTH and any(word in name.upper() for word in SECRET_NAMES)
    }
    return sorted(values, key=len, reverse=True)


class Transcript:
    """The beginning of an output, live, and its end; what is between is left out."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]) -> None:
        """Without a path only the end is kept, in memory."""
        self._secrets = secrets_of(environment)
        self._held = max(map(len, self._secrets), default=1) - 1  # may begin a secret
        self._waiting = b""
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
        """Read until nobody writes any more, and close the stream."""
        with stream:
            while chunk := stream.read1(READ):  # type: ignore[attr-defined]
                self._waiting = self._without_secrets(self._waiting + chunk)
                ready = len(self._waiting) - self._held
                if ready > 0:
                    self._keep(self._waiting[:ready])
                    self._waiting = self._waiting[ready:]

    def close(self) -> None:
        """Write the end; nothing more is read. A second time changes nothing."""
        if self._closed:
            return
        self._closed = True
        self._keep(self._waiting)
        self._waiting = b""
        left_out = self._size - len(self._end) - BEGINNING
        if left_out > 0:
            self._write(f"\n... {left_out:,} bytes left out ...\n".encode())
        self._write(bytes(self._end[max(0, -left_out) :]))
        if self._file is not None:
            self._file.close()

    def last(self, characters: int) -> str:
        """Whole lines from the end, at most so many characters; of one long line its end."""
        text = self._end.decode(errors="replace").strip()
        if len(text) <= characters:
            return text
        cut = text[-characters:]
        return cut.partition("\n")[2] or cut

    def _without_secrets(self, text: bytes) -> bytes:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def _keep(self, text: bytes) -> None:
        self._write(text[: max(0, BEGINNING - self._size)])
        self._size += len(text)
        self._end += text
        del self._end[: max(0, len(self._end) - END)]

    def _write(self, text: bytes) -> None:
        """A full disk costs the log, not the evaluation."""
        if self._file is not None:
            with suppress(OSError):
                self._file.write(text)
