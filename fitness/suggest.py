"""The "did you mean" of error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'a'?` with the nearest of the known names, empty if none is near."""
    near = get_close_matches(wrong, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[str], *, at_most: int = 12) -> str:
    """`'a', 'b', 'c' and 4 more`, for messages that must stay on one screen."""
    every = [repr(name) for name in names]
    more = f" and {len(every) - at_most} more" if len(every) > at_most else ""
    return ", ".join(every[:at_most]) + more
