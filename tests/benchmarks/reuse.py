"""Savings by the scores of an earlier search of another budget, on the toy of the tests.

Regret of the first objective after some evaluations, means over seeds: alone, after a search of the
same surface, and after one of its opposite, which misleads. Trains nothing; takes half a minute.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.evo import toy
from tests.evo.facts import read
from tests.evo.reuse.searches import search, spec
from tests.evo.search.test_loop import InProcess, Task

CHANGES = (
    ("[x, y, broken]", "[x, y]"),
    ("{target: minimize, general: minimize}", "{target: minimize}"),
    ("[general <= 2.9]", "[]"),
)
SEEDS = range(12)
AFTER = (4, 8, 12, 20)
LOWEST = 4.0


def opposite(recipe: Any, **where: Any) -> dict[str, float]:
    """The toy's losses, so that the best recipes are the worst."""
    found = toy.score(recipe, **where)
    return {name: 10 - value for name, value in found.items()}


def regrets(run: Path) -> list[float]:
    """Regret after each number of evaluations in `AFTER`."""
    done = [fact for fact in read(run) if fact["fact"] == "evaluation" and fact["fidelity"]]
    known = [fact for fact in done if fact["split"] == "selection"]
    return [
        min(one["measurements"]["target"] for one in known if one["individual"] < count) - LOWEST
        for count in AFTER
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings: dict[str, Any] = {"strategy": "surrogate", "evaluations": 24}
        for name, function in (
            ("the same", "tests.evo.toy:score"),
            ("the opposite", "tests.benchmarks.reuse:opposite"),
        ):
            path = spec(folder, *CHANGES, ("tests.evo.toy:score", function), **settings)
            search(folder / name, path, cluster=InProcess(Task(function)))
        print("after", *AFTER, sep="\t")
        for earlier in ("", "the same", "the opposite"):
            found = []
            for seed in SEEDS:
                more = f"seed: {3000 * (seed + 1)}\n"
                changed = (*CHANGES, ("tokens: 1", "tokens: 2"))
                path = spec(
                    folder, *changed, more=more, strategy="surrogate", evaluations=AFTER[-1]
                )
                run = folder / f"{earlier or 'alone'}-{seed}"
                search(run, path, [folder / earlier] if earlier else [])
                found.append(regrets(run))
            means = np.mean(found, axis=0)
            print(earlier or "alone", *(f"{one:.4f}" for one in means), sep="\t")


if __name__ == "__main__":
    main()
