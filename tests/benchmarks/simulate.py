"""Simulated mixtures: how well they rank, and what a search gains or loses: `NAME=simulate`.

Two parts. Landscapes are formulas, searched with and without simulation under the same seeds: two
that sums of experts follow, under a default learning rate that is nearly right and one that is a
fifth of the best, and three on which they mislead: a small source that is spoilt by repetition
where its expert is trained on it alone, two sources that help only together, and sums that say the
opposite. Regret is the loss above the best of 20,000 draws under the best rate.
`--rank` trains experts and `--mixtures` random mixtures under the default recipe of the quickstart,
or with `--model FOLDER` of that model with an adapter, and compares them with the sums.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from evo import config as configuration
from evo.config import SearchConfig, constraints, decode
from evo.config.genomes import default_genome
from evo.planning.experts import SHARES, experts, settled
from evo.prepare.task import prepare
from evo.record.artifacts import Artifacts
from evo.record.ledger import Ledger
from evo.search.loop import evolve
from fitness.cost import Cost
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Simulation, Status, Task
from population.genes import Simplex
from tests.benchmarks.comparison import mean_error
from tests.benchmarks.time_to_quality import larger
from tests.evo.facts import read
from tests.evo.search.test_loop import InProcess, parts

SOURCES = "abcdefg"
ALONE = dict(zip(SOURCES, (3.2, 3.3, 3.0, 3.5, 3.6, 3.7, 3.8), strict=True))  # losses of experts
BEST = dict(zip(SOURCES, (0.35, 0.25, 0.2, 0.1, 0.1, 0.0, 0.0), strict=True))
RATES = {"another rate": -2.3}
SCORING = 0.1  # cost beside a fine-tune
Shares = Mapping[str, float]
Landscape = Callable[[Shares], float]

SPEC: dict[str, Any] = {
    "name": "landscape",
    "model": {"base": "quickstart"},
    "sources": {name: {"path": "a.txt"} for name in SOURCES},
    "domains": {"held": {"selection": {"path": "a.txt"}, "test": {"path": "a.txt"}}},
    "genome": {
        "mixture": {"type": "simplex"},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    },
    "recipe": {"learning_rate": 1e-3},
    "objectives": {"held/loss": "minimize"},
    "search": {"parallel": 2, "replicates": 1},
    "budget": {"tokens": 1536},
}


def away(shares: Shares) -> float:
    """Squared distance from the best mixture, 0 to 2."""
    return sum((shares.get(name, 0.0) - best) ** 2 for name, best in BEST.items())


def sums(shares: Shares) -> float:
    """Mean of the experts' losses, less what a sum of several gains."""
    alone = sum(share * ALONE[name] for name, share in shares.items())
    return alone - 0.5 * (1 - sum(share**2 for share in shares.values()))


def followed(shares: Shares) -> float:
    return 2.6 + 0.8 * away(shares)


def repeated(shares: Shares) -> float:
    """The best source is small: above a share of .4 it is spoilt, so that its expert is poor."""
    return 3.2 - 1.0 * shares["d"] + 4 * max(0.0, shares["d"] - 0.4) ** 2 + 0.2 * away(shares)


def together(shares: Shares) -> float:
    """Two sources that are poor alone help together."""
    return 3.4 - 1.6 * math.sqrt(shares["f"] * shares["g"]) + 0.1 * away(shares)


LANDSCAPES: Mapping[str, tuple[Landscape, Landscape]] = {  # trained, simulated
    "followed": (followed, lambda shares: 0.7 * followed(shares) + 0.3 * sums(shares)),
    "another rate": (followed, lambda shares: 0.7 * followed(shares) + 0.3 * sums(shares)),
    "repeated": (repeated, sums),
    "together": (together, sums),
    "opposite": (followed, lambda shares: 5.0 - followed(shares)),
}


class Formula:
    """In place of a worker's evaluator."""

    def __init__(self, name: str) -> None:
        self._trained, self._simulated = LANDSCAPES[name]
        self._best_rate = RATES.get(name, -2.7)  # its logarithm; that of the default is -3

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        if spec.simulation is not None:
            scores = [{"held/loss": self._of_sum(one)} for one in spec.simulation.mixtures]
            return Evaluation(spec, Status.OK, details={"scores": scores})
        rate = math.log10(spec.recipe["learning_rate"]) - self._best_rate
        loss = self._trained(spec.recipe["mixture"]) + 0.15 * rate**2
        noise = np.random.default_rng([spec.individual, spec.seed]).normal(0, 0.003)
        details: dict[str, Any] = {"cumulative_tokens": {}}
        return Evaluation(spec, Status.OK, {"held/loss": loss + noise}, details=details)

    def _of_sum(self, shares: Shares) -> float:
        """The sum of one expert alone is the expert."""
        alone = {name: share for name, share in shares.items() if share > 0.999}
        off = 0.15 * (3 + self._best_rate) ** 2
        return self._trained(shares) + off if alone else self._simulated(shares)


def cost(recipe: Mapping[str, object], fidelity: float) -> float:
    return SCORING + fidelity


def searched(
    name: str, seed: int, evaluations: int, *, simulate: str, sources: str = SOURCES
) -> list[float]:
    """Best loss after so many fine-tunes; experts count as their share of the tokens."""
    spec = {**SPEC, "sources": {source: SPEC["sources"][source] for source in sources}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "a.txt").write_text("text\n")
        file = folder / "search.yaml"
        file.write_text(json.dumps(spec))
        settings = [f"seed={seed}", f"search.simulate={simulate}"]
        config = configuration.load(file, [*settings, f"budget.evaluations={evaluations}"])
        config = settled(config, cost)
        facts = in_process(config, Formula(name), cost, dict.fromkeys(sources, 1000))
    return best_so_far(config, facts, range(1, evaluations + 1))


def best_so_far(
    config: SearchConfig, facts: Sequence[Mapping[str, Any]], after: Iterable[int]
) -> list[float]:
    """Best first objective of those that meet the constraints, after so many fine-tunes."""
    name, limits = next(iter(config.objectives)), constraints(config)
    done = [fact for fact in facts if fact["fact"] == "evaluation" and fact["fidelity"]]
    spent = np.cumsum([fact["fidelity"] for fact in done])
    losses = np.array([fact["measurements"][name] for fact in done])
    for place, fact in enumerate(done):  # an expert is no winner
        if fact["fidelity"] < 1 or any(one.excess(fact["measurements"]) for one in limits):
            losses[place] = np.inf
    return [float(losses[spent <= count].min()) for count in after]


def in_process(
    config: SearchConfig, evaluator: Any, cost: Cost, sizes: Mapping[str, int]
) -> Sequence[Mapping[str, Any]]:
    """The facts of a search in this process; `evaluator` in place of a worker's."""
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
        Ledger.create(run, header).close()
        cluster = InProcess(Task("tests.evo.toy:score"))
        cluster._evaluator = evaluator
        with Ledger(run) as ledger:
            decisions, requests = parts(config, ledger, cluster)
            evolve(config, sizes, cost, decisions, requests, Artifacts(run / "artifacts"))
        return read(run)


def landscapes(
    names: Sequence[str], seeds: int, budgets: Sequence[int], sums: str, sources: str
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    draws = [Simplex(tuple(sources)).draw(rng) for _ in range(20_000)]
    figures: dict[str, Any] = {}
    print(f"{'landscape':12}" + "".join(f"{f'regret after {b}':>44}" for b in budgets))
    for name in names:
        best = min(map(LANDSCAPES[name][0], draws))
        found = {
            how: [
                searched(name, seed, max(budgets), simulate=how, sources=sources)
                for seed in range(seeds)
            ]
            for how in (sums, "off")
        }
        cells = []
        for budget in budgets:
            regret = {how: [run[budget - 1] - best for run in runs] for how, runs in found.items()}
            pair = np.array(regret[sums]) - np.array(regret["off"])
            figures[f"{name} {budget}"] = {
                **{how: mean_error(one) for how, one in regret.items()},
                "difference": mean_error(pair.tolist()),
            }
            with_it, without = (mean_error(regret[how]) for how in (sums, "off"))
            cells.append(
                f"{with_it[0]:.3f} ± {with_it[1]:.3f}, without {without[0]:.3f} ± {without[1]:.3f}"
            )
        print(f"{name:12}" + "".join(f"{cell:>44}" for cell in cells), flush=True)
    return figures


def spec_of(options: argparse.Namespace) -> SearchConfig:
    if options.model is None:
        return configuration.load(Path("quickstart"))
    asked = larger(options, 0)
    asked["search"] = {**asked.get("search", {}), "strategy": "surrogate"}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(json.dumps(asked))
        file.flush()
        return configuration.load(Path(file.name))


def ranked(options: argparse.Namespace) -> dict[str, Any]:
    """Rank correlation, by domain, of losses of sums and of fine-tunes on the same mixtures."""
    config = spec_of(options)
    prepared = prepare(config)
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        task = replace(prepared.task, artifacts=Path(temporary), threads=options.threads)
        task = task.only(frozenset(task.domains) - {"unseen"})
        evaluator = Evaluator(task)
        recipe = decode(config, default_genome(config))
        found = experts(settled(config, cost))
        mixtures = [Simplex(tuple(config.sources)).draw(rng) for _ in range(options.mixtures)]
        for one in found:
            asked = decode(config, one.genome)
            done = evaluator.evaluate(EvaluationSpec(one.id, asked, config.seed, options.share))
            print(f"{one.operator}: {done.status} {_losses(done.measurements)}", flush=True)
        request = Simulation(tuple(config.sources), tuple(mixtures))
        simulated = evaluator.evaluate(
            EvaluationSpec(
                0,
                recipe,
                config.seed,
                split="simulated",
                parents=tuple(range(len(found))),
                simulation=request,
                scored=frozenset(task.domains),
            )
        )
        scoring = simulated.cost["evaluate_seconds"] / len(mixtures)
        pairs, seconds = [], []
        for number, mixture in enumerate(mixtures):
            asked = {**recipe, "mixture": mixture}
            spec = EvaluationSpec(100 + number, asked, config.seed, keep_weights=False)
            done = evaluator.evaluate(spec)
            pairs.append((simulated.details["scores"][number], done.measurements))
            seconds.append(sum(done.cost.values()) - done.cost["tokens"] - done.cost["flops"])
            print(f"{_losses(pairs[-1][0])} simulated, {_losses(pairs[-1][1])} trained", flush=True)
    figures: dict[str, Any] = {"mixtures": len(pairs), "scoring": scoring / np.mean(seconds)}
    for domain in task.domains:
        sides = np.array([[one[f"{domain}/loss"] for one in pair] for pair in pairs])
        figures[domain] = {
            "spearman": float(spearmanr(sides[:, 0], sides[:, 1]).statistic),
            "bias": float((sides[:, 0] - sides[:, 1]).mean()),
        }
        print(f"{domain}: {figures[domain]}")
    return figures


def _losses(measurements: Mapping[str, float]) -> str:
    return " ".join(f"{value:.4f}" for name, value in measurements.items() if "loss" in name)


def main() -> None:
    options = _options()
    bench: dict[str, Any] = {"name": "simulate", "seeds": options.seeds}
    if options.rank:
        bench["rank"] = ranked(options)
    else:
        bench["landscapes"] = landscapes(
            options.only or list(LANDSCAPES),
            options.seeds,
            options.after,
            options.sums,
            SOURCES[: options.sources],
        )
    print("BENCH " + json.dumps(bench))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="searches of each (default 20)")
    parser.add_argument("--only", nargs="*", choices=LANDSCAPES, help="these landscapes")
    parser.add_argument(
        "--after", type=int, nargs="*", default=[8, 15, 24], help="fine-tunes (default 8 15 24)"
    )
    parser.add_argument(
        "--sources", type=int, default=len(SOURCES), help="the first so many (default all 7)"
    )
    parser.add_argument("--sums", default="auto", help="of experts, scored (default auto: 24)")
    parser.add_argument("--rank", action="store_true", help="train, and compare with the sums")
    parser.add_argument("--model", type=Path, help="a model folder (default: the quickstart's)")
    parser.add_argument("--mixtures", type=int, default=30, help="to train (default 30)")
    parser.add_argument("--share", type=float, default=SHARES[1], help="of the tokens, for experts")
    parser.add_argument("--seed", type=int, default=0, help="of the random mixtures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=24, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help="of a fine-tune of the model")
    return parser.parse_args()


if __name__ == "__main__":
    main()
