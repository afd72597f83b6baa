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
    """A launch or a resume: its start, the start of its first evaluation, its end; Unix seconds."""

    begun: float
    ready: float  # start of the first evaluation; the session's end if there was none
    end: float


def sessions(facts: Sequence[Mapping[str, Any]]) -> list[Session]:
    """Launches and resumes of a ledger, in order.

    Ledgers of earlier versions have no `begun`, so that their sessions start when Ray had started.
    A session that was killed ends with the last fact that it wrote.
    """
    starts = [i for i, fact in enumerate(facts) if fact["fact"] in ("search", "resumed")]
    periods = []
    for begin, after in pairwise([*starts, len(facts)]):
        own = facts[begin:after]
        times = [fact[key] for fact in own for key in ("time", "finished") if fact.get(key)]
        if times:
            begun, end = own[0].get("begun") or times[0], max(times)
            ready = min((fact["started"] for fact in own if fact.get("started")), default=end)
            periods.append(Session(begun, max(begun, ready), max(begun, end)))
    return periods


def with_present(
    periods: Sequence[Session], now: float | None = None, begun: float | None = None
) -> list[Session]:
    """Sessions of a ledger, with the one that still runs extended to `now`.

    `begun` is the start that the running driver reports, which may not have written a fact yet;
    without it, the last recorded session is the one that runs.
    """
    if now is None:
        return list(periods)
    if begun is None:
        begun = periods[-1].begun if periods else now
    ready = next((period.ready for period in periods if period.begun == begun), now)
    earlier = [period for period in periods if period.begun < begun]
    return [*earlier, Session(begun, min(ready, now), max(begun, now))]


def running_time(periods: Sequence[Session]) -> float:
    """Seconds covered by sessions; overlaps, as of rounds within a run, count once."""
    seconds, reached = 0.0, float("-inf")
    for period in sorted(periods, key=lambda period: period.begun):
        seconds += max(0.0, period.end - max(period.begun, reached))
        reached = max(reached, period.end)
    return seconds
