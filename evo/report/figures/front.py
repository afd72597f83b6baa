"""Figure of the Pareto front, or of all scores if there is one objective."""

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from evo import history
from evo.config import Constraint
from evo.report.figures.labels import Point, point_labels
from evo.report.figures.style import (
    BLUE,
    FAINT,
    ORANGE,
    RED,
    Chart,
    View,
    figure,
    mark_size,
    outside,
    safe,
    window,
)


def front(view: View) -> Chart | None:
    """All scores over the first two objectives, the front drawn; one objective: a strip of them."""
    if view.scores.empty or not view.objectives:
        return None
    if len(view.objectives) == 1:
        return _strip(view)
    first, second = list(view.objectives)[:2]
    x, y = (view.columns.measurements[name] for name in (first, second))
    scores, members = view.scores, view.front
    known = [c for c in history.constraints(view.facts) if not math.isnan(c.limit)]
    limits = [c for c in known if c.name in (first, second)]
    bounds = {name: [c.limit for c in limits if c.name == name] for name in (first, second)}
    always = pd.concat([members, view.references])
    x_low, x_high, x_out = window(scores[x], [*always[x], *bounds[first]])
    y_low, y_high, y_out = window(scores[y], [*always[y], *bounds[second]])
    chart = figure(520, margin={"t": 44})
    for c in limits:
        far = {1: (x_high, y_high), -1: (x_low, y_low)}[c.sign]
        _limit(chart, c, far[0] if c.name == first else far[1], upright=c.name == first)
    _individuals(chart, view, x, y)
    points = _named(chart, view, x, y)
    point_labels(chart, points, (x_low, x_high), (y_low, y_high), view.shown(scores)[[x, y]])
    chart.update_xaxes(title_text=view.titled(first) + _better(view, first), range=[x_low, x_high])
    chart.update_yaxes(
        title_text=view.titled(second) + _better(view, second), range=[y_low, y_high]
    )
    caption = (
        f"{len(members)} of {len(scores)} individuals are on the front: no other that meets the "
        "constraints is at least as good in every objective and better in one."
    )
    if len(view.objectives) > 2:
        caption += (
            f" Drawn over the first two of {len(view.objectives)} objectives; "
            "the front is over all of them."
        )
    caption += outside(max(x_out, y_out)) + view.left_out()
    return Chart("Pareto front", caption, chart)


def _limit(chart: go.Figure, constraint: Constraint, far: float, *, upright: bool) -> None:
    """A dashed line at the limit, and a tint over what breaks it, up to the edge `far`."""
    tint = {"fillcolor": RED, "opacity": 0.05, "line_width": 0}
    dashes = {
        "line": {"color": RED, "width": 1.3, "dash": "dash"},
        "annotation_text": f"limit {safe(str(constraint))}",
        "annotation_font_color": RED,
    }
    if upright:
        chart.add_vrect(constraint.limit, far, **tint)
        chart.add_vline(constraint.limit, **dashes, annotation_position="bottom right")
    else:
        chart.add_hrect(constraint.limit, far, **tint)
        chart.add_hline(constraint.limit, **dashes, annotation_position="top right")


def _individuals(chart: go.Figure, view: View, x: str, y: str) -> None:
    """Every score: what is dominated, what breaks a constraint, and the front."""
    scores, members = view.shown(view.scores), view.shown(view.front)
    rest = scores[~scores["individual"].isin(members["individual"])]
    hollow = {"color": "white", "size": 6, "line": {"color": FAINT, "width": 1.3}}
    groups: tuple[tuple[str, pd.DataFrame, dict[str, Any]], ...] = (
        (
            "dominated",
            rest[rest["violation"] == 0],
            {"marker": {"color": FAINT, "size": mark_size(len(scores))}},
        ),
        ("breaks a constraint", rest[rest["violation"] > 0], {"marker": hollow}),
        (
            "front",
            members,
            {
                "mode": "lines+markers" if len(view.objectives) == 2 else "markers",
                "line": {"color": BLUE, "width": 1.6, "shape": "hv"},
                "marker": {"color": BLUE, "size": 9},
            },
        ),
    )
    for name, rows, style in groups:
        chart.add_scatter(
            x=rows[x],
            y=rows[y],
            **{"mode": "markers", **style},
            name=name,
            hovertext=view.hover(rows),
            hoverinfo="text",
            showlegend=len(rows) > 0,
        )


def _named(chart: go.Figure, view: View, x: str, y: str) -> list[Point]:
    """Marks of the base, the baselines and the leader; returns them, to be labelled."""
    own = view.scores[view.scores["individual"] == view.leader]
    points = [
        Point(str(name), float(row[x]), float(row[y]), view.colour(str(name)))
        for name, row in view.references.iterrows()
    ]
    points += [
        Point(view.leader_is, float(row[x]), float(row[y]), ORANGE, "star", 17)
        for _, row in own.iterrows()
    ]
    rows = pd.concat([view.references.reset_index(), own])
    for point, hover in zip(points, view.hover(rows), strict=True):
        edge = {"color": "white", "width": 1}
        marker = {"symbol": point.symbol, "size": point.size, "color": point.colour, "line": edge}
        chart.add_scatter(
            x=[point.x],
            y=[point.y],
            mode="markers",
            marker=marker,
            showlegend=False,
            hovertext=[hover],
            hoverinfo="text",
        )
    return points


def _better(view: View, objective: str) -> str:
    return ", lower is better" if view.objectives[objective] > 0 else ", higher is better"


def _strip(view: View) -> Chart:
    """One objective: every score on one line, baselines and winner on lines of their own."""
    (objective,) = view.objectives
    column = view.columns.measurements[objective]
    scores = view.shown(view.scores)
    groups = [("all individuals", row, FAINT, 7) for row in [scores]]
    groups += [
        (str(name), view.references.loc[[name]].reset_index(), view.colour(str(name)), 12)
        for name in view.references.index
    ]
    own = scores[scores["individual"] == view.leader]
    groups.append((view.leader_is, own, ORANGE, 17))
    chart = figure(130 + 44 * len(groups), showlegend=False, margin={"t": 16})
    symbols = ["circle", *["diamond"] * len(view.references), "star"]
    for level, (_, rows, colour, size) in enumerate(groups):
        jitter = np.random.default_rng(0).uniform(-0.28, 0.28, len(rows)) if not level else 0.0
        chart.add_scatter(
            x=rows[column],
            y=np.zeros(len(rows)) + level + jitter,
            mode="markers",
            marker={"color": colour, "size": size, "symbol": symbols[level]},
            hovertext=view.hover(rows),
            hoverinfo="text",
        )
    always = [*view.references[column], *own[column]]
    known = [c for c in history.constraints(view.facts) if not math.isnan(c.limit)]
    limits = [c for c in known if c.name == objective]
    low, high, outliers = window(view.scores[column], [*always, *(c.limit for c in limits)])
    for c in limits:
        text = f"limit {safe(str(c))}"
        chart.add_vline(c.limit, line={"color": RED, "dash": "dash"}, annotation_text=text)
    chart.update_yaxes(
        tickvals=list(range(len(groups))), ticktext=[safe(name, 30) for name, *_ in groups]
    )
    chart.update_xaxes(
        title_text=view.titled(objective) + _better(view, objective), range=[low, high]
    )
    caption = "One objective, so there is no front: every score, and what to compare it with."
    return Chart("Scores", caption + outside(outliers) + view.left_out(), chart)
