"""The quickstart's search on a model of its fine-tunes: `make bench NAME=emulate`, a minute or two.

Five searches of real fine-tunes cannot tell apart what forty can. Gaussian processes are fitted to
the fine-tunes of runs that `NAME=quickstart ARGS='--keep FOLDER'` has kept, by mixture and other
genes, and to the sums of experts, by mixture; searches are then run on what these predict. Figures
are the best loss so far that meets the constraints after so many fine-tunes, an expert counted as
its share; `winner` is that of the individual named, without noise. `--variants` are settings beside
the default, several in quotes: 'search.simulate=off'.
"""

import argparse
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import KFold, cross_val_predict

from evo import config as configuration
from evo.config import SearchConfig
from evo.config.genomes import filled_genes
from evo.planning.experts import settled
from fitness.evaluation import Evaluation, EvaluationSpec, Status
from population.space import SearchSpace
from tests.benchmarks.comparison import mean_error
from tests.benchmarks.simulate import best_so_far, in_process
from tests.evo.driving import LEDGER
from tests.evo.facts import read

AFTER = (8, 10, 12, 15, 24)  # fine-tunes
SCORING = 0.15  # cost beside a fine-tune
NOISE = 0.003  # nats, between seeds
SOUND = ("selection", "ok")  # split and status
MEASURED = ("target/loss", "general/loss")
Genome = Mapping[str, Any]


@dataclass(frozen=True)
class Emulator:
    """Stands in for a worker's evaluator. `sums` predicts simulated mixtures and experts."""

    config: SearchConfig
    trained: Sequence[GaussianProcessRegressor]
    sums: Sequence[GaussianProcessRegressor]
    base: Mapping[str, float]

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        details: dict[str, Any] = {"cumulative_tokens": {}, "items": {}}
        if spec.simulation is not None:
            scores = [self.predicted(self.sums, one) for one in spec.simulation.mixtures]
            return Evaluation(spec, Status.OK, details={"scores": scores})
        if spec.fidelity == 0:
            return Evaluation(spec, Status.OK, self.base, details=details)
        if spec.fidelity < 1:
            found = self.predicted(self.sums, spec.recipe["mixture"])
            return Evaluation(spec, Status.OK, found, details=details)
        noise = np.random.default_rng([spec.individual, spec.seed]).normal(0, NOISE, 2)
        found = self.loss(spec.recipe)
        noisy = {name: value + noise[n] for n, (name, value) in enumerate(found.items())}
        return Evaluation(spec, Status.OK, noisy, details=details)

    def loss(self, genome: Genome) -> dict[str, float]:
        """The losses of a fine-tune, without noise."""
        return self.predicted(self.trained, genome["mixture"], others(self.config, genome))

    def predicted(
        self,
        models: Iterable[GaussianProcessRegressor],
        shares: Mapping[str, float],
        more: Sequence[float] = (),
    ) -> dict[str, float]:
        at = np.array([[*roots(self.config, shares), *more]])
        return dict(zip(MEASURED, (float(one.predict(at)[0]) for one in models), strict=True))


def roots(config: SearchConfig, shares: Mapping[str, float]) -> list[float]:
    """Square roots of the shares: a little of a source matters more than a little more of it."""
    return [shares.get(name, 0.0) ** 0.5 for name in config.sources]


def others(config: SearchConfig, genome: Genome) -> list[float]:
    genes = {name: gene for name, gene in filled_genes(config).items() if name != "mixture"}
    return list(SearchSpace(genes).encode({name: genome[name] for name in genes}))


def fitted(config: SearchConfig, runs: Iterable[Path]) -> Emulator:
    """Processes of all that the runs have trained, once for each individual and run."""
    trained: list[tuple[list[float], list[float]]] = []
    sums: list[tuple[list[float], list[float]]] = []
    base: dict[str, float] = {}
    for run in runs:
        genomes: dict[int, Genome] = {}
        seen: set[int] = set()
        for fact in read(run):
            if fact["fact"] == "individual":
                genomes[fact["id"]] = fact["genome"]
            if fact["fact"] == "simulation":
                for shares, scores in zip(fact["mixtures"], fact["scores"], strict=True):
                    sums.append((roots(config, shares), [scores[name] for name in MEASURED]))
            if fact["fact"] != "evaluation" or (fact["split"], fact["status"]) != SOUND:
                continue
            values = [fact["measurements"][name] for name in MEASURED]
            genome = genomes[fact["individual"]]
            if fact["fidelity"] == 0:
                base = dict(fact["measurements"])
            elif fact["fidelity"] < 1:
                sums.append((roots(config, genome["mixture"]), values))
            elif fact["individual"] not in seen:
                at = [*roots(config, genome["mixture"]), *others(config, genome)]
                trained.append((at, values))
                seen.add(fact["individual"])
    if not trained or not sums:
        raise SystemExit("no fine-tunes of `surrogate` there; run NAME=quickstart with --keep")
    return Emulator(config, processes("fine-tunes", trained), processes("sums", sums), base)


def processes(
    name: str, data: Sequence[tuple[list[float], list[float]]]
) -> list[GaussianProcessRegressor]:
    """A process for each loss; prints what it misses of what it was not shown."""
    at, values = (np.array(column) for column in zip(*data, strict=True))
    found = []
    for number, measured in enumerate(MEASURED):
        kernel = ConstantKernel() * RBF(np.ones(at.shape[1]), (0.1, 100)) + WhiteKernel(1e-3)
        model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        model.fit(at, values[:, number])
        again = GaussianProcessRegressor(model.kernel_, optimizer=None, normalize_y=True)
        folds = KFold(8, shuffle=True, random_state=0)
        missed = cross_val_predict(again, at, values[:, number], cv=folds) - values[:, number]
        error, spread = np.sqrt(np.mean(missed**2)), values[:, number].std()
        print(f"{len(at)} {name}, {measured}: misses {error:.4f} of a spread of {spread:.4f}")
        found.append(model)
    return found


def searched(emulator: Emulator, config: SearchConfig) -> list[float]:
    """Best loss so far after each of AFTER, and that of the winner."""
    facts = in_process(config, emulator, cost, dict.fromkeys(config.sources, 1000))
    winner = next(fact["individual"] for fact in facts if fact["fact"] == "winner")
    genome = next(f for f in facts if f["fact"] == "individual" and f["id"] == winner)["genome"]
    return [*best_so_far(config, facts, AFTER), emulator.loss(genome)[MEASURED[0]]]


def cost(recipe: Genome, fidelity: float) -> float:
    return SCORING + fidelity


def main() -> None:
    options = _options()
    warnings.filterwarnings("ignore", module="sklearn")  # of length scales at their bounds
    emulator = fitted(load(0), sorted(file.parent for file in options.runs.glob(f"*/{LEDGER}")))
    columns = [*(f"after {count}" for count in AFTER), "winner", "worst winner"]
    print(f"{'':30}" + "".join(f"{column:>18}" for column in columns))
    figures: dict[str, Any] = {}
    for variant in ["", *options.variants]:
        curves = np.array(
            [searched(emulator, load(seed, *variant.split())) for seed in range(options.seeds)]
        )
        cells = [mean_error(column) for column in curves.T.tolist()]
        shown = "".join(f"{f'{mean:.4f} ± {error:.4f}':>18}" for mean, error in cells)
        print(f"{variant or 'default':30}{shown}{curves[:, -1].max():>18.4f}", flush=True)
        figures[variant or "default"] = dict(zip(columns, cells, strict=False))
    print("BENCH " + json.dumps({"name": "emulate", "seeds": options.seeds, "variants": figures}))


def load(seed: int, *settings: str) -> SearchConfig:
    given = [f"seed={seed}", f"budget.evaluations={AFTER[-1]}", *settings]
    return settled(configuration.load(Path("quickstart"), given), cost)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=emulate", description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder of NAME=quickstart --keep")
    parser.add_argument("--seeds", type=int, default=40, help="searches of each (default 40)")
    parser.add_argument("--variants", nargs="*", default=[], metavar="SETTINGS")
    return parser.parse_args()


if __name__ == "__main__":
    main()
