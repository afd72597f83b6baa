"""Overhead of evomix beside the fine-tunes: `make bench NAME=overhead`, about 8 minutes.

Three figures: the share of the quickstart search's wall time that goes into driver, dispatch and
ledger; milliseconds an evaluation when evaluating is free; seconds until `evo --help` answers.
The limits they are held against are in RESULTS.md.
"""

import json
import statistics
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from evo.record.ledger import Fact
from tests.evo.driving import evo
from tests.evo.facts import read
from tests.evo.toy import write_spec

NO_OPS = 500
HELP_RUNS = 7


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        quickstart = _quickstart(Path(folder))
        dispatch = _no_op(Path(folder))
    figures = {**quickstart, **dispatch, "help_seconds": _help()}
    print("BENCH " + json.dumps({"name": "overhead", **figures}))


def _quickstart(folder: Path) -> dict[str, float]:
    run = folder / "quickstart"
    done = evo("launch", "quickstart", "--run", run, "--set", "comparison.seeds=1", "--json")
    if done.returncode:
        raise SystemExit(done.stderr)
    facts = read(run)
    searched = [f for f in facts if f["fact"] == "evaluation" and f["split"] == "selection"]
    begin = min(fact["started"] for fact in searched)
    end = max(fact["finished"] for fact in searched)
    workers = len({fact["worker"] for fact in searched})
    wall = (end - begin) * workers
    between = _waits(facts)
    around = sum(
        fact["finished"]
        - fact["started"]
        - fact["cost"]["train_seconds"]
        - fact["cost"]["evaluate_seconds"]
        for fact in searched
        if fact["cost"]
    )
    finished = facts[-1]
    total = finished["time"] - facts[0]["time"]
    figures = {
        "search_seconds": end - begin,
        "overhead_share": (between + around) / wall,
        "driver_cpu_share": finished["driver_seconds"] / total,
        "busy_share": sum(f["finished"] - f["started"] for f in searched) / wall,
        "start_seconds": begin - facts[0]["time"],
    }
    for name, value in figures.items():
        print(f"quickstart {name:18} {value:.4f}")
    return figures


def _waits(facts: list[Fact]) -> float:
    """Worker seconds between two evaluations while a third was waiting to be started."""
    bred = {f["id"]: place for place, f in enumerate(facts) if f["fact"] == "individual"}
    of_worker: dict[str, list[tuple[int, Fact]]] = defaultdict(list)
    for place, fact in enumerate(facts):
        if fact["fact"] == "evaluation" and fact["split"] == "selection":
            of_worker[fact["worker"]].append((place, fact))
    return sum(
        after["started"] - before["finished"]
        for found in of_worker.values()
        for (place, before), (_, after) in pairwise(found)
        if bred[after["individual"]] < place  # in the queue when `before` finished
    )


def _no_op(folder: Path) -> dict[str, float]:
    run = folder / "no-op"
    spec = write_spec(folder, evaluations=NO_OPS)
    begun = time.perf_counter()
    done = evo("launch", spec, "--run", run, "--json", "--set", "search.population=100")
    if done.returncode:
        raise SystemExit(done.stderr)
    facts = [f for f in read(run) if f["fact"] == "evaluation" and f["split"] == "selection"]
    seconds = max(f["finished"] for f in facts) - min(f["started"] for f in facts)
    figures: dict[str, Any] = {
        "no_op_milliseconds": 1000 * seconds / len(facts),
        "no_op_wall_seconds": time.perf_counter() - begun,
    }
    print(f"no-op evaluation, 2 workers: {figures['no_op_milliseconds']:.2f} ms each")
    return figures


def _help() -> float:
    seconds = []
    for _ in range(HELP_RUNS):
        begun = time.perf_counter()
        evo("--help")
        seconds.append(time.perf_counter() - begun)
    print(f"evo --help: {statistics.median(seconds):.3f} s (median of {HELP_RUNS})")
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
