"""Rungs on real learning curves: `make bench NAME=rungs`, some minutes.

Individuals come in random order to four workers. `all the way`: no rungs. `stopping`: who is not
hopeless goes on. `halving`: only the best quarter of a rung goes on. `both`: what not to do, drop
hopeless ones while halving. Two questions:
- So many are bred and all is done that a policy would do: what is spent, as a share of all the way;
  in which share of the cases was the eventual best dropped as hopeless, or left waiting?
- After the workers' time of so many fine-tunes all the way: the mean regret, (found - best) /
  (median - best) over the table, 1 where nothing has gone all the way yet.
The tables are not part of the project: name their folder with `--tables` or EVOMIX_TABLES; the
default is ../shared/tables.
"""

import argparse
import heapq
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
import pandas as pd

from population.individual import Individual
from population.rungs import BOUND, SHARE, hopeless, promote

WORKERS = 4
EXAMPLES = 1_638_400  # of a full fine-tune of sft_scaling.csv
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Losses (n, rungs), and the cost of getting there as a share of a full fine-tune."""

    name: str
    rungs: tuple[float, ...]
    losses: Array
    costs: Array
    bred: int  # so many of the n, in the first question
    budgets: tuple[int, ...]  # full fine-tunes, in the second


@dataclass(frozen=True)
class Policy:
    share: float = 1.0  # of a rung that goes on
    bound: float | None = None  # None: nobody is hopeless


POLICIES = {
    "all the way": Policy(),
    "stopping": Policy(bound=BOUND),
    "halving": Policy(share=SHARE),
    "both": Policy(share=SHARE, bound=BOUND),
}


@dataclass
class Outcome:
    """Costs and workers' time in full fine-tunes."""

    spent: float = 0.0
    finished: dict[int, float] = field(default_factory=dict)  # individual: when it ended
    dropped: set[int] = field(default_factory=set)


def main() -> None:
    options = _options()
    figures: dict[str, dict[str, dict[str, float]]] = {}
    correlations: dict[str, dict[str, tuple[float, float]]] = {}
    tables = [*_sft(options.tables), _deberta(options.tables)]
    for curves in tables:
        print(f"{curves.name}, rungs {', '.join(f'{rung:.3g}' for rung in curves.rungs)}")
        correlations[curves.name] = _correlations(curves)
        for fidelity, (whole, half) in correlations[curves.name].items():
            print(f"  rank correlation at {fidelity} {whole:.2f}, among the best half {half:.2f}")
        print(f"  {'':12} {'spent':>7} {'dropped':>8} {'waiting':>8}  regret at", *curves.budgets)
        figures[curves.name] = {
            name: _figures(curves, policy, options.seeds) for name, policy in POLICIES.items()
        }
        for name, row in figures[curves.name].items():
            regrets = " ".join(f"{row[f'regret@{budget}']:.4f}" for budget in curves.budgets)
            told = " ".join(f"{row[key]:8.3f}" for key in ("spent", "dropped", "waiting"))
            print(f"  {name:12}{told}  {regrets}", flush=True)
    worst = max(rows["stopping"]["dropped"] for rows in figures.values())
    print(f"stopping dropped the eventual best in at most {worst:.3f} of cases, bound {BOUND}")
    bench = {"name": "rungs", "seeds": options.seeds, "bound": BOUND, "dropped_at_most": worst}
    print("BENCH " + json.dumps({**bench, "tables": figures, "rank_correlation": correlations}))


def _figures(curves: Curves, policy: Policy, seeds: int) -> dict[str, float]:
    final, row = curves.losses[:, -1], {}
    if policy == Policy():
        curves = replace(
            curves, rungs=(1.0,), losses=curves.losses[:, -1:], costs=curves.costs[:, -1:]
        )
    orders = [np.random.default_rng(seed).permutation(len(final)) for seed in range(seeds)]
    bred = [order[: curves.bred].tolist() for order in orders]
    done = [run(curves, policy, order) for order in bred]
    bests = [min(order, key=lambda i: final[i]) for order in bred]
    row["spent"] = mean(outcome.spent / curves.bred for outcome in done)
    row["dropped"] = mean(best in one.dropped for best, one in zip(bests, done, strict=True))
    gone = mean(best not in one.finished for best, one in zip(bests, done, strict=True))
    row["waiting"] = gone - row["dropped"]
    searches = [run(curves, policy, order.tolist(), max(curves.budgets)) for order in orders]
    scale = np.median(final) - final.min()
    for budget in curves.budgets:
        found = [
            min((final[i] for i, time in one.finished.items() if time <= budget), default=None)
            for one in searches
        ]
        regrets = [1.0 if loss is None else float((loss - final.min()) / scale) for loss in found]
        row[f"regret@{budget}"] = mean(regrets)
    return row


def run(
    curves: Curves, policy: Policy, order: Sequence[int], budget: float = float("inf")
) -> Outcome:
    """A search in virtual time: promote who is worth it, else breed the next of `order`."""
    outcome, coming = Outcome(), list(order)[::-1]
    left: set[tuple[int, float]] = set()
    told: dict[float, list[Individual]] = {rung: [] for rung in curves.rungs}
    running: list[tuple[float, int, int]] = []  # when it ends, individual, place of its rung
    now = 0.0
    while True:
        while len(running) < WORKERS and now * WORKERS < budget:
            worth = promote(told, curves.rungs, left, share=policy.share)
            if worth is not None:
                left.add((worth.id, worth.fidelity))
                number, place = worth.id, curves.rungs.index(worth.fidelity) + 1
            elif coming:
                number, place = coming.pop(), 0
            else:
                break
            begun = curves.costs[number, place - 1] if place else 0.0
            cost = curves.costs[number, place] - begun
            outcome.spent += cost
            heapq.heappush(running, (now + cost, number, place))
        if not running:
            return outcome
        now, number, place = heapq.heappop(running)
        fidelity = curves.rungs[place]
        loss = (float(curves.losses[number, place]),)
        individual = Individual(number, {}, losses=loss, fidelity=fidelity)
        told[fidelity].append(individual)
        if place == len(curves.rungs) - 1:
            outcome.finished[number] = now * WORKERS
        elif policy.bound and hopeless(individual, told, curves.rungs, bound=policy.bound):
            left.add((number, fidelity))
            outcome.dropped.add(number)


def _correlations(curves: Curves) -> dict[str, tuple[float, float]]:
    """Spearman's, by rung, of all and of those who ended in the better half."""
    final = pd.Series(curves.losses[:, -1])
    good = final <= final.median()
    found = {}
    for place, fidelity in enumerate(curves.rungs[:-1]):
        rung = pd.Series(curves.losses[:, place])
        pair = (final.corr(rung, "spearman"), final[good].corr(rung[good], "spearman"))
        found[f"{fidelity:.3g}"] = pair
    return found


def _sft(tables: Path) -> list[Curves]:
    """Within a data set the models are the individuals; of each the test loss after so much."""
    table = pd.read_csv(tables / "sft_scaling.csv")
    found = []
    for rungs in ((1 / 16, 1 / 4, 1.0), (1 / 8, 1.0)):
        for name, rows in table.groupby("dataset"):
            losses = rows[[str(round(rung * EXAMPLES)) for rung in rungs]].to_numpy()
            costs = np.tile(rungs, (len(rows), 1))
            named = f"{name}, {len(rungs)} rungs"
            found.append(Curves(named, rungs, losses, costs, len(rows), (5, 10, 15)))
    return found


def _deberta(tables: Path) -> Curves:
    """The rung is step 1,000 of 6,135 to 98,175, often still in the warm-up; error as the loss."""
    table = pd.read_csv(tables / "deberta-base.csv")
    share = 1000 / table["total_model_steps"].to_numpy()
    losses = 1 - table[["acc_matched_step1000", "final_acc_matched"]].to_numpy()
    costs = np.stack([share, np.ones(len(share))], axis=1)
    rungs = (float(share.mean()), 1.0)
    return Curves("deberta", rungs, losses, costs, 100, (10, 25, 50, 100))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=rungs", description=__doc__)
    default = Path(os.environ.get("EVOMIX_TABLES", "../shared/tables"))
    parser.add_argument("--tables", type=Path, default=default, help=f"default: {default}")
    parser.add_argument("--seeds", type=int, default=50)
    options = parser.parse_args()
    if not options.tables.is_dir():
        parser.error(f"no folder {options.tables}; name it with --tables or EVOMIX_TABLES")
    return options


if __name__ == "__main__":
    main()
