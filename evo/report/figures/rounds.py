"""Figures of rounds: quality, shares of the winners' mixtures, diversity, and fronts."""

from collections.abc import Sequence

import numpy as np

from evo import history
from evo.history.comparison import WINNER
from evo.history.rounds import Round
from evo.planning.controls import NOTHING_GENERATED, UNFILTERED
from evo.report.figures.style import (
    BLUE,
    FAINT,
    MUTED,
    ORANGE,
    REFERENCES,
    SOURCES,
    Chart,
    figure,
    safe,
    titled,
)


def charts(found: Sequence[Round]) -> dict[str, Chart]:
    """Figures by key, those for which there are data."""
    over = [one for one in found if one.fact]
    if not over:
        return {}
    drawn = {"quality": _quality(over), "shares": _shares(over)}
    if any("pool" in one.outcome for one in over):
        drawn["diversity"] = _diversity(over)
    if any((one.outcome.get("pool") or {}).get("judgements") for one in over):
        drawn["judgements"] = _judgements(over)
    searched = [one for one in over if one.number]
    if searched and len(history.objectives(over[0].facts)) > 1:
        drawn["fronts"] = _fronts(searched)
    return drawn


def _titled(over: Sequence[Round], name: str) -> str:
    """Axis title of a measurement, with its unit."""
    return titled(name, history.meaning(over[0].facts, name).unit)


def _quality(over: Sequence[Round]) -> Chart:
    """The first objective of each winner on the test split, and of its controls."""
    name = next(iter(history.objectives(over[0].facts)))
    chart = figure(360)
    lines = ((WINNER, "winner", ORANGE), (NOTHING_GENERATED, NOTHING_GENERATED, BLUE))
    for contender, label, colour in (*lines, (UNFILTERED, UNFILTERED, REFERENCES[2])):
        rows = [(one.number, one.tested(contender, name)) for one in over]
        known = [(n, row["mean"], row["total_error"]) for n, row in rows if row is not None]
        if known:
            n, mean, error = (list(values) for values in zip(*known, strict=True))
            chart.add_scatter(
                x=n,
                y=mean,
                error_y={"array": error, "thickness": 1.5},
                mode="lines+markers" if contender == WINNER else "markers",
                marker={"size": 9, "color": colour},
                name=label,
            )
    base = over[0].tested("base", name)
    if base is not None:
        chart.add_hline(y=base["mean"], line={"dash": "dot", "color": MUTED})
    chart.update_xaxes(title_text="round", dtick=1)
    chart.update_yaxes(title_text=f"{_titled(over, name)}, test split")
    caption = (
        "Mean and standard error, over fresh seeds and the held-out items. The controls are the "
        "winner's own recipe on as many tokens, without generated samples, and with all of them. "
        "Dotted: the untouched base."
    )
    return Chart("Quality by round", caption, chart)


def _shares(over: Sequence[Round]) -> Chart:
    chart = figure(300, barmode="stack")
    colours = dict(
        zip(("real", "generated", "people"), (SOURCES[0], SOURCES[1], SOURCES[2]), strict=True)
    )
    for kind, colour in colours.items():
        shares = [100 * one.shares[kind] for one in over]
        numbers = [str(one.number) for one in over]
        chart.add_bar(x=numbers, y=shares, name=kind, marker={"color": colour})
    chart.update_xaxes(title_text="round", type="category")
    chart.update_yaxes(title_text="share of the tokens (%)", range=[0, 100])
    caption = "Shares of the winner's mixture: human text, generated samples, people's feedback."
    return Chart("Training data of the winners", caption, chart)


def _diversity(over: Sequence[Round]) -> Chart:
    chart = figure(320)
    rows = [(one.number, one.outcome["pool"]["diversity"]) for one in over if "pool" in one.outcome]
    for key, label, colour in (
        ("distinct_ratio", "distinct pairs of words", BLUE),
        ("entropy_ratio", "entropy of words", ORANGE),
    ):
        chart.add_scatter(
            x=[n for n, _ in rows],
            y=[values[key] for _, values in rows],
            mode="lines+markers",
            name=label,
            marker={"color": colour, "size": 9},
        )
    chart.add_hline(y=1, line={"dash": "dot", "color": MUTED})
    chart.update_xaxes(title_text="after round", dtick=1)
    chart.update_yaxes(title_text="share of real text's", rangemode="tozero")
    caption = "Of each round's samples, relative to as much real text (1); it falls in a collapse."
    return Chart("Diversity of samples", caption, chart)


def _judgements(over: Sequence[Round]) -> Chart:
    name = next(iter(history.objectives(over[0].facts)))
    chart = figure(320)
    before = [0, *((one.outcome.get("pool") or {}).get("judgements", 0) for one in over[:-1])]
    tested = [one.tested(WINNER, name) for one in over]
    known = [(n, row) for n, row in zip(before, tested, strict=True) if row is not None]
    chart.add_scatter(
        x=[n for n, _ in known],
        y=[row["mean"] for _, row in known],
        error_y={"array": [row["total_error"] for _, row in known]},
        mode="lines+markers",
        marker={"color": ORANGE, "size": 9},
        showlegend=False,
    )
    chart.update_xaxes(title_text="judgements available to the round")
    chart.update_yaxes(title_text=f"{_titled(over, name)}, test split")
    return Chart("Quality by judgements", "The winner of each round.", chart)


def _fronts(over: Sequence[Round]) -> Chart:
    first, second = list(history.objectives(over[0].facts))[:2]
    chart = figure(420)
    for place, one in enumerate(over):
        columns = history.Columns.of(one.facts).measurements
        members = history.front(one.facts).sort_values(columns[first])
        strength = (place + 1) / len(over)
        chart.add_scatter(
            x=members[columns[first]],
            y=members[columns[second]],
            mode="lines+markers",
            line={"shape": "hv", "width": 1.5},
            marker={"size": 8},
            opacity=float(np.clip(0.35 + 0.65 * strength, 0, 1)),
            name=safe(f"round {one.number}"),
        )
    chart.update_layout(colorway=[FAINT, BLUE, ORANGE, *REFERENCES])
    chart.update_xaxes(title_text=_titled(over, first))
    chart.update_yaxes(title_text=_titled(over, second))
    caption = "The front of each round on the selection split: trade-off of two objectives."
    return Chart("Trade-offs by round", caption, chart)
