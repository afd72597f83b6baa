"""Figure of the search's progress: objectives and hypervolume by evaluation."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evo import history
from evo.report.figures.labels import side_labels
from evo.report.figures.style import (
    BLUE,
    FAINT,
    ORANGE,
    RED,
    TEMPLATE,
    Chart,
    View,
    mark_size,
    outside,
    star,
    turns,
    window,
)

PANEL = 250  # pixels
PANELS = 4


def progress(view: View) -> Chart | None:
    """Best so far per objective against the evaluations, with the baselines as lines."""
    shown = list(view.objectives)[:PANELS]
    if view.search.empty or not shown:
        return None
    count = len(view.search)
    volume = len(view.objectives) > 1 and len(view.front) > 0 and count > 1
    panels = len(shown) + volume
    spacing = 0.09 / panels**0.5
    chart = make_subplots(rows=panels, cols=1, shared_xaxes=True, vertical_spacing=spacing)
    chart.update_layout(template=TEMPLATE, height=70 + PANEL * panels, margin={"r": 175, "t": 40})
    pixels = PANEL * (1 - spacing * (panels - 1))
    rows = view.shown(view.search)
    hover = dict(zip(rows.index + 1, view.hover(rows), strict=True))
    left_out = 0
    for panel, objective in enumerate(shown, 1):
        left_out += _objective(chart, view, objective, hover, panel, pixels)
    if volume:
        values = history.hypervolume(view.facts)
        _steps(chart, 100 * values / values.max(), panels, showlegend=False)
        chart.update_yaxes(
            title_text="hypervolume<br>(% of the last)", range=[-3, 106], row=panels, col=1
        )
    chart.update_xaxes(
        range=[0.2, count + 0.8], tickformat="d", dtick=max(1, count // 10) if count < 40 else None
    )
    chart.update_xaxes(
        title_text="evaluations finished (one seed each, selection split)", row=panels, col=1
    )
    caption = "Dotted lines: the untouched base and the baselines, one fine-tune each. "
    caption += "Only what meets the constraints counts as best. "
    caption += f"The star is the {view.leader_is} under its first seed, one individual."
    if len(view.objectives) > PANELS:
        caption += f" The first {PANELS} of {len(view.objectives)} objectives are shown."
    return Chart("Progress", caption + outside(left_out) + view.left_out(), chart)


def _objective(
    chart: go.Figure, view: View, objective: str, hover: dict[int, str], panel: int, pixels: float
) -> int:
    """One panel, `pixels` high; returns how many values lie outside it."""
    column = view.columns.measurements[objective]
    values = view.search[column]
    best = history.best_so_far(view.facts, objective)
    lines = {
        str(name): (float(value), view.colour(str(name)))
        for name, value in view.references[column].items()
    }
    low, high, outliers = window(values, [*best, *(y for y, _ in lines.values())])
    for y, colour in lines.values():
        chart.add_hline(
            y=y,
            line={"color": colour, "width": 1.2, "dash": "dot"},
            row=panel,
            col=1,
            exclude_empty_subplots=False,
        )
    rows = view.shown(view.search)
    values, tries = values.loc[rows.index], rows.index + 1
    size = mark_size(len(rows))
    for kind, chosen, marker in (
        ("individual", rows["violation"] == 0, {"color": FAINT, "size": size}),
        (
            "breaks a constraint",
            rows["violation"] > 0,
            {"color": "white", "size": size - 1, "line": {"color": FAINT, "width": 1.3}},
        ),
    ):
        _marks(chart, kind, list(tries[chosen]), values[chosen], hover, marker, panel)
    _steps(chart, best, panel, name="best so far", showlegend=panel == 1, legendgroup="best")
    failed = list(tries[rows["status"] != "ok"])
    cross = {"symbol": "x", "size": size + 1, "color": RED}
    foot = [low] * len(failed)
    _marks(chart, "failed", failed, foot, hover, cross, panel, cliponaxis=False)
    own = (rows["individual"] == view.leader) & (rows["status"] == "ok")
    name = view.leader_name()
    first = own & ~rows.loc[own, "individual"].duplicated().reindex(rows.index, fill_value=False)
    again = {"color": "white", "size": size + 2, "line": {"color": ORANGE, "width": 1.6}}
    seeds = f"{view.leader_is}, other seeds"
    _marks(chart, seeds, tries[own & ~first], values[own & ~first], hover, again, panel)
    _marks(chart, name, tries[first], values[first], hover, star(15), panel, legendgroup="winner")
    side_labels(chart, lines, low, high, pixels, "" if panel == 1 else str(panel))
    title = view.titled(objective).replace(" (", "<br>(")
    chart.update_yaxes(title_text=title, range=[low, high], row=panel, col=1)
    return outliers


def _marks(
    chart: go.Figure,
    name: str,
    tries: list[int] | pd.Index,
    values: list[float] | pd.Series,
    hover: dict[int, str],
    marker: dict[str, Any],
    panel: int,
    **settings: Any,
) -> None:
    """A mark for each of these tries, counted from 1; the first panel alone is in the legend.

    `hover` has a text for every try that is drawn.
    """
    chart.add_scatter(
        x=tries,
        y=values,
        mode="markers",
        marker=marker,
        name=name,
        showlegend=panel == 1 and len(tries) > 0,
        hovertext=[hover[i] for i in tries],
        hoverinfo="text",
        row=panel,
        col=1,
        **{"legendgroup": name, **settings},
    )


def _steps(chart: go.Figure, values: Any, panel: int, **settings: Any) -> None:
    """A line that holds each try's value until the next."""
    heights = np.asarray(values, float)
    kept = turns(heights)
    chart.add_scatter(
        x=kept + 1,
        y=heights[kept],
        mode="lines",
        line={"color": BLUE, "width": 2.4, "shape": "hv"},
        hoverinfo="x+y",
        row=panel,
        col=1,
        **settings,
    )
