"""Schedules: the order in which slots are filled, and in which the strategy gets their results.

The driver takes the steps in order. `Breed(slot)` decides what is evaluated and submits it to the
cluster without waiting; `Learn(slot)` waits until that evaluation has actually finished, then
gives its result to the strategy. Under the clock and in generations the order of the steps depends
on nothing that happens at run time, so neither do the genomes: the same search on 1 worker or 100,
whatever finishes first or crashes. The asynchronous order does depend on it, and is recorded.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from evo.config.search import Search


@dataclass(frozen=True, slots=True)
class Breed:
    """Fill `slot` and start its evaluation."""

    slot: int


@dataclass(frozen=True, slots=True)
class Learn:
    """Give the result of `slot` to the strategy."""

    slot: int


Step = Breed | Learn
Duration = Callable[[int], float]  # virtual duration of a slot that was bred, in any unit
Share = Callable[[int], float]  # share of a full evaluation that a slot takes from the budget
ROUNDING = 1e-6  # tolerance of a sum of shares


def whole(slot: int) -> float:
    """Share of a slot that is one full evaluation."""
    return 1.0


@dataclass(slots=True)
class Budget:
    """Budget in full evaluations; the last `closing` start after all results before are learned."""

    evaluations: float
    closing: int
    spent: float = 0.0

    @property
    def closes(self) -> bool:
        return self.spent > self.evaluations - self.closing - ROUNDING

    @property
    def exhausted(self) -> bool:
        return self.spent > self.evaluations - ROUNDING


def steps(
    search: Search,
    evaluations: float,
    *,
    closing: int,
    duration: Duration,
    share: Share,
    workers: int,
    recorded: Iterable[Step],
    finished: Callable[[], Iterable[int]],
) -> Iterator[Step]:
    """The steps of a search's schedule; the last three arguments are for `asynchronous` alone.

    The `closing` last slots are bred after the results of all slots before them, under any
    schedule.
    """
    if search.schedule == "asynchronous":
        return asynchronous(
            evaluations,
            workers=workers * search.together,
            recorded=recorded,
            finished=finished,
            closing=closing,
            share=share,
        )
    if search.schedule == "generational":
        return generational(evaluations, search.population, closing=closing, share=share)
    return clock(
        evaluations,
        parallel=search.parallel,
        slack=search.slack,
        bucket=search.together,
        duration=duration,
        closing=closing,
        share=share,
    )


def clock(
    evaluations: float,
    *,
    parallel: int,
    slack: float,
    bucket: int = 1,
    duration: Duration,
    closing: int = 0,
    share: Share = whole,
) -> Iterator[Step]:
    """Schedule by a virtual clock: `parallel` virtual workers that are never idle.

    A slot that starts at the virtual time t is bred with the results of all slots with
    start + (1 + slack) * duration <= t, learned in the order of these ends. The slack gives real
    workers, whose times differ from the estimate, room to finish before the driver waits for
    them. `duration` and `share` are called once the slot was bred. A worker takes `bucket` slots
    at a time, for as long as they would take one after the other.
    """
    # Only estimated durations enter, never real time or the number of real workers: that makes
    # the order of steps, and with it the search, reproducible on any machine. Both heaps break
    # ties by slot number.
    free = [0.0] * parallel  # virtual time at which each virtual worker is next free
    running: list[tuple[float, int]] = []  # virtual time at which a slot is learned, and the slot
    budget, closed = Budget(evaluations, closing), False
    slots = count()
    while True:
        if budget.closes and not closed:
            closed = True
            free = [max(running)[0]] * parallel
            yield from (Learn(one) for _, one in sorted(running))
            running = []
        if budget.exhausted:
            break
        start = heapq.heappop(free)
        while running and running[0][0] <= start:
            yield Learn(heapq.heappop(running)[1])
        bred: list[int] = []
        took = 0.0
        while len(bred) < bucket and not budget.exhausted and budget.closes == closed:
            bred.append(next(slots))
            yield Breed(bred[-1])
            budget.spent += share(bred[-1])
            took += duration(bred[-1])
        heapq.heappush(free, start + took)
        for slot in bred:
            heapq.heappush(running, (start + took * (1 + slack), slot))
    yield from (Learn(one) for _, one in sorted(running))


def generational(
    evaluations: float, population: int, *, closing: int = 0, share: Share = whole
) -> Iterator[Step]:
    """Schedule by generations: each is bred after all results of the one before, in slot order."""
    budget, closed = Budget(evaluations, closing), False
    first = slot = 0
    while not budget.exhausted:
        yield Breed(slot)
        budget.spent += share(slot)
        slot += 1
        full = slot - first == population
        if full or budget.exhausted or (budget.closes and not closed):
            closed = budget.closes
            yield from map(Learn, range(first, slot))
            first = slot


def asynchronous(
    evaluations: float,
    *,
    workers: int,
    recorded: Iterable[Step],
    finished: Callable[[], Iterable[int]],
    closing: int = 0,
    share: Share = whole,
) -> Iterator[Step]:
    """Schedule by real time: a slot is bred as soon as fewer than `workers` are running.

    It is bred with all results so far. The steps `recorded` before a resume come first.
    `finished` waits for an evaluation, and returns the slots that finished since its last call.
    """
    budget = Budget(evaluations, closing)
    bred = learned = 0
    for step in recorded:
        yield step
        if isinstance(step, Breed):
            bred += 1
            budget.spent += share(step.slot)
        else:
            learned += 1
    closed = False
    while learned < bred or not budget.exhausted:
        closed = closed or (budget.closes and learned == bred)
        while bred - learned < workers and not budget.exhausted and (closed or not budget.closes):
            yield Breed(bred)
            budget.spent += share(bred)
            bred += 1
        for slot in finished():
            yield Learn(slot)
            learned += 1


def most_busy(search: Search) -> tuple[str, int | None]:
    """The key that says how many workers the schedule keeps busy, and how many; None: any."""
    return {
        "clock": ("parallel", search.parallel),
        "generational": ("population", search.population),
        "asynchronous": ("", None),
    }[search.schedule]


def idle_workers(search: Search, workers: int) -> str:
    """Warning that not all workers can be kept busy, with the remedy; empty if they can."""
    name, most = most_busy(search)
    if most is None or workers <= most:
        return ""
    return (
        f"{workers} workers, but search.{name} is {most}, and the search is the same on any number "
        f"of workers: about {most} will be busy. To use more, launch with search.{name}={workers} "
        "or search.schedule=asynchronous; either is a different search"
    )
