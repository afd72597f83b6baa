"""Utilisation of workers by each schedule, simulated: `make bench NAME=schedule`, 2 minutes.

Durations are log-normal (sigma 0.6); the cost model predicts all but a log-normal factor of sigma
0.2. Simulated are the very steps that a search takes. *Busy* is the share of the workers' time
until the last evaluation begins; *in flight* is how many evaluations a worker has on the way when
a slot is bred: the staleness of what it learned from.

Then what that staleness costs: strategies on tables of finished runs (see the benchmark `replay`)
under the clock's steps and the asynchronous ones, and with every run learned from before the next.
"""

import argparse
import heapq
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from evo.config.search import default_slack
from evo.planning.schedule import Breed, Learn, Step, asynchronous, clock, generational
from evo.replay import Outcome, replay
from population.strategies import STRATEGIES
from tests.benchmarks.tasks import SHORT, TASKS

SIGMA, UNPREDICTED = 0.6, 0.2
WORKERS = (8, 64, 512, 1000)
SLOTS_A_WORKER = 60
PARALLEL = (8, 64)
BUDGET = 100


@dataclass(frozen=True)
class Simulated:
    busy: float
    in_flight: float  # evaluations, in multiples of the workers


def durations(slots: int, *, seed: int) -> tuple[list[float], list[float]]:
    """The cost that the model predicts, and the real one; both in the same unit."""
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.normal(0, np.sqrt(SIGMA**2 - UNPREDICTED**2), slots))
    return predicted.tolist(), (predicted * np.exp(rng.normal(0, UNPREDICTED, slots))).tolist()


class Workers:
    """Simulated workers that take slots in the order bred; `now` is the driver's time."""

    def __init__(self, workers: int, really: list[float]) -> None:
        self.size = workers
        self.now = 0.0
        self.spans: list[tuple[float, float]] = []  # by slot
        self._really = really
        self._free = [0.0] * workers
        self._finishing: list[tuple[float, int]] = []

    def begin(self, slot: int) -> None:
        start = max(self.now, heapq.heappop(self._free))
        end = start + self._really[slot]
        self.spans.append((start, end))
        heapq.heappush(self._free, end)
        heapq.heappush(self._finishing, (end, slot))

    def wait_for(self, slot: int) -> None:
        self.now = max(self.now, self.spans[slot][1])

    def finished(self) -> list[int]:
        """Waits until something has finished that was not told of."""
        self.now = max(self.now, self._finishing[0][0])
        slots = []
        while self._finishing and self._finishing[0][0] <= self.now:
            slots.append(heapq.heappop(self._finishing)[1])
        return slots


def driven(steps: Iterable[Step], pool: Workers) -> Iterator[Step]:
    """The steps, as the simulated workers let the driver take them."""
    for step in steps:
        yield step
        if isinstance(step, Breed):
            pool.begin(step.slot)
        else:
            pool.wait_for(step.slot)


def live(slots: int, pool: Workers) -> Iterator[Step]:
    """The asynchronous steps, whose order the simulated workers decide."""
    under_way = asynchronous(slots, workers=pool.size, recorded=(), finished=pool.finished)
    return driven(under_way, pool)


def simulated(steps: Iterable[Step], pool: Workers) -> Simulated:
    """Results of steps that drive a pool."""
    bred = learned = in_flight = 0
    for step in steps:
        bred, learned = bred + isinstance(step, Breed), learned + isinstance(step, Learn)
        in_flight += (bred - learned) * isinstance(step, Breed)
    last = max(start for start, _ in pool.spans)
    busy = sum(min(end, last) - start for start, end in pool.spans)
    return Simulated(busy / (pool.size * last), in_flight / bred / pool.size)


def schedules(workers: int, *, seed: int) -> dict[str, Simulated]:
    """Every schedule on so many workers, made for as many."""
    slots = SLOTS_A_WORKER * workers
    predicted, really = durations(slots, seed=seed)

    def busy(steps: Iterable[Step]) -> Simulated:
        pool = Workers(workers, really)
        return simulated(driven(steps, pool), pool)

    pool = Workers(workers, really)
    return {
        "clock": busy(on_clock(predicted, workers)),
        "clock without slack": busy(on_clock(predicted, workers, slack=0.0)),
        "asynchronous": simulated(live(slots, pool), pool),
        "generational": busy(generational(slots, workers)),
        "generational, twice as many": busy(generational(slots, 2 * workers)),
    }


def on_clock(
    predicted: list[float], parallel: int, *, slack: float | None = None
) -> Iterator[Step]:
    """The clock's steps with the default slack, or another."""
    return clock(
        len(predicted),
        parallel=parallel,
        slack=default_slack(parallel) if slack is None else slack,
        duration=predicted.__getitem__,
    )


def staleness(tables: Path, strategies: list[str], seeds: int) -> dict[str, dict[str, float]]:
    """Mean regret over tasks and seeds after `BUDGET` runs, by strategy and schedule.

    Or of the missing hypervolume, for two objectives.
    """
    read = [TASKS[name].read(tables) for name in SHORT]
    found: dict[str, dict[str, float]] = {}
    for name in strategies:
        figures: dict[str, list[float]] = defaultdict(list)
        for table, seed in product(read, range(seeds)):
            budget = min(BUDGET, len(table.genomes))
            predicted, really = durations(budget, seed=seed)
            orders = {"one at a time": generational(budget, 1)}
            for parallel in PARALLEL:
                orders[f"clock {parallel}"] = on_clock(predicted, parallel)
                orders[f"asynchronous {parallel}"] = live(budget, Workers(parallel, really))
            for label, steps in orders.items():
                outcome = replay(table, name, budget=budget, seed=seed, steps=steps)
                figures[label].append(_figure(outcome))
        found[name] = {label: statistics.mean(values) for label, values in figures.items()}
    return found


def _figure(outcome: Outcome) -> float:
    return 1 - outcome.hypervolume[-1] if outcome.hypervolume else outcome.regret[-1]


def main() -> None:
    options = _options()
    bench: dict[str, object] = {"name": "schedule"}
    names = list(schedules(2, seed=0))
    print(f"{'busy (in flight a worker)':28}", *(f"{n:>13} workers" for n in WORKERS))
    table = {workers: _mean_schedules(workers) for workers in WORKERS}
    for name in names:
        cells = [table[workers][name] for workers in WORKERS]
        print(f"{name:28}", *(f"{c.busy:14.1%} ({c.in_flight:4.2f})" for c in cells), flush=True)
        bench[name] = {str(n): cell.busy for n, cell in zip(WORKERS, cells, strict=True)}
    bench["slack"] = {str(workers): default_slack(workers) for workers in WORKERS}
    if options.tables.is_dir():
        regret = staleness(options.tables, options.strategies or list(STRATEGIES), options.seeds)
        print(f"\nmean regret after {BUDGET} runs, {options.seeds} seeds")
        for name, row in regret.items():
            print(f"{name:28}", *(f"{key} {figure:.4f} " for key, figure in row.items()))
        bench["regret"] = regret
    else:
        print(f"\nno folder {options.tables}: regret is left out; see the benchmark replay")
    print("BENCH " + json.dumps(bench))


def _mean_schedules(workers: int) -> dict[str, Simulated]:
    """Over several searches where they are short."""
    runs = [schedules(workers, seed=seed) for seed in range(max(1, 320 // workers))]
    return {
        name: Simulated(
            statistics.mean(run[name].busy for run in runs),
            statistics.mean(run[name].in_flight for run in runs),
        )
        for name in runs[0]
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=schedule", description=__doc__)
    default = Path(os.environ.get("EVOMIX_TABLES", "../shared/tables"))
    parser.add_argument("--tables", type=Path, default=default, help=f"default: {default}")
    parser.add_argument("--seeds", type=int, default=10, help="of each strategy (default 10)")
    parser.add_argument("--strategies", nargs="+", help="default: all there are")
    return parser.parse_args()


if __name__ == "__main__":
    main()
