"""What error messages share: the "did you mean", and values cut to what a line has room for."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_NAME = 256  # characters
LONGEST_PATH = 300  # characters of one that an error repeats


def brief(text: object) -> str:
    """A path or the like as it reads; cut where it is too long to be one."""
    told = str(text)
    return told if len(told) <= LONGEST_PATH else told[: LONGEST_PATH - 3] + "..."


def shortened(value: object, at_most: int = 60) -> str:
    """A value as Python writes it, an error as it reads; cut where it is long."""
    if isinstance(value, str):
        value = value[: at_most + 1]
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= at_most else text[: at_most - 3] + "..."


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'a'?` with the nearest of the known names, empty if none is near."""
    if len(wrong) > LONGEST_NAME:  # nobody's slip of the pen, and costly to compare
        return ""
    near = get_close_matches(wrong, sorted(known), n=1)
    return f"; did you mean {shortened(near[0])}?" if near else ""


def listed(names: Iterable[str], *, at_most: int = 12) -> str:
    """`'a', 'b', 'c' and 4 more`, for messages that must stay on one screen."""
    every = [shortened(name) for name in names]
    more = f" and {len(every) - at_most} more" if len(every) > at_most else ""
    return ", ".join(every[:at_most]) + more
