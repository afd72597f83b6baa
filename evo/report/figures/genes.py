"""Figures of genomes: mixtures of the best, and all genes as parallel coordinates."""

from typing import Any

import numpy as np
import pandas as pd

from evo import history
from evo.history.comparison import number
from evo.report.figures.style import (
    INK,
    MUTED,
    SOURCES,
    Chart,
    View,
    figure,
    safe,
)
from population.space import Float, Int

BARS = 20  # members of the front shown as bars
OTHERS = 11  # sources with a colour of their own before the rest is added up
AXES = 16  # parallel axes that fit a laptop's screen
LIGHT_TO_DARK = [[0.0, "#e3e7ee"], [0.3, "#a9c3ea"], [0.65, "#3f7fdb"], [1.0, "#0b3c8c"]]


def mixture(view: View) -> Chart | None:
    """Shares of the sources in the winner, the other members of the front, and the baselines."""
    found = mixture_columns(view)
    own = view.scores[view.scores["individual"] == view.leader]
    members = view.front[view.front["individual"] != view.leader].head(BARS - 1)
    rows = pd.concat([own, members])
    references = view.references[view.references.index != "base"]
    if not found or rows.empty:
        return None
    names, bars = [], []
    for _, row in rows.iterrows():
        lead = f"{view.leader_is} ({row['individual']})" if row["individual"] == view.leader else ""
        names.append(f"<b>{lead}</b>" if lead else f"individual {row['individual']}")
        bars.append(row)
    gap = len(bars)
    names += [safe(name, 24) for name in references.index]
    bars += [row for _, row in references.iterrows()]
    shares = pd.DataFrame(bars)[list(found)].astype(float).fillna(0.0).to_numpy()
    order = list(np.argsort(-shares[:gap].mean(axis=0), kind="stable"))
    shown, rest = (order, []) if len(order) <= OTHERS + 1 else (order[:OTHERS], order[OTHERS:])
    stacks = [(list(found.values())[i], shares[:, i]) for i in shown]
    if rest:
        stacks.append((f"{len(rest)} others", shares[:, rest].sum(axis=1)))
    levels = [i + 0.6 * (i >= gap) for i in range(len(bars))]
    chart = figure(
        120 + 30 * len(bars),
        barmode="stack",
        bargap=0.22,
        margin={"t": 60, "l": 130},
        legend={"traceorder": "normal"},
    )
    for position, (source, values) in enumerate(stacks):
        chart.add_bar(
            x=values,
            y=levels,
            orientation="h",
            name=safe(source, 30),
            marker={
                "color": SOURCES[position % len(SOURCES)],
                "line": {"color": "white", "width": 1},
            },
            text=[f"{v:.0%}" if v >= 0.04 else "" for v in values],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"size": 11, "color": "#14202e"},
            hovertext=[f"{safe(source)} {v:.1%}" for v in values],
            hoverinfo="text",
        )
    chart.update_yaxes(
        tickvals=levels, ticktext=names, autorange="reversed", showgrid=False, ticks=""
    )
    chart.update_xaxes(
        title_text="share of the training tokens (requested)", range=[0, 1], tickformat=".0%"
    )
    caption = (
        f"The {view.leader_is} first, then the front from the lowest first loss on; below, the "
        "baselines for reference. Similar mixtures score alike: read a direction, not "
        "exact shares."
    )
    if len(view.front) > BARS:
        caption += f" {len(view.front) - BARS} more members of the front are not shown."
    return Chart("Mixtures", caption, chart)


def mixture_columns(view: View) -> dict[str, str]:
    """Source by column of the run's mixture: {`mixture.jargon`: `jargon`}."""
    genomes = (f["genome"] for f in view.facts if f["fact"] == "individual")
    first = next(
        (name for g in genomes for name, value in g.items() if isinstance(value, dict)), None
    )
    columns = view.columns.genes.items()
    return {c: n.partition(".")[2] for n, c in columns if n.partition(".")[0] == first and "." in n}


def parallel(view: View) -> Chart | None:
    """Parallel coordinates: a line per score, an axis per gene, coloured by the first loss."""
    scores = view.shown(view.scores)
    if len(scores) < 2 or not view.objectives:
        return None
    objective = next(iter(view.objectives))
    values = scores[view.columns.measurements[objective]]
    varied = [g for g in view.columns.genes.values() if scores[g].astype(str).nunique() > 1]
    strength = dict(history.importance(view.facts)[["gene", "explained"]].to_numpy())
    kept = sorted(varied, key=lambda gene: -strength.get(gene, 0.0))[: AXES - 1]
    sources = mixture_columns(view)
    logs = {
        view.columns.genes.get(name)
        for name, gene in history.spec(view.facts).genome.items()
        if isinstance(gene, Float | Int) and gene.log
    }
    axes = [
        _axis(scores[gene], sources.get(gene, gene), gene in logs, gene in sources)
        for gene in varied
        if gene in kept
    ]
    flip = view.objectives[objective] < 0
    goodness = (values if flip else -values).to_numpy(float)
    low, high = np.quantile(goodness, [0.15, 1.0])
    shown = np.linspace(low, high, 5)
    axes.append(_axis(values, objective, log=False, share=False))
    order = np.argsort(-scores[f"losses.{objective}"].to_numpy(), kind="stable")
    for axis in axes:
        axis["values"] = np.asarray(axis["values"], float)[order]
    chart = figure(470, margin={"t": 84, "b": 30, "l": 60, "r": 40})
    chart.add_parcoords(
        dimensions=axes,
        labelangle=-24,
        labelfont={"size": 12, "color": INK},
        tickfont={"size": 10, "color": MUTED},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        line={
            "color": goodness[order],  # plotly draws the highest on top
            "colorscale": LIGHT_TO_DARK,
            "cmin": low,
            "cmax": high,
            "showscale": True,
            "colorbar": {
                "title": {"text": view.titled(objective), "side": "right", "font": {"size": 12}},
                "thickness": 12,
                "tickvals": list(shown),
                "ticktext": [number(abs(tick)) for tick in shown],
                "tickfont": {"size": 11},
            },
        },
    )
    caption = (
        "One line per individual, dark where the first objective is good. Drag along an axis to "
        "select, drag a name to reorder. Shares of the mixture come under the name of the source"
    )
    caption += "; - marks a gene that is not active." if scores[varied].isna().any().any() else "."
    if len(varied) > len(kept):
        caption += f" The {len(kept)} of {len(varied)} genes that explain most are shown."
    wide = 140 + 64 * len(axes)
    return Chart("Genes of every individual", caption + view.left_out(), chart, wide)


def _axis(values: pd.Series, label: str, log: bool, share: bool) -> dict[str, Any]:
    """A dimension of parallel coordinates; categories by number, inactive ones below the rest."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    absent = values.isna()
    boolean = values.map(lambda v: isinstance(v, bool | np.bool_)).any()
    if boolean or (numbers.isna() & ~absent).any():
        options = sorted({str(v) for v in values.dropna()})
        codes = values.map({v: options.index(str(v)) for v in values.dropna().unique()})
        numbers, ticks, texts = codes.astype(float), [*map(float, range(len(options)))], options
    elif log and (numbers.dropna() > 0).all():
        numbers = numbers.map(np.log10)
        ticks = [float(tick) for tick in np.linspace(numbers.min(), numbers.max(), 5)]
        texts = [f"{10**tick:.2g}" for tick in ticks]
    else:
        start = 0.0 if share else numbers.min()
        ticks = [float(tick) for tick in np.linspace(start, numbers.max(), 5)]
        if pd.api.types.is_integer_dtype(values):
            ticks = sorted({float(round(tick)) for tick in ticks})
        texts = [f"{tick:.0%}" if share else f"{tick:.3g}" for tick in ticks]
    low, high = min(ticks), max(ticks)
    span = (high - low) or 1.0
    if absent.any():
        low -= 0.14 * span
        numbers = numbers.fillna(low)
        ticks, texts = [low, *ticks], ["-", *texts]
    return {
        "label": safe(label, 24),
        "values": numbers,
        "tickvals": ticks,
        "ticktext": [safe(text, 14) for text in texts],
        "range": [low - 0.02 * span, high + 0.02 * span],
    }
