"""Many courses of events, on all cores: `make faults`; `ARGS='--seeds 1 --first 7'` for one."""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.course import Broken, judged
from tests.faults.driver import MEMORY, configured

PROGRESS_SECONDS = 10.0


def tried(seed: int) -> tuple[int, str, dict[str, int]]:
    """The seed, why its course broke a promise (empty if it did not), and counts of its faults."""
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=MEMORY))
    try:
        course = judged(seed, folder)
    except Broken as error:
        return seed, str(error), {}
    finally:
        shutil.rmtree(folder)
    return seed, "", course.counts()


def main() -> int:
    """Try the seeds; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    failed, counts, begun = [], Counter[str](), time.perf_counter()
    told = begun
    configured("clock")  # so that the processes share a folder, which this one deletes
    with multiprocessing.get_context("fork").Pool(given.processes) as pool:
        for done, (seed, why, happened) in enumerate(pool.imap_unordered(tried, seeds, 4), 1):
            counts.update(happened)
            if why:
                failed.append(seed)
                again = f"make faults ARGS='--seeds 1 --first {seed}'"
                print(f"{why}\nagain: {again}\n", flush=True)
            if time.perf_counter() > told + PROGRESS_SECONDS:
                told = time.perf_counter()
                print(f"{done} of {len(seeds)}, {len(failed)} failed", file=sys.stderr, flush=True)
    seconds = round(time.perf_counter() - begun, 1)
    figures = {"seeds": len(seeds), "failed": sorted(failed), "seconds": seconds, **counts}
    print(f"BENCH {json.dumps(figures)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
