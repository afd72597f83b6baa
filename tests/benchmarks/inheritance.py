"""Searches with and without inherited weights: `make bench NAME=inheritance`, 22 minutes.

Real fine-tunes of the quickstart's model on its text, cut to a single objective and short enough
that longer ones would be better. Three kinds of search at equal total training tokens, 5 seeds,
in turns: children from scratch, from their first parent's weights, and from both parents' merged.
Beside that the comparison at equal cumulative tokens, on the test split: each winner against its
own recipe from scratch, and against the winner of the search from scratch trained as long.
`--keep FOLDER` keeps the runs and goes on with what is there.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from evo import config as configuration
from evo import history
from evo.history.comparison import COLD, WINNER
from evo.history.tables import FULL
from evo.planning.lineages import from_fact
from evo.prepare.task import prepare
from evo.record.artifacts import Artifacts
from evo.record.ledger import FILE as LEDGER
from evo.record.ledger import Ledger, read
from evo.search.decisions import Decisions
from evo.search.loop import compare, evolve
from evo.search.requests import Requests, StopRequests
from fitness.cost import cost_of
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from tests.benchmarks.comparison import mean_error

KINDS = ("scratch", "parent", "merge")
OBJECTIVE = "target/loss"
MERGING = {
    "merge_weight": {"type": "float", "low": 0.0, "high": 1.0},
    "merge_method": {"type": "choice", "options": ["svd", "ties", "dare_linear", "dare_ties"]},
    "merge_density": {"type": "float", "low": 0.2, "high": 0.9},
}


@dataclass(frozen=True)
class Outcome:
    """Result of one search: losses in nats per token, tokens in all and of the winner's lineage."""

    selection: float
    test: float
    tokens: float
    cumulative: float
    cold: float  # the winner's recipe from scratch on as many; its own test where it inherited none
    evaluations: int


def spec(kind: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The quickstart with one objective, no prompts and shorter fine-tunes."""
    source = configuration.resolve_spec("quickstart")
    plain: dict[str, Any] = YAML(typ="safe", pure=True).load(source)
    for one in plain["sources"].values():
        one["path"] = str(source.parent / one["path"])
    target = plain["domains"]["target"]
    for split in ("selection", "test"):
        target[split]["path"] = str(source.parent / target[split]["path"])
    genome = plain["genome"] | (MERGING if kind == "merge" else {})
    return {
        **{name: plain[name] for name in ("model", "sources")},
        "name": f"{kind}-{seed}",
        "seed": seed,
        "domains": {"target": target},
        "recipe": {**plain["recipe"], "batch_size": 4, "start": kind},
        "genome": genome,
        "objectives": {OBJECTIVE: "minimize"},
        "baselines": ["uniform"],
        "search": {"strategy": "nsga2", "population": 4, "parallel": 2, "replicates": 2},
        "budget": {"evaluations": options.evaluations, "tokens": options.tokens}
        | {"inherit_share": options.share},
        "comparison": {"seeds": 2},
    }


class Here:
    """Stands in for the cluster: evaluates in this process, in the order asked for.

    What a search finds depends on neither, and no Ray has to be started for each.
    """

    size = 1
    busy = 0

    def __init__(self, task: Task) -> None:
        self._evaluator = Evaluator(task)
        self._queue: deque[EvaluationSpec] = deque()

    def submit(self, spec: EvaluationSpec) -> None:
        self._queue.append(spec)

    def poll(self, seconds: float) -> list[Evaluation]:
        started = time.time()
        found = self._evaluator.evaluate(self._queue.popleft())
        return [replace(found, started=started, finished=time.time())]


def launched(folder: Path, kind: str, seed: int, options: argparse.Namespace) -> Path:
    """A run, searched or resumed to its end."""
    run, file = folder / f"{kind}-{seed}", folder / f"{kind}-{seed}.yaml"
    configuration.write_yaml(spec(kind, seed, options), file)
    config = configuration.load(file)
    prepared = prepare(config)
    if not (run / LEDGER).exists():
        header = {
            "config": configuration.to_plain(config),
            "fingerprints": prepared.fingerprints,
            "time": time.time(),
        }
        Ledger.create(run, header).close()
    here: Any = Here(replace(prepared.task, artifacts=run / "artifacts"))
    with Ledger(run) as ledger:
        decisions = Decisions(config, ledger)
        requests = Requests(config, ledger, here, decisions.individual, StopRequests())
        cost, artifacts = cost_of(prepared.task), Artifacts(run / "artifacts")
        winner = evolve(config, prepared.sizes, cost, decisions, requests, artifacts)
        compare(config, winner, decisions, requests)
    return run


def outcome(run: Path) -> Outcome:
    facts = read(run)
    won = history.winner(facts)
    scores = history.scores(facts).set_index("individual")
    closing = history.comparison(facts).query("measurement == @OBJECTIVE").set_index("contender")
    rows = history.search_rows(facts)
    means = closing["mean"].to_dict()
    test = float(means[WINNER])
    return Outcome(
        float(scores[OBJECTIVE].to_dict()[won]),
        test,
        float(rows["tokens"].sum()),
        float(closing["tokens"].to_dict()[WINNER]),
        float(means.get(COLD, test)),
        len(rows),
    )


def longer(run: Path, tokens: float) -> float:
    """The winner's recipe from scratch on so many tokens: mean test loss under the run's seeds."""
    facts = read(run)
    config = configuration.of(facts)
    won = next(f for f in facts if f["fact"] == "individual" and f["id"] == history.winner(facts))
    recipe = configuration.decode(config, from_fact(won).genome)
    evaluator = Evaluator(prepare(config).task)
    found = []
    for seed in range(config.seed + 1, config.seed + 1 + config.comparison.seeds):
        times = max(FULL, tokens / config.budget.tokens)
        evaluation = evaluator.evaluate(EvaluationSpec(won["id"], recipe, seed, times, "test"))
        if evaluation.status is not Status.OK:
            raise SystemExit(f"{run}: {evaluation.message}")
        found.append(evaluation.measurements[OBJECTIVE])
    return statistics.mean(found)


def table(
    found: dict[str, list[Outcome]], rivals: dict[str, list[float]], seeds: int
) -> dict[str, Any]:
    """Prints a line a kind; returns the figures, each a mean and its standard error."""
    print(f"{OBJECTIVE}, mean and standard error over {seeds} seeds; lower is better")
    print(
        f"{'':8} {'tokens':>9} {'fine-tunes':>10} {'selection':>15} {'test':>15}   "
        f"winner's lineage: {'tokens':>7} {'its recipe cold':>16} {'scratch winner':>16}"
    )
    figures: dict[str, Any] = {}
    for kind, outcomes in found.items():
        columns = {
            "selection": mean_error([one.selection for one in outcomes]),
            "test": mean_error([one.test for one in outcomes]),
            "cold": mean_error([one.cold for one in outcomes]),
            "scratch_winner_as_long": mean_error(rivals[kind]),
            "test_minus_scratch": mean_error(
                [a.test - b.test for a, b in zip(outcomes, found["scratch"], strict=True)]
            ),
            "test_minus_cold": mean_error([one.test - one.cold for one in outcomes]),
            "test_minus_scratch_winner_as_long": mean_error(
                [one.test - rival for one, rival in zip(outcomes, rivals[kind], strict=True)]
            ),
        }
        tokens, cumulative, evaluations = (
            statistics.mean(getattr(one, name) for one in outcomes)
            for name in ("tokens", "cumulative", "evaluations")
        )
        shown = {name: f"{mean:.4f} ± {error:.4f}" for name, (mean, error) in columns.items()}
        print(
            f"{kind:8} {tokens:9,.0f} {evaluations:10.1f} {shown['selection']:>15} "
            f"{shown['test']:>15} {'':18} {cumulative:7,.0f} {shown['cold']:>16} "
            f"{shown['scratch_winner_as_long']:>16}"
        )
        figures[kind] = {"tokens": tokens, "cumulative": cumulative, **columns}
        figures[kind]["evaluations"] = evaluations
    print("differences on the test split, paired by seed; negative is better:")
    names = ("test_minus_scratch", "test_minus_cold", "test_minus_scratch_winner_as_long")
    for kind in found:
        told = [f"{n} {figures[kind][n][0]:+.4f} ± {figures[kind][n][1]:.4f}" for n in names]
        print(f"{kind:8} {', '.join(told)}")
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, list[Outcome]] = {kind: [] for kind in KINDS}
        rivals: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for seed in range(options.seeds):
            for kind in KINDS:
                run = launched(folder, kind, seed, options)
                found[kind].append(outcome(run))
                rival = longer(folder / f"scratch-{seed}", found[kind][-1].cumulative)
                rivals[kind].append(rival)
                print(f"{run.name}: {found[kind][-1]}, scratch winner {rival:.4f}", flush=True)
        figures = table(found, rivals, options.seeds)
    settings = {
        name: getattr(options, name) for name in ("seeds", "evaluations", "tokens", "share")
    }
    print("BENCH " + json.dumps({"name": "inheritance", **settings, "kinds": figures}))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=inheritance", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="searches of each (default 5)")
    parser.add_argument("--evaluations", type=int, default=16, help="full fine-tunes of each")
    parser.add_argument("--tokens", type=int, default=6144, help="of a full fine-tune")
    parser.add_argument("--share", type=float, default=1.0, help="of these for an heir")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs, or go on")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
