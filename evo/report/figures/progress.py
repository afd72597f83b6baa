"""How the search went: each objective, and the volume of the front, by evaluation."""

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
    titled,
    window,
)

PANEL = 250  # pixels
PANELS = 4


def progress(view: View) -> Chart | None:
    """Best so far per objective against the evaluations, with the baselines as lines."""
    shown = list(view.objectives)[:PANELS]
    if view.search.empty or not shown:
        return None
    rows = view.search
    ticks = list(range(1, len(rows) + 1))
    volume = len(view.objectives) > 1 and len(view.front) > 0 and len(rows) > 1
    size = mark_size(len(rows))
    panels = len(shown) + volume
    chart = make_subplots(
        rows=panels, cols=1, shared_xaxes=True, vertical_spacing=0.09 / panels**0.5
    )
    chart.update_layout(template=TEMPLATE, height=70 + PANEL * panels, margin={"r": 175, "t": 40})
    left_out = 0
    hover = view.hover(rows)
    for panel, objective in enumerate(shown, 1):
        column = view.columns.measurements[objective]
        best = history.best_so_far(view.facts, objective)
        lines = {
            str(name): (float(value), view.colour(str(name)))
            for name, value in view.references[column].items()
        }
        low, high, outliers = window(rows[column], [*best, *(y for y, _ in lines.values())])
        left_out += outliers
        axis = "" if panel == 1 else str(panel)
        for y, colour in lines.values():
            chart.add_hline(
                y=y,
                line={"color": colour, "width": 1.2, "dash": "dot"},
                row=panel,
                col=1,
                exclude_empty_subplots=False,
            )
        kinds = {
            "individual": (rows["violation"] == 0, {"color": FAINT, "size": size}),
            "breaks a constraint": (
                rows["violation"] > 0,
                {"color": "white", "size": size - 1, "line": {"color": FAINT, "width": 1.3}},
            ),
        }
        for kind, (chosen, marker) in kinds.items():
            chart.add_scatter(
                x=[t for t, keep in zip(ticks, chosen, strict=True) if keep],
                y=rows.loc[chosen, column],
                mode="markers",
                marker=marker,
                name=kind,
                legendgroup=kind,
                showlegend=panel == 1 and bool(chosen.any()),
                hovertext=[h for h, keep in zip(hover, chosen, strict=True) if keep],
                hoverinfo="text",
                row=panel,
                col=1,
            )
        chart.add_scatter(
            x=ticks,
            y=best,
            mode="lines",
            line={"color": BLUE, "width": 2.4, "shape": "hv"},
            name="best so far",
            showlegend=panel == 1,
            legendgroup="best",
            hoverinfo="x+y",
            row=panel,
            col=1,
        )
        _failures(chart, rows, hover, low, panel)
        own = rows[(rows["individual"] == view.leader) & (rows["status"] == "ok")]
        chart.add_scatter(
            x=own.index + 1,
            y=own[column],
            mode="markers",
            marker={
                "symbol": "star",
                "size": 15,
                "color": ORANGE,
                "line": {"color": "white", "width": 1},
            },
            name=f"{view.leader_is} (individual {view.leader})",
            showlegend=panel == 1 and len(own) > 0,
            legendgroup="winner",
            hovertext=view.hover(own),
            hoverinfo="text",
            row=panel,
            col=1,
        )
        pixels = PANEL * (1 - 0.09 * (panels - 1) / panels**0.5)
        side_labels(chart, lines, low, high, pixels, axis)
        chart.update_yaxes(
            title_text=titled(objective).replace(" (", "<br>("), range=[low, high], row=panel, col=1
        )
    if volume:
        values = history.hypervolume(view.facts)
        chart.add_scatter(
            x=ticks,
            y=100 * values / values.max(),
            mode="lines",
            line={"color": BLUE, "width": 2.4, "shape": "hv"},
            showlegend=False,
            hoverinfo="x+y",
            row=panels,
            col=1,
        )
        chart.update_yaxes(
            title_text="hypervolume<br>(% of the last)", range=[-3, 106], row=panels, col=1
        )
    chart.update_xaxes(
        range=[0.2, len(rows) + 0.8],
        tickformat="d",
        dtick=max(1, len(rows) // 10) if len(rows) < 40 else None,
    )
    chart.update_xaxes(
        title_text="evaluations finished (one seed each, selection split)", row=panels, col=1
    )
    caption = "Dotted lines: the untouched base and the baselines, one fine-tune each. "
    caption += "Only what meets the constraints counts as best."
    if len(view.objectives) > PANELS:
        caption += f" The first {PANELS} of {len(view.objectives)} objectives are shown."
    return Chart("Progress", caption + outside(left_out), chart)


def _failures(
    chart: go.Figure, rows: pd.DataFrame, hover: list[str], low: float, panel: int
) -> None:
    """A red cross at the foot of the panel for each evaluation that failed."""
    failed = [i for i, status in enumerate(rows["status"]) if status != "ok"]
    chart.add_scatter(
        x=[i + 1 for i in failed],
        y=[low] * len(failed),
        mode="markers",
        marker={"symbol": "x", "size": mark_size(len(rows)) + 1, "color": RED},
        cliponaxis=False,
        name="failed",
        legendgroup="failed",
        showlegend=panel == 1 and bool(failed),
        hovertext=[hover[i] for i in failed],
        hoverinfo="text",
        row=panel,
        col=1,
    )
