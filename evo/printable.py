"""Texts made safe for a terminal: control characters escaped, long lines shortened.

Names come from a run, a spec or a file, which may be from a stranger: an escape sequence in them
would reach the terminal (OSC 52 sets the clipboard), and a value may be of any length.
"""

import os
import sys
from contextlib import suppress

MOST_CHARACTERS = 2000  # of a line of a message
CONTROLS = {  # C0 without tab and newline, DEL, and C1, in which 0x9b begins a sequence as well
    number: f"\\x{number:02x}"
    for number in (*range(0x20), *range(0x7F, 0xA0))
    if number not in (9, 10)
}


def escaped(text: str) -> str:
    """Text with its control characters and lone surrogates as Python writes them."""
    return text.translate(CONTROLS).encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """Text with its control characters escaped and the middle of long lines left out."""
    return "\n".join(map(_clipped, escaped(text).split("\n")))


def say(text: object, *, error: bool = False) -> None:
    """Print to standard output, or to standard error, at once."""
    print(printable(str(text)), file=sys.stderr if error else sys.stdout, flush=True)


def _clipped(line: str) -> str:
    left_out = len(line) - MOST_CHARACTERS
    if left_out <= 0:
        return line
    half = MOST_CHARACTERS // 2
    return f"{line[:half]} ... [{left_out} characters] ... {line[-half:]}"


def abandon_output() -> None:
    """Discard buffered output if standard output is closed.

    Otherwise Python would fail again when it flushes the buffer at exit.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
