"""Figures of the closing comparison, of learning curves, and of the use of worker time."""

import math
from collections.abc import Sequence
from statistics import fmean

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evo import history
from evo.history.comparison import COLD, WINNER
from evo.history.tables import BASE, FULL, UNTOUCHED
from evo.planning.lineages import from_fact, portion
from evo.record.facts import cost as spent
from evo.record.facts import details
from evo.report.figures.style import (
    BLUE,
    FAINT,
    MUTED,
    ORANGE,
    TEMPLATE,
    Chart,
    View,
    figure,
    safe,
    window,
)

PANELS = 6
COLUMNS = 3
CURVES = 12


def comparison(view: View) -> Chart | None:
    """Mean and error of each contender on the test split, a panel a measurement, seeds as dots."""
    closing = history.comparison(view.facts)
    if closing.empty:
        return None
    constraints = history.constraints(view.facts, "test")
    wanted = [*view.objectives, *(c.name for c in constraints)]
    others = sorted(closing["measurement"].unique(), key=lambda n: n.endswith("/perplexity"))
    names = [n for n in dict.fromkeys([*wanted, *others]) if n in set(closing["measurement"])]
    shown = names[:PANELS]
    contenders = list(dict.fromkeys(closing["contender"]))
    chart, places = _panels(len(shown), len(contenders))
    tries = history.table(view.facts).query("split == 'test' and status == 'ok'")
    own = {contender: _own(view, tries, contender) for contender in contenders}
    for name, where in zip(shown, places, strict=True):
        results = closing[closing["measurement"] == name]
        column = view.columns.measurements[name]
        for level, contender in enumerate(contenders):
            _contender(chart, view, results, contender, own[contender][column], level, where)
        limits = [c.limit for c in constraints if c.name == name and not math.isnan(c.limit)]
        for limit in limits:
            chart.add_vline(limit, line={"color": MUTED, "dash": "dash", "width": 1}, **where)
        errors = 2 * results["standard_error"].fillna(0.0)
        ends = [*(results["mean"] - errors), *(results["mean"] + errors)]
        low, high, _ = window(ends, [*ends, *tries[column].dropna()])
        low, high = min([low, *limits]), max([high, *limits])
        chart.update_xaxes(title_text=view.titled(name), range=[low, high], nticks=6, **where)
    chart.update_yaxes(
        tickvals=list(range(len(contenders))),
        ticktext=[f"<b>{safe(n, 22)}</b>" if n == WINNER else safe(n, 22) for n in contenders],
        range=[len(contenders) - 0.4, -0.6],
        showgrid=False,
        ticks="",
    )
    caption = (
        "Diamonds and the star: mean over fresh seeds, with bars of two standard errors over these "
        "each way; dots: the seeds. All are scored on the same held-out items, whose noise is in "
        "the errors and margins of the table."
    )
    if any(c.name in shown for c in constraints):
        caption += " Dashed: the constraint."
    if len(names) > len(shown):
        caption += " The table below has all measurements."
    return Chart("Closing comparison on the test split", caption, chart)


def _panels(count: int, contenders: int) -> tuple[go.Figure, list[dict[str, int]]]:
    """An empty figure with a panel a measurement, and the row and column of each."""
    across = 2 if count in (2, 4) else min(COLUMNS, count)
    down = -(-count // across)
    chart = make_subplots(
        rows=down,
        cols=across,
        shared_yaxes=True,
        horizontal_spacing=0.06,
        vertical_spacing=0.26 / down,
    )
    chart.update_layout(
        template=TEMPLATE,
        height=40 + down * (90 + 34 * contenders),
        showlegend=False,
        margin={"l": 120, "t": 20},
        plot_bgcolor="#f9fafb",
    )
    return chart, [{"row": i // across + 1, "col": i % across + 1} for i in range(count)]


def _own(view: View, tries: pd.DataFrame, contender: str) -> pd.DataFrame:
    """Evaluations of a contender, one for each seed."""
    if contender == BASE:
        return tries[tries["fidelity"] == UNTOUCHED]
    if contender == COLD:
        return tries[tries["fidelity"] > FULL]
    baselines = history.baselines(view.facts)
    id = history.winner(view.facts) if contender == WINNER else baselines.get(contender)
    return tries[(tries["fidelity"] == FULL) & (tries["individual"] == id)]


def _contender(
    chart: go.Figure,
    view: View,
    results: pd.DataFrame,
    contender: str,
    values: pd.Series,
    level: int,
    where: dict[str, int],
) -> None:
    """A contender in one panel: mean with error bars, and below it the values of its seeds."""
    colour = view.colour(contender)
    result = results[results["contender"] == contender]
    seeds = values.dropna()
    chart.add_scatter(
        x=seeds,
        y=[level + 0.22] * len(seeds),
        mode="markers",
        marker={"color": colour, "size": 5, "opacity": 0.45},
        hoverinfo="x",
        **where,
    )
    chart.add_scatter(
        x=result["mean"],
        y=[level] * len(result),
        mode="markers",
        marker={
            "color": colour,
            "size": 15 if contender == WINNER else 10,
            "symbol": "star" if contender == WINNER else "diamond",
        },
        error_x={
            "array": list(2 * result["standard_error"].fillna(0.0)),
            "color": colour,
            "thickness": 2,
            "width": 5,
        },
        hovertext=[
            f"<b>{safe(contender)}</b><br>{safe(name)} {mean:.4f} ± {error:.4f}"
            for name, mean, error in zip(
                result["measurement"], result["mean"], result["standard_error"], strict=True
            )
        ],
        hoverinfo="text",
        **where,
    )


def learning(view: View) -> Chart | None:
    """Training loss against tokens for the front and the baselines, smoothed, and held-out loss."""
    curves = {
        f["individual"]: details(f)["learning_curve"]
        for f in view.facts
        if f["fact"] == "evaluation"
        and f["split"] == "selection"
        and f["fidelity"] == FULL
        and details(f).get("learning_curve")
    }
    named = {id: name for name, id in history.baselines(view.facts).items()}
    members = [int(i) for i in view.front["individual"] if i not in named]
    chosen = [i for i in [*members[:CURVES], *named] if i in curves and i != view.leader]
    if not curves or not (chosen or view.leader in curves):
        return None
    chart = figure(460, margin={"t": 60})
    others, values = 0, []
    for id in [*chosen, *([view.leader] if view.leader in curves else [])]:
        tokens, losses = zip(*curves[id], strict=True)
        if id == view.leader:
            style, name = {"color": ORANGE, "width": 3}, view.leader_name()
        elif id in named:
            style, name = {"color": view.colour(named[id]), "width": 1.8, "dash": "dot"}, named[id]
        else:
            style, name, others = {"color": FAINT, "width": 1.4}, "rest of the front", others + 1
        smooth = smoothed(losses)
        values += smooth
        chart.add_scatter(
            x=tokens,
            y=smooth,
            mode="lines",
            line=style,
            name=safe(name, 30),
            legendgroup=safe(name, 30),
            showlegend=id == view.leader or id in named or others == 1,
            hovertext=f"individual {id}",
            hoverinfo="text+x+y",
        )
    measured = _held_out(chart, view, [*chosen, view.leader])
    low, high, _ = window(values, measured)
    chart.update_xaxes(title_text="tokens trained on", rangemode="tozero")
    unit = "training loss and held-out loss (nats)" if measured else "training loss (nats)"
    chart.update_yaxes(title_text=unit, range=[low, high])
    caption = (
        "Lines: loss on each one's own training mixture, the mean over neighbouring points, since "
        "one batch says little. A low line means easy text, not a good model; read the shape "
        "(still falling, flat, unstable), not the level."
    )
    if measured:
        caption += (
            f" Circles: {safe(next(iter(view.objectives)))} on the selection split, which compares "
            "them: of the untouched base, wherever it was measured on the way, and at the end."
        )
    return Chart("Learning curves", caption, chart)


def smoothed(losses: Sequence[float]) -> list[float]:
    """The mean of each point and its neighbours, fewer of them towards the ends."""
    reach = min(2, len(losses) // 5)
    wide = (min(reach, place, len(losses) - 1 - place) for place in range(len(losses)))
    return [fmean(losses[place - side : place + side + 1]) for place, side in enumerate(wide)]


def _held_out(chart: go.Figure, view: View, individuals: Sequence[int | None]) -> list[float]:
    """Marks of the first objective by tokens trained on, where it is a loss; returns the values.

    From the untouched base by way of rungs and checks for early stopping to the whole budget.
    """
    objective = next(iter(view.objectives))
    if not objective.endswith("/loss"):
        return []
    config = history.spec(view.facts)
    budgets = {
        f["id"]: config.budget.tokens * portion(config, from_fact(f))
        for f in view.facts
        if f["fact"] == "individual"
    }
    base: list[tuple[float, float]] = []
    points: dict[int, list[tuple[float, float]]] = {}
    for f in view.facts:
        if f["fact"] != "evaluation" or f["split"] != "selection" or f["status"] != "ok":
            continue
        if f["fidelity"] == UNTOUCHED:
            base = [(0.0, f["measurements"][objective])]
        elif f["individual"] in individuals:
            own = points.setdefault(f["individual"], [])
            own += [(tokens, loss) for tokens, loss in details(f).get("held_out_curve", ())]
            whole = budgets[f["individual"]] * f["fidelity"]
            own.append((max(spent(f).get("tokens") or 0.0, whole), f["measurements"][objective]))
    values: list[float] = []
    for id, own in points.items():
        leads = id == view.leader
        line = sorted([*base, *own])
        chart.add_scatter(
            x=[tokens for tokens, _ in line],
            y=[value for _, value in line],
            mode="lines+markers" if leads else "markers",
            line={"color": ORANGE, "width": 1, "dash": "dot"},
            marker={
                "symbol": "circle-open",
                "size": 9 if leads else 6,
                "color": ORANGE if leads else MUTED,
                "line": {"width": 2 if leads else 1},
            },
            name=f"held out, {view.leader_is}" if leads else "held out, others",
            legendgroup="held out" if leads else "held out, others",
            showlegend=leads or id == next((i for i in points if i != view.leader), None),
            hovertext=f"individual {id}",
            hoverinfo="text+x+y",
        )
        values += [value for _, value in line]
    return values


def cost(view: View) -> Chart | None:
    """Use of the workers' time, as one stacked bar."""
    used = history.usage(view.facts)
    parts = {
        "training": (used["training"], BLUE),
        "scoring": (used["scoring"], "#0b8a7a"),
        "set-up and the rest of an evaluation": (used["other"], "#c9b2d6"),
        "between evaluations (driver, dispatch, waiting)": (used["idle"], "#d5dae2"),
    }
    total = sum(seconds for seconds, _ in parts.values())
    if total <= 0:
        return None
    chart = figure(170, barmode="stack", margin={"t": 50, "l": 30}, legend={"traceorder": "normal"})
    for name, (seconds, colour) in parts.items():
        chart.add_bar(
            x=[seconds],
            y=[""],
            orientation="h",
            name=f"{name} {seconds / total:.1%}",
            marker={"color": colour, "line": {"color": "white", "width": 1}},
            hovertext=f"{name}: {seconds:,.1f} s",
            hoverinfo="text",
        )
    chart.update_xaxes(title_text="seconds of worker time", range=[0, total])
    caption = (
        f"From the first evaluation of each launch or resume on, {used['ready']:,.0f} s of a "
        f"running time of {used['elapsed']:,.0f} s, {used['workers']} workers were busy for "
        f"{used['busy_share']:.1%} of the time."
        if used["busy_share"] is not None
        else ""
    )
    return Chart("Failures and cost", caption, chart)
