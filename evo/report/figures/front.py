"""What there is to choose from: the Pareto front, or all scores over the one objective."""

import numpy as np
import pandas as pd

from evo import history
from evo.history.comparison import constraint_text
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
    titled,
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
    faint = scores[~scores["individual"].isin(members["individual"])]
    size = mark_size(len(scores))
    chart = figure(520, margin={"t": 44})
    limits = [c for c in history.constraints(view.facts) if c.name in (first, second)]
    bounds = {name: [c.limit for c in limits if c.name == name] for name in (first, second)}
    references = view.references
    always = pd.concat([members, references])
    x_low, x_high, x_out = window(scores[x], [*always[x], *bounds[first]])
    y_low, y_high, y_out = window(scores[y], [*always[y], *bounds[second]])
    for c in limits:
        line = {"line": {"color": RED, "width": 1.3, "dash": "dash"}}
        far = {1: (x_high, y_high), -1: (x_low, y_low)}[c.sign]
        label = {
            "annotation_text": f"limit {safe(constraint_text(c))}",
            "annotation_font_color": RED,
        }
        if c.name == first:
            chart.add_vrect(c.limit, far[0], fillcolor=RED, opacity=0.05, line_width=0)
            chart.add_vline(c.limit, **line, **label, annotation_position="bottom right")
        else:
            chart.add_hrect(c.limit, far[1], fillcolor=RED, opacity=0.05, line_width=0)
            chart.add_hline(c.limit, **line, **label, annotation_position="top right")
    for kind, rows, marker in (
        ("dominated", faint[faint["violation"] == 0], {"color": FAINT, "size": size}),
        (
            "breaks a constraint",
            faint[faint["violation"] > 0],
            {"color": "white", "size": 6, "line": {"color": FAINT, "width": 1.3}},
        ),
    ):
        chart.add_scatter(
            x=rows[x],
            y=rows[y],
            mode="markers",
            marker=marker,
            name=kind,
            hovertext=view.hover(rows),
            hoverinfo="text",
            showlegend=len(rows) > 0,
        )
    stair = len(view.objectives) == 2
    chart.add_scatter(
        x=members[x],
        y=members[y],
        mode="lines+markers" if stair else "markers",
        line={"color": BLUE, "width": 1.6, "shape": "hv"},
        marker={"color": BLUE, "size": 9},
        name="front",
        hovertext=view.hover(members),
        hoverinfo="text",
        showlegend=len(members) > 0,
    )
    own = scores[scores["individual"] == view.leader]
    points = [
        Point(str(name), float(row[x]), float(row[y]), view.colour(str(name)))
        for name, row in references.iterrows()
    ]
    points += [
        Point(view.leader_is, float(row[x]), float(row[y]), ORANGE, "star", 17)
        for _, row in own.iterrows()
    ]
    rows = pd.concat([references.reset_index(), own])
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
    point_labels(chart, points, (x_low, x_high), (y_low, y_high), scores[[x, y]])
    chart.update_xaxes(title_text=titled(first) + _better(view, first), range=[x_low, x_high])
    chart.update_yaxes(title_text=titled(second) + _better(view, second), range=[y_low, y_high])
    caption = (
        f"{len(members)} of {len(scores)} individuals are on the front: no other that meets the "
        "constraints is at least as good in every objective and better in one."
    )
    if len(view.objectives) > 2:
        caption += (
            f" Drawn over the first two of {len(view.objectives)} objectives; "
            "the front is over all of them."
        )
    return Chart("Pareto front", caption + outside(max(x_out, y_out)), chart)


def _better(view: View, objective: str) -> str:
    return ", lower is better" if view.objectives[objective] > 0 else ", higher is better"


def _strip(view: View) -> Chart:
    """One objective: every score on one line, baselines and winner on lines of their own."""
    (objective,) = view.objectives
    column = view.columns.measurements[objective]
    scores = view.scores
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
    limits = [c for c in history.constraints(view.facts) if c.name == objective]
    low, high, outliers = window(scores[column], [*always, *(c.limit for c in limits)])
    for c in limits:
        text = f"limit {safe(constraint_text(c))}"
        chart.add_vline(c.limit, line={"color": RED, "dash": "dash"}, annotation_text=text)
    chart.update_yaxes(
        tickvals=list(range(len(groups))), ticktext=[safe(name, 30) for name, *_ in groups]
    )
    chart.update_xaxes(title_text=titled(objective) + _better(view, objective), range=[low, high])
    caption = "One objective, so there is no front: every score, and what to compare it with."
    return Chart("Scores", caption + outside(outliers), chart)
