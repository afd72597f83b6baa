"""Rounds with a checker (`runs/checked_rounds.yaml`): `make bench NAME=checked`, an hour.

Exact match on prompts in no training data, by round and over seeds: of the untouched base, of each
round's winner, and of the last winner's own recipe on as many tokens of unfiltered samples. Errors
are over the seeds; `items` is the binomial error of a share of so many prompts. Alone on the
machine if the time is to mean anything. `--model FOLDER` takes another base, `--spec FILE` another
spec. `--keep FOLDER` keeps the runs, and goes on with what is there.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from evo.history.comparison import WINNER
from evo.history.rounds import Round, rounds
from evo.planning.controls import UNFILTERED
from evo.record.ledger import read
from tests.benchmarks.comparison import mean_error
from tests.benchmarks.launches import finished
from tests.evo.driving import ROOT

SPEC = ROOT / "runs/checked_rounds.yaml"


def scores(found: list[Round]) -> dict[str, float]:
    """Test-split means of the first objective, by contender."""
    name = next(iter(found[0].outcome["measurements"]))
    told = {f"round {one.number}": one.tested(WINNER, name) for one in found if one.number}
    told |= {
        "base": found[0].tested(WINNER, name),
        "unfiltered": found[-1].tested(UNFILTERED, name),
    }
    return {name: float(row["mean"]) for name, row in told.items() if row is not None}


def seconds(run: Path) -> float:
    """Seconds from the launch to the end, of a run that was not interrupted."""
    facts = read(run)
    return float(facts[-1]["time"] - facts[0]["time"])


def main() -> None:
    options = _options()
    by_seed: list[dict[str, float]] = []
    spent: list[float] = []
    items = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        settings = list(options.set)
        settings += [f"model.base={options.model.resolve()}"] if options.model else []
        for seed in range(options.seeds):
            run = finished(folder / f"checked-{seed}", options.spec, f"seed={seed}", *settings)
            found = [one for one in rounds(run, read(run)) if one.fact]
            by_seed.append(scores(found))
            spent.append(seconds(run))
            name = next(iter(found[0].outcome["measurements"]))
            row = found[-1].tested(WINNER, name)
            items = int(row["items"]) if row is not None else 0
            print(f"seed {seed}, {spent[-1]:.0f} s: {by_seed[-1]}", flush=True)
    figures: dict[str, Any] = {}
    print(f"{'':12}{'test':>16}{'gain on the base':>24}{'items':>9}")
    for name in sorted({name for one in by_seed for name in one}):
        values = [one[name] for one in by_seed if name in one]
        gains = [one[name] - one["base"] for one in by_seed if name in one]
        mean, error = mean_error(values)
        gain, gain_error = mean_error(gains)
        binomial = math.sqrt(mean * (1 - mean) / max(1, items))
        figures[name] = {"test": (mean, error), "gain": (gain, gain_error), "items": binomial}
        shown = f"{gain:+.3f} ± {gain_error:.3f}"
        print(f"{name:12}{f'{mean:.3f} ± {error:.3f}':>16}{shown:>24}{f'± {binomial:.3f}':>9}")
    bench = {"name": "checked", "seeds": options.seeds, "prompts": items}
    print("BENCH " + json.dumps({**bench, "seconds": mean_error(spent), "figures": figures}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=checked", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs (default 5)")
    parser.add_argument("--spec", type=Path, default=SPEC, help=f"default: {SPEC.name}")
    parser.add_argument("--model", type=Path, help="folder of another base")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the spec"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs, or go on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
