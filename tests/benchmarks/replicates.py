"""Costs and gains of replicate evaluations: `make bench NAME=replicates`, 10 minutes.

Searches over a formula with noise of its own for every genome and seed, without and with
replicates. The figure is the true loss of the individual that is named, less the best there is.
"""

import argparse
import hashlib
import json
import math
import statistics
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from evo import config as configuration
from evo.record.artifacts import Artifacts
from evo.record.ledger import Ledger
from evo.search.decisions import Decisions
from evo.search.loop import evolve
from evo.search.requests import Requests, StopRequests
from fitness.cost import cost_of
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from tests.benchmarks.comparison import mean_error
from tests.evo.facts import read

NOISE = (0.0, 0.01, 0.03, 0.1, 0.3)  # standard deviation; a random genome has a loss of about 1
SPEC = """\
name: formula
seed: {seed}
evaluator: tests.evo.toy:score
genome:
  mixture: {{type: simplex, over: [a, b, c]}}
  rate: {{type: float, low: 1e-4, high: 1e-1, log: true}}
objectives: {{target: minimize}}
baselines: []
search: {{strategy: nsga2, population: 10, replicates: {replicates}}}
budget: {{evaluations: {evaluations}, tokens: 1}}
"""


class Noisy:
    """Stands in for the cluster: the formula, and noise that follows from genome and seed."""

    size = 4
    busy = 0

    def __init__(self, noise: float) -> None:
        self._queue: deque[EvaluationSpec] = deque()
        self._noise = noise

    def submit(self, spec: EvaluationSpec) -> None:
        self._queue.append(spec)

    def poll(self, seconds: float) -> list[Evaluation]:
        spec = self._queue.popleft()
        text = json.dumps([spec.recipe, spec.seed], sort_keys=True).encode()
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:8], "big"))
        target = true_loss(spec.recipe) + self._noise * rng.normal()
        return [Evaluation(spec, Status.OK, {"target": target})]


def true_loss(recipe: Any) -> float:
    share = recipe["mixture"]
    mixture = 4 * (share["a"] - 0.5) ** 2 + 3 * (share["b"] - 0.4) ** 2
    return float(mixture + 0.3 * (math.log10(recipe["rate"]) + 2) ** 2)


def named(folder: Path, *, seed: int, noise: float, replicates: int, evaluations: int) -> Any:
    """The true loss of the named individual, and how many slots were replicates."""
    spec = folder / "formula.yaml"
    spec.write_text(SPEC.format(seed=seed, replicates=replicates, evaluations=evaluations))
    config = configuration.load(spec)
    run = Path(tempfile.mkdtemp(dir=folder))
    header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
    with Ledger.create(run, header) as ledger:
        cluster: Any = Noisy(noise)
        decisions = Decisions(config, ledger)
        requests = Requests(config, ledger, cluster, decisions.individual, StopRequests())
        cost = cost_of(Task(config.evaluator))
        winner = evolve(config, {}, cost, decisions, requests, Artifacts(run / "artifacts"))
    return true_loss(winner.genome), sum(fact["fact"] == "repeat" for fact in read(run))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=replicates", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="searches a cell (default 100)")
    parser.add_argument("--evaluations", type=int, default=40, help="of each (default 40)")
    options = parser.parse_args()
    cells: dict[str, dict[str, float]] = {}
    print(f"{'noise':>6} {'replicates':>10} {'true loss':>10} {'error':>7} {'slots':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for noise in NOISE:
            for replicates in (1, 2, 3):
                found = [
                    named(
                        Path(folder),
                        seed=seed,
                        noise=noise,
                        replicates=replicates,
                        evaluations=options.evaluations,
                    )
                    for seed in range(options.seeds)
                ]
                losses, slots = zip(*found, strict=True)
                mean, error = mean_error(losses)
                spent = statistics.mean(slots)
                line = f"{noise:6} {replicates:10} {mean:10.4f} {error:7.4f} {spent:6.1f}"
                print(line, flush=True)
                cells[f"noise {noise}, replicates {replicates}"] = {"loss": mean, "slots": spent}
    print("BENCH " + json.dumps({"name": "replicates", "seeds": options.seeds, "cells": cells}))


if __name__ == "__main__":
    main()
