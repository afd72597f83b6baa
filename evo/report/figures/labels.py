"""Names beside lines and points of a figure, placed so that none covers another."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from evo.history.comparison import number
from evo.report.figures.style import safe

LABEL_PIXELS = 16  # height of one line of label
_PLACES = ((0, -1), (1, 0), (-1, 0), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class Point(NamedTuple):
    """A marked and named point of a figure."""

    name: str
    x: float
    y: float
    colour: str
    symbol: str = "diamond"
    size: int = 11


def spread(positions: Sequence[float], gap: float = LABEL_PIXELS) -> list[float]:
    """Positions in pixels pushed apart until neighbours are `gap` apart; order and centre kept."""
    order = np.argsort(positions, kind="stable")
    placed = np.asarray(positions, float)[order]
    groups: list[list[float]] = []  # [centre, members], merged while they overlap
    for position in placed:
        groups.append([float(position), 1])
        while len(groups) > 1:
            (first, m), (second, n) = groups[-2:]
            if second - first >= gap * (m + n) / 2:
                break
            groups[-2:] = [[(first * m + second * n) / (m + n), m + n]]
    result = np.empty(len(placed))
    flat = [c + gap * (i - (n - 1) / 2) for c, n in groups for i in range(int(n))]
    result[order] = flat
    return [float(value) for value in result]


def side_labels(
    chart: go.Figure,
    labels: dict[str, tuple[float, str]],
    low: float,
    high: float,
    pixels: float,
    axis: str = "",
) -> None:
    """Names at the right of the plot for horizontal lines {name: (y, colour)}, none overlapping."""
    inside = {name: pair for name, pair in labels.items() if np.isfinite(pair[0])}
    wanted = [(high - y) / (high - low) * pixels for y, _ in inside.values()]
    for (name, (y, colour)), want, got in zip(inside.items(), wanted, spread(wanted), strict=True):
        chart.add_annotation(
            x=1,
            y=y,
            xref=f"x{axis} domain",
            yref=f"y{axis}",
            text=f"{safe(name, 18)} {number(y)}",
            font={"color": colour, "size": 12},
            xanchor="left",
            showarrow=True,
            arrowhead=0,
            arrowwidth=1,
            arrowcolor=colour,
            ax=16,
            ay=got - want,
        )


def point_labels(
    chart: go.Figure,
    points: Sequence[Point],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    crowd: pd.DataFrame,
    pixels: tuple[float, float] = (980, 420),
) -> None:
    """A name beside each point, at the first place that no label, mark or point of a crowd takes.

    `crowd` holds x and y of the other points, (n, 2).
    """
    (x_low, x_high), (y_low, y_high) = x_range, y_range

    def place(x: float, y: float) -> tuple[float, float]:
        across, down = (x - x_low) / (x_high - x_low), (y_high - y) / (y_high - y_low)
        return across * pixels[0], down * pixels[1]

    centres = [place(p.x, p.y) for p in points]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in centres]
    for x, y in crowd.to_numpy(float):
        px, py = place(x, y)
        taken.append((px - 5, py - 5, px + 5, py + 5))
    for point, (x, y) in zip(points, centres, strict=True):
        text = safe(point.name, 30)
        half = 3.6 * len(point.name[:30]) + 3
        best = None
        for distance in (18, 34, 52, 76):
            for right, down in _PLACES:
                cx = x + right * (half + 12 if abs(right) == 1 else 0)
                cy = y + down * distance
                box = (cx - half, cy - 8, cx + half, cy + 8)
                inside = box[0] > 0 and box[2] < pixels[0] and box[1] > 0 and box[3] < pixels[1]
                if inside and not any(_overlap(box, other) for other in taken):
                    best = (cx, cy, box)
                    break
            if best:
                break
        cx, cy, box = best or (x, y - 18, (x - half, y - 26, x + half, y - 10))
        taken.append(box)
        chart.add_annotation(
            x=point.x,
            y=point.y,
            text=text,
            font={"color": point.colour, "size": 12.5},
            ax=cx - x,
            ay=cy - y,
            showarrow=True,
            arrowhead=0,
            arrowwidth=1 if abs(cy - y) > 20 else 0.1,
            arrowcolor=point.colour,
            bgcolor="rgba(255,255,255,0.75)",
            borderpad=0,
            standoff=6,
        )


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
