"""The searches that meet faults: over each schedule and strategy, and what they combine.

All are specs of the builtin trainer, so that they pause, inherit, simulate and share buckets, but
`tests.faults.synthetic` evaluates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evo.config import SearchConfig
from fitness.data.sources import TokenFile
from fitness.evaluation import Task

SPEC = """\
name: faults
model: {base: quickstart}
sources: {a: {path: a.txt}, b: {path: b.txt}, c: {path: c.txt}}
domains:
  held: {selection: {path: a.txt}, test: {path: b.txt}}
  other: {selection: {path: a.txt}, test: {path: b.txt}}
recipe: {adapter: lora}
genome:
  mixture: {type: simplex}
  learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}
objectives: {held/loss: minimize}
baselines: [proportional]
search: {strategy: nsga2, population: 4, parallel: 3, replicates: 2, simulate: off}
budget: {evaluations: 10, tokens: 16384}
comparison: {seeds: 1}
resources: {workers: 2, timeout: 15}
"""
COARSE = "genome.learning_rate={type: choice, options: [1e-3]}"  # so that genomes meet again
START = "genome.start={type: choice, options: [parent, merge]}"
HEIRS = (START, "budget.evaluations=16", "search.replicates=1", "search.parallel=2")
SEVERAL = "objectives={held/loss: minimize, other/loss: minimize}"
RUNGS = "search.rungs=[0.25, 0.5]"


@dataclass(frozen=True)
class Search:
    """Changes to the spec; `harsh` recipes fail, `ordered` is the same in any order of answers."""

    changes: tuple[str, ...] = ()
    harsh: bool = True
    ordered: bool = True
    after: str = ""  # the search that it imports
    weight: float = 1.0  # of its choice; a surrogate takes longer than all else


def _schedule(name: str) -> str:
    return f"search.schedule={name}"


def _strategy(name: str, population: int = 4) -> tuple[str, str]:
    return f"search.strategy={name}", f"search.population={population}"


SEARCHES: Mapping[str, Search] = {
    "clock": Search(),
    "generations": Search((_schedule("generational"),)),
    "asynchronous": Search((_schedule("asynchronous"),), ordered=False),
    "rungs": Search((RUNGS,)),
    "rungs that stop": Search(
        (RUNGS, "search.promotion=stopping", _schedule("generational")),
    ),
    "rungs, asynchronous": Search((RUNGS, _schedule("asynchronous")), ordered=False),
    "buckets": Search(("search.bucket=3",)),
    "buckets in generations": Search(("search.bucket=2", _schedule("generational")), harsh=False),
    "buckets, asynchronous": Search(("search.bucket=2", _schedule("asynchronous")), ordered=False),
    "bucket measured": Search(("search.bucket=auto", "recipe.precision=auto"), ordered=False),
    "inheritance": Search(HEIRS),
    "inheritance in generations": Search((*HEIRS, _schedule("generational"))),
    "inheritance, asynchronous": Search((*HEIRS, _schedule("asynchronous")), ordered=False),
    "inheritance of short children": Search((*HEIRS, "budget.inherit_share=0.25"), harsh=False),
    "inheritance in buckets": Search((*HEIRS, "search.bucket=2")),
    "equal genomes": Search((COARSE, "genome.mixture={type: simplex, over: [a, b]}")),
    "simulation": Search((*_strategy("surrogate"), "search.simulate=6"), harsh=False, weight=0.5),
    "constraint": Search(("constraints=[held/loss <= 0.86 * base]",)),
    "two objectives": Search((SEVERAL,)),
    "aggregate": Search(
        (
            "aggregates={quality: {mean: [held/loss, other/loss], relative_to: base}}",
            "objectives={quality: minimize}",
        )
    ),
    "shares of the budget": Search(("genome.train_share={type: float, low: 0.3, high: 1}",)),
    "several processes": Search(("resources.processes=2",)),
    "several seeds": Search(("search.replicates=3", "budget.evaluations=14")),
    "surrogate": Search(_strategy("surrogate"), weight=0.2),
    "nsga3": Search((*_strategy("nsga3", 6), SEVERAL)),
    "cmaes": Search(_strategy("cmaes")),
    "regression": Search(_strategy("regression")),
    "random": Search(_strategy("random")),
    "optuna": Search(_strategy("optuna:tpe")),
    "imports": Search((), after="clock"),
    "imports as a guide": Search(_strategy("surrogate"), after="clock", weight=0.2),
}


def written(folder: Path) -> Path:
    """Write the spec and its texts to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate("abc", 1):
        (folder / f"{name}.txt").write_text("text\n" * 400 * place)
    (folder / "search.yaml").write_text(SPEC)
    return folder / "search.yaml"


def task_of(config: SearchConfig, folder: Path) -> Task:
    """The task for workers: sources of different sizes, and no model."""
    return Task(
        config.evaluator,
        sources={
            name: TokenFile(name, str(folder / f"{name}.txt"), 1000 * place, 1, 1, "<u2", name)
            for place, name in enumerate("abc", 1)
        },
        budget_tokens=config.budget.tokens,
        inherit_share=config.budget.inherit_share,
        processes=config.resources.processes,
        timeout=config.resources.timeout,
    )
