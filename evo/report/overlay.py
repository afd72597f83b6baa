"""Comparison of runs: tables for the terminal, and a page with curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evo.history.comparison import listed, number, plus_minus, signed
from evo.history.overlay import Array, Overlay, Trace, at, final
from evo.report.figures.style import (
    BLUE,
    ORANGE,
    REFERENCES,
    TEMPLATE,
    Chart,
    safe,
    titled,
    turns,
    window,
)
from evo.report.rendering import rendered
from evo.significance import chance
from fitness.files import write_whole

if TYPE_CHECKING:
    from rich.console import RenderableType

LINES = (BLUE, ORANGE, *REFERENCES[1:])
DASHES = ("solid", "dot", "dash", "dashdot")  # once all colours are taken
PANEL = 260  # pixels
PANELS = 4  # objectives drawn
NAME = 22  # characters of a run's name in the terminal


@dataclass(frozen=True)
class Table:
    """A table of texts; the first cell of a row is its name."""

    title: str
    caption: str
    head: list[str]
    rows: list[list[str]]


def tables(found: Overlay) -> list[Table]:
    """Tables of best so far by effort, results on the test split, and effort to reach a value."""
    drawn = []
    for objective, sign in found.objectives.items():
        which = f"{objective}, {'lower' if sign > 0 else 'higher'} is better"
        counts = [np.arange(1.0, len(run.hours) + 1) for run in found.runs]
        spent = [run.budgets for run in found.runs]
        drawn.append(_by(found, objective, f"evaluations: {which}", found.evaluations, counts))
        if not all(map(np.array_equal, counts, spent)):
            drawn.append(_by(found, objective, f"token budgets: {which}", found.budgets, spent))
    if any(run.tests.keys() & found.objectives.keys() for run in found.runs):
        drawn += [_tested(found, objective) for objective in found.objectives]
    if len(found.runs) > 1:
        drawn += [_reached(found, objective) for objective in found.objectives]
    return drawn


def _by(
    found: Overlay,
    objective: str,
    what: str,
    checkpoints: Sequence[float],
    counted: Sequence[Array],
) -> Table:
    """Best so far at checkpoints of effort; `counted` has the effort by evaluation for each run."""
    rows = [
        [run.name, *(number(at(each, run.best[objective], point)) for point in checkpoints)]
        for run, each in zip(found.runs, counted, strict=True)
    ]
    caption = "Meeting the run's constraints, on the selection split; - beyond a run's end."
    head = ["run", *(f"{point:.6g}" for point in checkpoints)]
    return Table(f"Best so far, by {what}", caption, head, rows)


def _tested(found: Overlay, objective: str) -> Table:
    """The winners on the test split, each against that of the first run that has one."""
    first = next((run for run in found.runs if objective in run.tests), found.runs[0])
    rows = []
    for run in found.runs:
        test = run.tests.get(objective)
        if test is None:
            rows.append([run.name, "-", "0", "-", "-", "-"])
            continue
        lead = None if run is first else found.lead(objective, run, first)
        told = ["-", "-"] if lead is None else [signed(lead.margin), chance(lead.p) or "-"]
        if lead is not None:
            told[1] += {"unclear": ", not clear"}.get(lead.clear, f", clearly {lead.clear}")
        counts = [str(len(test.values)), "-" if test.sample is None else f"{test.sample.count:,}"]
        rows.append([run.name, plus_minus(test.mean, test.error), *counts, *told])
    head = ["run", objective, "seeds", "items", f"margin over {first.name}", "clear?"]
    caption = (
        "The winner of each run: mean and standard error, over its closing seeds and the held-out "
        "documents, records or prompts (items; - where no score by item is recorded, and the "
        "error is that of the seeds alone). A margin above 0 is better."
    )
    return Table(f"Test split: {objective}", caption, head, rows)


def _reached(found: Overlay, objective: str) -> Table:
    """Evaluations that each run (row) needed to reach the final best of each run (column)."""
    goals = [(run.name, final(run, objective)) for run in found.runs]
    rows = [
        [run.name, *(str(found.reached(objective, run, goal) or "never") for _, goal in goals)]
        for run in found.runs
    ]
    head = ["run", *(f"{name}: {number(goal)}" for name, goal in goals)]
    caption = "Evaluations that a row's run needed to reach the final best of a column's run."
    return Table(f"Evaluations to reach one another: {objective}", caption, head, rows)


def summary(found: Overlay) -> "RenderableType":
    """The tables for a terminal; the page has them too."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as Shown
    from rich.text import Text

    parts: list[RenderableType] = [Text(note, "bold yellow") for note in found.notes()]
    parts += [Text(sentence) for sentence in found.left_out()]
    for table in tables(found):
        shown = Shown(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for place, cell in enumerate(table.head):
            shown.add_column(Text(cell), justify="right" if place else "left", max_width=NAME)
        for row in table.rows:
            shown.add_row(*map(Text, row))
        parts += [Text(table.title, "bold"), shown, Text(table.caption, "dim"), Text()]
    return Group(*parts)


def write(found: Overlay, path: Path) -> None:
    """Write the page; it appears whole or not at all."""
    said = {
        "name": listed(run.name for run in found.runs),
        "notes": [*found.notes(), *found.left_out()],
        "tables": tables(found),
        "verdict": None,
        "links": (),
        "footer": "evo compare RUN RUN --json",
    }
    write_whole(path, rendered("tables.html.j2", {"overlay": _chart(found)}, said))


def _chart(found: Overlay) -> Chart:
    """Best so far and hypervolume, by evaluation on the left and by hour on the right."""
    shown = list(found.objectives)[:PANELS]
    volume = found.hypervolume
    panels = len(shown) + (volume is not None)
    chart = make_subplots(
        rows=panels,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.22 / panels,
    )
    chart.update_layout(template=TEMPLATE, height=70 + PANEL * panels, margin={"t": 60})
    for panel, objective in enumerate(shown, 1):
        for place, run in enumerate(found.runs):
            _lines(chart, run, place, run.best[objective], panel)
        settled = [run.best[objective][len(run.hours) // 20 :] for run in found.runs]
        low, high, _ = window([], np.concatenate(settled))
        title = titled(objective, found.unit(objective)).replace(" (", "<br>(")
        chart.update_yaxes(range=[low, high], row=panel)
        chart.update_yaxes(title_text=title, row=panel, col=1)
    if volume is not None:
        for place, run in enumerate(found.runs):
            _lines(chart, run, place, 100 * volume[place], panels)
        chart.update_yaxes(range=[-3, 106], row=panels)
        chart.update_yaxes(title_text="hypervolume<br>(% of all runs')", row=panels, col=1)
    chart.update_xaxes(title_text="evaluations finished", row=panels, col=1)
    chart.update_xaxes(title_text="running time (hours)", row=panels, col=2)
    caption = "Best so far that meets the run's own constraints, on the selection split."
    if volume is not None:
        caption += (
            " Hypervolume with one reference for all runs: the worst feasible value of any and a "
            "tenth of the range; 100 % is the volume of all runs together."
        )
    if len(found.objectives) > PANELS:
        caption += f" The first {PANELS} of {len(found.objectives)} common objectives are drawn."
    return Chart("Side by side", caption, chart)


def _lines(chart: go.Figure, run: Trace, place: int, values: Array, panel: int) -> None:
    """A run in both panels of a row, with a mark at its end."""
    if not len(values):
        return
    kept = turns(values)
    style = {
        "color": LINES[place % len(LINES)],
        "dash": DASHES[place // len(LINES) % len(DASHES)],
        "width": 2.2,
        "shape": "hv",
    }
    for side, counted in ((1, np.arange(1.0, len(values) + 1)), (2, run.hours)):
        chart.add_scatter(
            x=counted[kept],
            y=values[kept],
            mode="lines+markers",
            marker={"size": [*[0] * (len(kept) - 1), 8], "color": style["color"]},
            line=style,
            name=safe(run.name, 40),
            legendgroup=str(place),
            showlegend=panel == 1 and side == 1,
            hovertemplate="%{x:.4g}: %{y:.4f}",
            row=panel,
            col=side,
        )
