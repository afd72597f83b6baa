"""Figure of warm starts: the first objective by cumulative tokens."""

import pandas as pd
import plotly.graph_objects as go

from evo.history.tables import FULL
from evo.report.figures.style import (
    BLUE,
    FAINT,
    Chart,
    View,
    figure,
    mark_size,
    outside,
    star,
    window,
)


def inheritance(view: View) -> Chart | None:
    """First objective by all tokens of a lineage, warm starts in a colour; None without any."""
    rows = view.shown(view.search)
    rows = rows[(rows["status"] == "ok") & (rows["fidelity"] == FULL)]
    warm = rows["inherited_from"] != ""
    if not warm.any():
        return None
    objective = next(iter(view.objectives))
    column = view.columns.measurements[objective]
    low, high, left_out = window(rows[column])
    chart = figure(420, margin={"t": 60})
    size = mark_size(len(rows))
    kinds = (("from scratch", ~warm, FAINT), ("started from parents' weights", warm, BLUE))
    for name, chosen, colour in kinds:
        _marks(chart, view, rows[chosen], column, name, {"color": colour, "size": size})
    own = rows[rows["individual"] == view.leader]
    _marks(chart, view, own, column, view.leader_name(), star(15))
    _best(chart, view, rows.loc[warm & (rows["violation"] == 0)], objective, column)
    chart.update_xaxes(title_text="cumulative tokens of the lineage", rangemode="tozero")
    chart.update_yaxes(title_text=view.titled(objective), range=[low, high])
    caption = (
        "Each individual by the tokens that it and its ancestors' weights were trained on: only "
        "individuals at the same place were trained equally long. The line is the best warm start "
        "up to so many tokens. The closing comparison shows whether a warm start is better than "
        "the same recipe from scratch on as many tokens."
    )
    return Chart("Warm starts", caption + outside(left_out) + view.left_out(), chart)


def _marks(
    chart: go.Figure,
    view: View,
    rows: pd.DataFrame,
    column: str,
    name: str,
    marker: dict[str, object],
) -> None:
    chart.add_scatter(
        x=rows["cumulative_tokens"],
        y=rows[column],
        mode="markers",
        marker=marker,
        name=name,
        hovertext=view.hover(rows),
        hoverinfo="text",
    )


def _best(chart: go.Figure, view: View, rows: pd.DataFrame, objective: str, column: str) -> None:
    """A line of steps through the best that meet the constraints, by tokens."""
    ordered = rows.sort_values("cumulative_tokens", kind="stable")
    best = ordered[f"losses.{objective}"].cummin() * view.objectives[objective]
    chart.add_scatter(
        x=ordered["cumulative_tokens"],
        y=best,
        mode="lines",
        line={"color": BLUE, "width": 2, "shape": "hv"},
        name="best warm start",
        hoverinfo="x+y",
    )
