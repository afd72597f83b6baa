"""A search over a formula: for tests of everything around an evaluation. No model, no data."""

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SPEC = """\
name: toy
evaluator: tests.evo.toy:score
genome:
  mixture: {{type: simplex, over: [a, b, c]}}
  rate: {{type: float, low: 1e-4, high: 1e-1, log: true}}
  kind: {{type: choice, options: [x, y, broken]}}
objectives: {{target: minimize, general: minimize}}
constraints: [general <= 2.9]
baselines: []
search: {{strategy: {strategy}, population: 6, schedule: {schedule}, replicates: {replicates}}}
budget: {{evaluations: {evaluations}, tokens: 1}}
resources: {{workers: {workers}, timeout: {timeout}}}
comparison: {{seeds: 2}}
"""


def write_spec(
    folder: Path,
    *,
    evaluations: int = 24,
    workers: int = 2,
    timeout: float = 60,
    schedule: str = "clock",
    replicates: int = 3,
    strategy: str = "nsga2",  # the default strategy would take most of a test's time
) -> Path:
    path = folder / "toy.yaml"
    chosen = {"strategy": strategy, "schedule": schedule, "replicates": replicates}
    resources = {"workers": workers, "timeout": timeout}
    path.write_text(SPEC.format(evaluations=evaluations, **chosen, **resources))
    return path


def score(recipe: Mapping[str, Any], *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    """Two losses in conflict, with an interior optimum; `kind: broken` always raises.

    TOY_SECONDS is how long an evaluation takes; TOY_CALLS a folder that gets a file for each call.
    """
    if calls := os.environ.get("TOY_CALLS"):
        name = f"{recipe['rate']!r}-{recipe['kind']}-{seed}-{fidelity}-{split}-{time.time_ns()}"
        (Path(calls) / name).touch()
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    if fidelity == 0:
        return {"target": 5.0, "general": 2.0}
    if recipe["kind"] == "broken":
        raise RuntimeError("broken on purpose")
    if recipe["kind"] == "device":
        raise RuntimeError("CUDA error: device-side assert triggered")
    share = recipe["mixture"]
    target = 4 + 4 * (share["a"] - 0.5) ** 2 + 3 * (share["b"] - 0.4) ** 2
    target += 0.3 * (math.log10(recipe["rate"]) + 2) ** 2 + (recipe["kind"] == "x") * 0.1
    return {"target": target + 0.01 * (seed % 3), "general": 2 + share["a"]}


def hang(recipe: Mapping[str, Any], *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    """Like `score`, but never comes back for one kind."""
    if recipe["kind"] == "broken" and fidelity:
        time.sleep(3600)
    return score(recipe, seed=seed, fidelity=fidelity, split=split)
