"""The order of breeding and learning: what holds for each schedule, and for the clock in time."""

import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo.config.search import Search
from evo.planning.schedule import Breed, Step, asynchronous, clock, generational, idle_workers
from tests.benchmarks.schedule import Workers, driven, durations, on_clock, simulated

LASTING = st.lists(st.floats(0.01, 100), min_size=1, max_size=60)


def before_breeding(steps: list[Step]) -> dict[int, list[int]]:
    """All slots that were learned from before each slot was bred, in order."""
    learned: list[int] = []
    found = {}
    for step in steps:
        if isinstance(step, Breed):
            found[step.slot] = list(learned)
        else:
            assert step.slot in found
            learned.append(step.slot)
    assert sorted(learned) == sorted(found) == list(range(len(found)))
    assert list(found) == sorted(found)
    return found


@given(evaluations=st.integers(1, 200), population=st.integers(1, 50))
def test_a_generation_learns_from_all_before_it(evaluations: int, population: int) -> None:
    for slot, learned in before_breeding(list(generational(evaluations, population))).items():
        assert learned == list(range(slot // population * population))


@given(lasting=LASTING, parallel=st.integers(1, 9), slack=st.floats(0, 3))
def test_the_clock_learns_from_what_has_ended_in_virtual_time_and_its_slack(
    lasting: list[float], parallel: int, slack: float
) -> None:
    steps = clock(len(lasting), parallel=parallel, slack=slack, duration=lasting.__getitem__)
    learned = before_breeding(list(steps))
    free = [0.0] * parallel
    ends: list[float] = []
    for slot, took in enumerate(lasting):
        start = min(free)
        free[free.index(start)] = start + took
        assert set(learned[slot]) == {one for one, end in enumerate(ends) if end <= start}
        assert learned[slot] == sorted(learned[slot], key=lambda one: (ends[one], one))
        ends.append(start + took * (1 + slack))


@given(lasting=LASTING, parallel=st.integers(1, 5), bucket=st.integers(2, 5))
def test_a_bucket_is_bred_at_once_and_learned_from_once_all_of_it_has_ended(
    lasting: list[float], parallel: int, bucket: int
) -> None:
    duration = lasting.__getitem__
    steps = clock(len(lasting), parallel=parallel, slack=0, bucket=bucket, duration=duration)
    learned = before_breeding(list(steps))
    buckets = [range(len(lasting))[b : b + bucket] for b in range(0, len(lasting), bucket)]
    together = [sum(lasting[slot] for slot in slots) for slots in buckets]
    plain = clock(len(together), parallel=parallel, slack=0, duration=together.__getitem__)
    for number, known in before_breeding(list(plain)).items():
        for slot in buckets[number]:
            assert sorted(learned[slot]) == sorted(s for one in known for s in buckets[one])


def test_one_worker_without_slack_learns_from_everything() -> None:
    learned = before_breeding(list(clock(9, parallel=1, slack=0, duration=lambda slot: 2.5)))
    assert all(learned[slot] == list(range(slot)) for slot in range(9))


@given(lasting=LASTING, more=st.integers(1, 20))
def test_a_longer_search_begins_with_the_steps_of_a_shorter_one(
    lasting: list[float], more: int
) -> None:
    def bred(evaluations: int) -> dict[int, list[int]]:
        duration = [*lasting, *[1.0] * more].__getitem__
        return before_breeding(list(clock(evaluations, parallel=4, slack=0.5, duration=duration)))

    assert bred(len(lasting) + more).items() >= bred(len(lasting)).items()


def test_a_duration_is_asked_for_once_its_slot_was_bred() -> None:
    bred = set()

    def duration(slot: int) -> float:
        assert slot in bred
        return 1.0

    for step in clock(20, parallel=3, slack=0.2, duration=duration):
        if isinstance(step, Breed):
            bred.add(step.slot)


@given(evaluations=st.integers(1, 60), workers=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_the_asynchronous_order_is_taken_again_as_recorded_and_then_goes_on(
    evaluations: int, workers: int, seed: int
) -> None:
    draw = random.Random(seed)

    def live(recorded: list[Step]) -> Iterator[Step]:
        under_way: set[int] = set()

        def finished() -> list[int]:
            return draw.sample(sorted(under_way), draw.randint(1, len(under_way)))

        live = asynchronous(evaluations, workers=workers, recorded=recorded, finished=finished)
        for step in live:
            if isinstance(step, Breed):
                under_way.add(step.slot)
                assert len(under_way) <= workers
            else:
                under_way.remove(step.slot)
            yield step

    whole = list(live([]))
    assert len(before_breeding(whole)) == evaluations
    for cut in range(0, len(whole), 7):
        resumed = list(live(whole[:cut]))
        assert resumed[:cut] == whole[:cut]
        assert len(before_breeding(resumed)) == evaluations


@pytest.mark.parametrize("parallel", [8, 64])
def test_the_default_slack_keeps_95_of_100_workers_busy(parallel: int) -> None:
    predicted, really = durations(60 * parallel, seed=0)
    busy = []
    for slack in (None, 0.0):
        pool = Workers(parallel, really)
        busy.append(simulated(driven(on_clock(predicted, parallel, slack=slack), pool), pool).busy)
    assert busy[0] >= 0.95
    assert busy[1] < 0.9


def test_a_hundred_thousand_slots_for_a_thousand_workers_take_seconds() -> None:
    lasting, _ = durations(100_000, seed=0)
    begun = time.process_time()
    steps = clock(100_000, parallel=1000, slack=0.7, duration=lasting.__getitem__)
    assert sum(1 for _ in steps) == 200_000
    assert time.process_time() - begun < 30


@pytest.mark.parametrize(
    ("search", "workers", "told"),
    [
        (Search(parallel=4), 4, ""),
        (Search(parallel=4), 5, "5 workers, but search.parallel is 4"),
        (Search(schedule="generational", population=8), 9, "search.population is 8"),
        (Search(schedule="asynchronous"), 1000, ""),
    ],
)
def test_workers_that_cannot_be_kept_busy_are_told(search: Search, workers: int, told: str) -> None:
    text = idle_workers(search, workers)
    assert text.startswith(told) or told in text
    assert bool(text) == bool(told)
