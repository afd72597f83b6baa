"""Style of all figures of the report, and the view of a run that they are drawn from.

All text that a run brings (names, messages) passes `safe`, since plotly reads labels as HTML.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from evo import history
from evo.history.comparison import number

INK, MUTED, GRID = "#1c2430", "#667085", "#e9ecf1"
BLUE, FAINT, ORANGE, RED = "#2563c9", "#aebdd3", "#dd4b0b", "#c4283b"
REFERENCES = (
    "#475467",
    "#0b8a7a",
    "#7a4fe0",
    "#c11574",
    "#5b7d10",
    "#0b7f9e",
    "#8a5a13",
    "#3f51b5",
)
SOURCES = (
    *("#4e79a7", "#f2a03d", "#59a14f", "#b07aa1", "#76b7b2", "#e3c53a"),
    *("#d97b7b", "#9c755f", "#7fa6d6", "#a3c585", "#c9b2d6", "#c7c3bd"),
)
DRAWN = 2000  # individuals a figure can show: more hide one another and make the page heavy
STEPS = 1000  # of a line
FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_AXIS = {
    "gridcolor": GRID,
    "linecolor": "#cfd6e0",
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "#cfd6e0",
    "ticklen": 4,
    "title": {"font": {"size": 13, "color": MUTED}, "standoff": 10},
    "ticklabelstandoff": 3,
    "automargin": True,
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"bgcolor": "white", "bordercolor": "#cfd6e0", "align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "xanchor": "left"},
        "margin": {"l": 70, "r": 30, "t": 36, "b": 56},
        "hovermode": "closest",
        "bargap": 0.3,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#b3bac5", "activecolor": MUTED},
    }
)


@dataclass(frozen=True)
class Chart:
    """A figure with what to read off it; both are for people.

    `wide` pixels are the least that it can be read at: below, it scrolls by itself.
    """

    title: str
    caption: str
    figure: go.Figure
    wide: int = 0


@dataclass(frozen=True)
class View:
    """A run's tables, computed once for all figures."""

    facts: history.Facts
    columns: history.Columns
    objectives: dict[str, int]
    search: pd.DataFrame  # each try of the search
    scores: pd.DataFrame  # one row per individual that has a score
    front: pd.DataFrame
    references: pd.DataFrame  # the untouched base and the baselines, indexed by name
    leader: int | None  # the winner, else the best so far
    leader_is: str
    drawn: frozenset[int]  # the individuals that figures show

    @classmethod
    def of(cls, facts: history.Facts) -> "View":
        rows, scores = history.table(facts), history.scores(facts)
        base = rows.query("name == 'base' and split == 'selection' and status == 'ok'").head(1)
        anchors = scores[scores["name"] != ""]
        winner = history.winner(facts)
        leader = history.best(facts) if winner is None else winner
        search, front = history.search_rows(facts), history.front(facts)
        return cls(
            facts,
            history.Columns.of(facts),
            history.objectives(facts),
            search,
            scores,
            front,
            (pd.concat([base, anchors]) if len(base) else anchors).set_index("name"),
            leader,
            "best so far" if winner is None else "winner",
            _drawn(facts, search, front, anchors, leader),
        )

    def shown(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of the individuals that are drawn."""
        return rows[rows["individual"].isin(self.drawn)]

    def left_out(self) -> str:
        """Sentence on individuals that are not drawn; empty if all are."""
        known = self.search["individual"].nunique()
        if known == len(self.drawn):
            return ""
        return (
            f" Drawn are {len(self.drawn)} of {known} individuals: the front, the baselines, the "
            "nearest ancestors, and others at even distances."
        )

    def colour(self, reference: str) -> str:
        """One colour per baseline, the same in every figure."""
        if reference == "winner":
            return ORANGE
        names = ["base", *history.baselines(self.facts)]
        return REFERENCES[names.index(reference) % len(REFERENCES)] if reference in names else MUTED

    def leader_name(self) -> str:
        """Name of the leader: `winner (individual 12)`."""
        return f"{self.leader_is} (individual {self.leader})"

    def titled(self, measurement: str) -> str:
        """Axis title of a measurement or an aggregate, with its unit."""
        return titled(measurement, history.meaning(self.facts, measurement).unit)

    def hover(self, rows: pd.DataFrame) -> list[str]:
        """Hover texts: individual, breeding, objectives and mixture."""
        measured = [self.columns.measurements[name] for name in self.objectives]
        texts = []
        for _, row in rows.iterrows():
            who = f"<b>individual {row['individual']}</b>"
            who += f" ({safe(row['name'])})" if row["name"] else ""
            lines = [who, f"generation {row['generation']}, {safe(row['operator'])}"]
            lines += [f"parents {safe(row['parents'])}"] if row["parents"] else []
            if row["status"] == "ok":
                lines += [f"{safe(c)} {number(row[c])}" for c in measured]
            else:
                lines += [safe(row["status"].replace("_", " ")), safe(str(row["message"])[:100])]
            genes = [(g, row[g]) for g in self.columns.genes.values() if pd.notna(row[g])]
            shares = [(g, v) for g, v in genes if "." in g and isinstance(v, float)]
            top = sorted(shares, key=lambda pair: -pair[1])[:3]
            lines += [", ".join(f"{safe(g.partition('.')[2])} {v:.0%}" for g, v in top)] * bool(top)
            texts.append("<br>".join(lines))
        return texts


def _drawn(
    facts: history.Facts,
    search: pd.DataFrame,
    front: pd.DataFrame,
    anchors: pd.DataFrame,
    leader: int | None,
) -> frozenset[int]:
    """Individuals to draw: all, or a selection if there are more than DRAWN."""
    known = search["individual"].unique()
    if len(known) <= DRAWN:
        return frozenset(known.tolist())
    kept = [anchors["individual"], thinned(front["individual"].to_numpy(), DRAWN // 4)]
    if leader is not None:
        kept.append(history.lineage(facts, leader)["individual"].head(DRAWN // 8))
    kept.append(thinned(known, DRAWN // 2))
    return frozenset(np.concatenate(kept).tolist())


def thinned(values: Any, most: int) -> Any:
    """Thin out a sequence to `most` values at even distances, including both ends."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def turns(heights: np.ndarray) -> np.ndarray:
    """Indices of heights (n,) that a line of steps needs: the ends, and both sides of a change."""
    ends = np.flatnonzero(np.diff(heights, append=np.nan))  # before a change, and the last
    kept: np.ndarray = thinned(np.union1d([0], [*ends, *(ends[:-1] + 1)]).astype(int), STEPS)
    return kept


def mark_size(count: int) -> int:
    """Diameter in pixels at which so many points stay apart."""
    return 7 if count < 200 else 5 if count < 600 else 4


def star(size: int) -> dict[str, Any]:
    """The mark of the leader."""
    return {
        "symbol": "star",
        "size": size,
        "color": ORANGE,
        "line": {"color": "white", "width": 1},
    }


def safe(text: object, width: int = 60) -> str:
    """Escape a text for plotly, and shorten it to a width in characters."""
    shown = str(text)
    shown = shown if len(shown) <= width else f"{shown[: width - 1]}…"
    return html.escape(shown, quote=False)


def titled(measurement: str, unit: str) -> str:
    """Axis title of a measurement: `target/loss (nats)`."""
    return safe(measurement, 34) + (f" ({safe(unit)})" if unit else "")


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the house style."""
    return go.Figure(layout=go.Layout(template=TEMPLATE, height=height, **layout))


def window(values: Iterable[float], always: Iterable[float] = ()) -> tuple[float, float, int]:
    """Axis range (low, high) that no outlier squeezes, and how many values lie outside it.

    Whatever is in `always` is inside; of the rest, what lies beyond three times the span between
    the quartiles may be outside.
    """
    points = np.asarray([v for v in values if np.isfinite(v)], float)
    kept = np.asarray([v for v in always if np.isfinite(v)], float)
    if not len(points) + len(kept):
        return 0.0, 1.0, 0
    if len(points):
        lower, upper = np.quantile(points, [0.25, 0.75])
        reach = 3 * max(upper - lower, 1e-12)
        kept = np.concatenate([kept, points[np.abs(points - (lower + upper) / 2) <= reach]])
    low, high = (kept.min(), kept.max()) if len(kept) else (points.min(), points.max())
    margin = 0.07 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = float(low - margin), float(high + margin)
    return low, high, int(((points < low) | (points > high)).sum())


def outside(count: int) -> str:
    """Sentence on points outside an axis range; empty if there are none."""
    what = f"{count} {'point lies' if count == 1 else 'points lie'}"
    return f" {what} outside the frame; double-click to see all." if count else ""
