"""The running time of a search: one definition for the live screen, status, summary and report.

It runs from the start of each launch or resume to its end. Starting Ray and loading the model
count, pauses between a stop and the resume do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

NAME = "running time"


@dataclass(frozen=True, slots=True)
class Session:
    """A launch or a resume, in Unix seconds: its start, its first evaluation's, and its end."""

    begun: float
    ready: float  # its end where nothing was evaluated
    end: float


def sessions(facts: Sequence[Mapping[str, Any]]) -> list[Session]:
    """Every launch and resume of a ledger, in its order.

    One of an earlier version does not say when it began, only when Ray had started. A session that
    was killed ends with the last fact that it wrote.
    """
    starts = [i for i, fact in enumerate(facts) if fact["fact"] in ("search", "resumed")]
    found = []
    for begin, after in pairwise([*starts, len(facts)]):
        own = facts[begin:after]
        times = [fact[key] for fact in own for key in ("time", "finished") if fact.get(key)]
        if times:
            begun, end = own[0].get("begun") or times[0], max(times)
            ready = min((fact["started"] for fact in own if fact.get("started")), default=end)
            found.append(Session(begun, max(begun, ready), max(begun, end)))
    return found


def with_present(
    found: Sequence[Session], now: float | None = None, begun: float | None = None
) -> list[Session]:
    """Sessions with the one that still runs, up to `now`.

    It began when it says so itself, since it may not have written a fact; else with the last one.
    """
    if now is None:
        return list(found)
    if begun is None:
        begun = found[-1].begun if found else now
    ready = next((one.ready for one in found if one.begun == begun), now)
    earlier = [one for one in found if one.begun < begun]
    return [*earlier, Session(begun, min(ready, now), max(begun, now))]


def running_time(found: Sequence[Session]) -> float:
    """Seconds that sessions cover; what several cover at once, as rounds within a run do, once."""
    seconds, reached = 0.0, float("-inf")
    for one in sorted(found, key=lambda one: one.begun):
        seconds += max(0.0, one.end - max(one.begun, reached))
        reached = max(reached, one.end)
    return seconds
