"""Time and memory that grow with the search: `make bench NAME=scale`, about seven minutes.

1,000 trials of one second on 16 logical CPUs (`ARGS='--trials 10000'` takes eleven minutes), beside
as many, but at most 1,000, with Ray Tune; its actors are reused, which is its faster way. Then
reading, analysing and holding long runs, a driver's time and memory, dispatching to many workers,
asking and telling nsga2, and the surrogate with 24 losses over 64 sources. `--without-trials`
leaves the trials out. Ray Tune needs packages that evomix does not: `pip install 'ray[tune]'`;
without them it is left out, and the output says so.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORKERS = 16
INDIVIDUALS = (1_000, 30_000, 100_000)
SPEC = """\
name: one-second
evaluator: tests.benchmarks.scale:one_second
genome:
  mixture: {{type: simplex, over: [a, b, c, d]}}
  rate: {{type: float, low: 1e-4, high: 1e-1, log: true}}
objectives: {{loss: minimize}}
baselines: []
search: {{strategy: nsga2, population: {population}, schedule: generational, replicates: 1}}
budget: {{evaluations: {trials}, tokens: 1}}
resources: {{workers: {workers}, timeout: 600}}
comparison: {{seeds: 1}}
"""
TUNE = """\
import json, sys, time
import ray
from ray import tune
from tests.benchmarks.scale import one_second

def trial(config):
    return one_second(config, seed=0, fidelity=1.0, split="selection")

ray.init(num_cpus=int(sys.argv[2]), include_dashboard=False, log_to_driver=False)
begun = time.perf_counter()
tuner = tune.Tuner(
    trial,
    param_space={"rate": tune.loguniform(1e-4, 1e-1)},
    tune_config=tune.TuneConfig(num_samples=int(sys.argv[1]), reuse_actors=True),
    run_config=tune.RunConfig(verbose=0, storage_path=sys.argv[3]),
)
grid = tuner.fit()
fit = time.perf_counter() - begun
ends = [one.metrics["timestamp"] for one in grid]
first = min(one.metrics["timestamp"] - one.metrics["time_total_s"] for one in grid)
found = {"seconds": max(ends) - first, "fit_seconds": fit}
print(json.dumps({**found, "errors": grid.num_errors, "trials": len(grid)}))
"""


def one_second(
    recipe: Mapping[str, Any], *, seed: int, fidelity: float, split: str
) -> dict[str, float]:
    """A fine-tune that does nothing, for a second."""
    time.sleep(1)
    return {"loss": recipe["rate"]}


def main() -> None:
    options = _options()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.without_trials:
            figures["trials"] = _trials(folder, options.trials, options.workers)
            figures["tune"] = _tune(folder, min(options.trials, 1000), options.workers)
        for count in INDIVIDUALS:
            figures[f"run_of_{count}"] = _apart("long_run", folder / str(count), count)
        figures["append"] = _apart("append", folder / "append")
        figures["driver"] = _apart("driver", folder / "driver", 3000)
        figures["dispatch_ms"] = {
            str(workers): _apart("dispatch", workers) for workers in (16, 128, 1000)
        }
        figures["nsga2_ms"] = _apart("nsga2", 30_000)
        figures["surrogate_ms"] = _apart("surrogate", 500)
    print("BENCH " + json.dumps({"name": "scale", **figures}))


def _trials(folder: Path, trials: int, workers: int) -> dict[str, float]:
    """One-second trials through the `evo` command on a Ray of its own."""
    from evo.record.ledger import read
    from tests.evo.driving import command, environment

    spec = folder / "one-second.yaml"
    population = max(1, trials // 100) * workers  # few generations, each of whole rounds
    spec.write_text(SPEC.format(trials=trials, workers=workers, population=population))
    run = folder / "run"
    begun = time.perf_counter()
    done = subprocess.run(
        command("launch", spec, "--run", run, "--json"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    total = time.perf_counter() - begun
    facts = read(run)
    searched = [
        fact
        for fact in facts
        if fact["fact"] == "evaluation" and fact["split"] == "selection" and fact["fidelity"] == 1
    ]
    first = min(fact["started"] for fact in searched)
    figures = {
        "trials": len(searched),
        "workers": workers,
        "ideal_seconds": trials / workers,
        "seconds": max(fact["finished"] for fact in searched) - first,
        "start_seconds": first - facts[0]["time"],
        "command_seconds": total,
        "driver_cpu_seconds": facts[-1]["driver_seconds"],
    }
    return _shown(f"{trials} one-second trials on {workers} logical CPUs", figures)


def _tune(folder: Path, trials: int, workers: int) -> dict[str, float] | None:
    """The same trials with Ray Tune, alone on a Ray of its own."""
    from tests.evo.driving import environment

    if not importlib.util.find_spec("tensorboardX"):
        print("Ray Tune: left out; its packages are missing: pip install 'ray[tune]'")
        return None
    done = subprocess.run(
        [sys.executable, "-c", TUNE, str(trials), str(workers), str(folder / "tune")],
        env=environment(RAY_USAGE_STATS_ENABLED=0, RAY_ENABLE_AUTO_CONNECT=0),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    if figures["errors"] or figures["trials"] != trials:
        raise SystemExit(f"Ray Tune: {figures}\n{done.stderr}")
    figures["ideal_seconds"] = trials / workers
    return _shown(f"Ray Tune, {trials} of them", figures)


def _apart(part: str, *arguments: object) -> Any:
    """A part of `tests.benchmarks.scale_parts` in a process of its own, with clean memory."""
    code = (
        "import json, sys, tests.benchmarks.scale_parts as parts\n"
        f"print(json.dumps(parts.{part}(*sys.argv[1:])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return _shown(" ".join([part, *map(str, arguments)]), json.loads(done.stdout))


def _shown(title: str, figures: dict[str, float]) -> dict[str, float]:
    print(f"{title}:", ", ".join(f"{name} {value:.5g}" for name, value in figures.items()))
    sys.stdout.flush()
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=scale", description=__doc__)
    parser.add_argument("--trials", type=int, default=1000, help="default: 1000")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"default: {WORKERS}")
    parser.add_argument("--without-trials", action="store_true", help="what needs no Ray")
    return parser.parse_args()


if __name__ == "__main__":
    main()
