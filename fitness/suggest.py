"""Parts of error messages: "did you mean", lists of names, and values shortened to fit a line."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_NAME = 256  # characters
LONGEST_PATH = 300  # characters of a path in a message


def brief(text: object) -> str:
    """A path or similar text, shortened if it is too long to be a path."""
    full = str(text)
    return full if len(full) <= LONGEST_PATH else full[: LONGEST_PATH - 3] + "..."


def shortened(value: object, at_most: int = 60) -> str:
    """The repr of a value, or the text of an error, shortened if it is long."""
    if isinstance(value, str):
        value = value[: at_most + 1]
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= at_most else text[: at_most - 3] + "..."


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'a'?` with the nearest of the known names, empty if none is near."""
    if len(wrong) > LONGEST_NAME:  # too long for a misspelling, and slow to compare
        return ""
    near = get_close_matches(wrong, sorted(known), n=1)
    return f"; did you mean {shortened(near[0])}?" if near else ""


def listed(names: Iterable[str], *, at_most: int = 12) -> str:
    """`'a', 'b', 'c' and 4 more`, for messages that must stay on one screen."""
    every = [shortened(name) for name in names]
    more = f" and {len(every) - at_most} more" if len(every) > at_most else ""
    return ", ".join(every[:at_most]) + more
