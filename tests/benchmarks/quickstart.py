"""Strategies on the quickstart, side by side: `make bench NAME=quickstart`, 75 minutes.

Real fine-tunes through the `evo` command, alone on the machine if the wall times are to mean
anything: 5 strategies with 5 seeds each, in turns, so that whatever else the machine does falls on
all alike. They are compared at the same wall time, the end of the shortest search, and by their
winners on the test split. Simulating takes time too: `--others` gives the others more evaluations.
`--keep FOLDER` keeps the runs, goes on with what is there, and draws quickstart.html in it.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from evo.history.overlay import Array, Overlay, Trace, at, overlay
from evo.report.figures.style import BLUE, ORANGE, REFERENCES, TEMPLATE, titled, window
from fitness.metrics import measurement
from tests.benchmarks.comparison import mean_error
from tests.benchmarks.launches import finished

UNSIMULATED = "unsimulated"  # surrogate without simulated mixtures
STRATEGIES = ("surrogate", UNSIMULATED, "nsga2", "optuna:tpe", "optuna:gp", "random")
COLOURS = dict(zip(STRATEGIES, (ORANGE, BLUE, *REFERENCES[:4]), strict=True))
OBJECTIVE = "target/loss"
VOLUME = "hypervolume"
MOMENTS = 200  # at which the curves are drawn
SPENT = (10, 15, 24)  # full fine-tunes; an expert is its share of one


@dataclass(frozen=True)
class Curves:
    """Curves of one strategy: (seeds, moments) each, best so far; NaN before the first result."""

    best: Array
    volume: Array
    spent: Array  # (seeds, counts) best so far once so many fine-tunes were spent
    tests: list[float]  # of the winners, a mean each over the closing comparison's seeds
    evaluations: list[int]  # finished in the time that all have


def launched(folder: Path, strategy: str, seed: int, settings: Sequence[str]) -> Path:
    """A run, searched or resumed to its end."""
    run = folder / f"{strategy.replace(':', '-')}-{seed}"
    changed = [f"seed={seed}", *settings, f"search.strategy={strategy}"]
    if strategy == UNSIMULATED:
        changed[-1:] = ["search.strategy=surrogate", "search.simulate=off"]
    return finished(run, Path("quickstart"), *changed)


def curves(found: Overlay, runs: Sequence[str]) -> tuple[Array, dict[str, Curves]]:
    """The moments (seconds since the launch, (moments,)), and what each strategy had found by then.

    `runs` are the strategies of the overlay's runs.
    """
    shortest = min(float(run.hours[-1]) for run in found.runs)
    moments = np.linspace(0.0, shortest, MOMENTS)
    volumes = found.hypervolume or []
    by_strategy: dict[str, Curves] = {}
    for strategy in dict.fromkeys(runs):
        chosen = [place for place, name in enumerate(runs) if name == strategy]
        traces = [found.runs[place] for place in chosen]
        by_strategy[strategy] = Curves(
            np.array([[at(t.hours, t.best[OBJECTIVE], m) for m in moments] for t in traces]),
            np.array(
                [
                    [at(found.runs[place].hours, volumes[place], m) for m in moments]
                    for place in chosen
                ]
            ),
            np.array([[_after(t, n) for n in SPENT] for t in traces]),
            [t.tests[OBJECTIVE].mean for t in traces],
            [int((t.hours <= shortest).sum()) for t in traces],
        )
    return 3600 * moments, by_strategy


def _after(trace: Trace, spent: int) -> float:
    """Best so far after so many fine-tunes; part of the last one may be left over by experts."""
    end = float(trace.budgets[-1])
    return at(trace.budgets, trace.best[OBJECTIVE], end if end <= spent < end + 1 else spent)


def table(found: Mapping[str, Curves]) -> dict[str, Any]:
    """Prints a line a strategy; returns the figures.

    `behind` is how much worse than the first strategy on the test split, paired by seed.
    """
    first = next(iter(found.values()))
    figures: dict[str, Any] = {}
    for name, one in found.items():
        behind = [own - ours for own, ours in zip(one.tests, first.tests, strict=True)]
        columns = {
            **{f"after {n}": mean_error(one.spent[:, i].tolist()) for i, n in enumerate(SPENT)},
            "selection": mean_error(one.best[:, -1].tolist()),
            VOLUME: mean_error(one.volume[:, -1].tolist()),
            "test": mean_error(one.tests),
            "behind": mean_error(behind),
        }
        if not figures:
            print(f"{'':12} evaluations  " + " ".join(f"{column:>15}" for column in columns))
        count = statistics.mean(one.evaluations)
        shown = [f"{mean:.4f} ± {error:.4f}" for mean, error in columns.values()]
        print(f"{name:12} {count:11.1f}  " + " ".join(f"{cell:>15}" for cell in shown))
        figures[name] = {"evaluations": count, **columns}
    return figures


def chart(seconds: Array, found: Mapping[str, Curves]) -> go.Figure:
    """Mean over the seeds and its standard error, by wall time."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    figure.update_layout(template=TEMPLATE, width=1100, height=430, paper_bgcolor="white")
    for name, one in found.items():
        for column, values in ((1, one.best), (2, 100 * one.volume)):
            there = np.isfinite(values).all(axis=0)
            x, y = seconds[there], values[:, there].mean(axis=0)
            freedom = max(1, len(values) - 1)
            error = values[:, there].std(axis=0) / freedom**0.5
            colour = COLOURS[name]
            style = {"name": name, "legendgroup": name, "mode": "lines"}
            figure.add_scatter(
                x=np.concatenate([x, x[::-1]]),
                y=np.concatenate([y - error, (y + error)[::-1]]),
                fill="toself",
                fillcolor=colour,
                opacity=0.12,
                line={"width": 0},
                showlegend=False,
                row=1,
                col=column,
                **style,
            )
            figure.add_scatter(
                x=x,
                y=y,
                line={"color": colour, "width": 2.4},
                showlegend=column == 1,
                row=1,
                col=column,
                **style,
            )
    figure.update_xaxes(title_text="seconds since the launch")
    settled = np.concatenate([one.best[:, MOMENTS // 4 :].ravel() for one in found.values()])
    low, high, _ = window([], settled)
    title = titled(OBJECTIVE, measurement(OBJECTIVE).unit)
    figure.update_yaxes(title_text=title, range=[low, high], row=1, col=1)
    figure.update_yaxes(title_text=f"{VOLUME} (% of all runs')", row=1, col=2)
    return figure


def main() -> None:
    options = _options()
    settings = ["comparison.seeds=2"]
    settings += [f"budget.tokens={options.tokens}"] if options.tokens else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        runs: list[Path] = []
        strategies: list[str] = []
        for seed in range(options.seeds):
            for turn in range(len(options.strategies)):
                strategy = options.strategies[(seed + turn) % len(options.strategies)]
                ours = strategy == STRATEGIES[0]
                count = options.evaluations if ours else options.others or options.evaluations
                budget = [f"budget.evaluations={count}"]
                runs.append(launched(folder, strategy, seed, [*budget, *settings]))
                strategies.append(strategy)
                print(f"{runs[-1].name} is done", flush=True)
        seconds, found = curves(overlay(runs), strategies)
        found = {name: found[name] for name in STRATEGIES if name in found}
        print(f"after {seconds[-1]:.0f} s, mean and standard error over {options.seeds} seeds")
        figures = table(found)
        if options.keep:
            page = folder / "quickstart.html"
            chart(seconds, found).write_html(page, include_plotlyjs=True)
            print(f"curves: {page}")
    bench = {"name": "quickstart", "seeds": options.seeds, "seconds": float(seconds[-1])}
    print("BENCH " + json.dumps({**bench, "strategies": figures}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=quickstart", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="searches of each (default 5)")
    parser.add_argument("--evaluations", type=int, default=24, help="of each (default 24)")
    parser.add_argument("--others", type=int, help="of each but surrogate, to take equal time")
    parser.add_argument("--tokens", type=int, help="of a fine-tune (default: the quickstart's)")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs, or go on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
