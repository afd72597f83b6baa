"""Figures of the genes' importance, and of the winner's ancestors."""

import plotly.graph_objects as go

from evo import history
from evo.record.facts import Individual
from evo.report.figures.genes import AXES, mixture_columns
from evo.report.figures.style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    RED,
    Chart,
    View,
    figure,
    mark_size,
    safe,
    star,
    window,
)

Individuals = dict[int, Individual]
Places = dict[int, tuple[float, float]]  # x and y of each individual


def importance(view: View) -> Chart | None:
    """Share of the first loss's rank variance that each gene explains, with the level of chance."""
    found = history.importance(view.facts).head(AXES).iloc[::-1]
    if found.empty:
        return None
    sources = mixture_columns(view)
    told = found["explained"] > found["chance"]
    names = [f"share of {sources[g]}" if g in sources else g for g in found["gene"]]
    chart = figure(110 + 26 * len(found), margin={"t": 44, "l": 150})
    for keep, colour, name in ((True, BLUE, "above chance"), (False, FAINT, "not above chance")):
        chosen = [i for i, t in enumerate(told) if t == keep]
        chart.add_bar(
            x=found["explained"].iloc[chosen],
            y=chosen,
            orientation="h",
            marker={"color": colour},
            name=name,
            showlegend=bool(chosen),
            hoverinfo="x",
        )
    chart.add_scatter(
        x=found["chance"],
        y=list(range(len(found))),
        mode="markers",
        marker={"symbol": "line-ns", "size": 16, "line": {"color": INK, "width": 2}},
        name="what chance reaches in 1 of 20 shuffles",
        hoverinfo="x",
    )
    chart.update_yaxes(
        tickvals=list(range(len(found))), ticktext=[safe(n, 30) for n in names], showgrid=False
    )
    chart.update_xaxes(
        title_text="share of the rank of the first loss that the gene explains by itself",
        tickformat=".0%",
        rangemode="tozero",
    )
    caption = (
        f"From {int(found['n'].max())} evaluations, failed ones ranked last. Bars that do not "
        "pass the black mark cannot be distinguished from noise. Genomes are bred by selection, so "
        "this shows association, not cause."
    )
    return Chart("Which genes matter", caption, chart)


def lineage(view: View) -> Chart | None:
    """Individuals by generation and first loss, parents joined, the leader's ancestry in colour."""
    individuals = {f["id"]: f for f in view.facts if f["fact"] == "individual"}
    if view.scores.empty or not any(f["parents"] for f in individuals.values()):
        return None
    objective = next(iter(view.objectives))
    column = view.columns.measurements[objective]
    values = view.scores.set_index("individual")[column]
    low, high, _ = window(values, view.front[column])
    worst = high if view.objectives[objective] > 0 else low
    heights = values.reindex(list(individuals), fill_value=worst).clip(low, high)
    across = _across(individuals)
    places = {int(id): (across[id], float(y)) for id, y in heights.items() if id in view.drawn}
    line: set[int] = set()
    if view.leader is not None:
        line = set(history.lineage(view.facts, view.leader)["individual"])
    chart = figure(500, margin={"t": 44})
    _descents(chart, view, individuals, places, line)
    _individuals(chart, view, places, line)
    generations = sorted({f["generation"] for f in individuals.values()})
    chart.update_xaxes(
        title_text="generation",
        tickformat="d",
        dtick=max(1, len(generations) // 16),
        range=[generations[0] - 0.5, generations[-1] + 0.5],
    )
    chart.update_yaxes(title_text=view.titled(objective), range=[low, high])
    edge = "Values beyond the frame and failures stand at its edge."
    caption = edge
    if len(line) == 1:
        caption = f"The {view.leader_name()} was not bred from others. {edge}"
    elif line:
        ancestors = "1 other" if len(line) == 2 else f"{len(line) - 1} others"
        caption = f"The {view.leader_name()} descends from {ancestors}. {edge}"
    return Chart("Lineage", caption + view.left_out(), chart)


def _across(individuals: Individuals) -> dict[int, float]:
    """Positions on the axis of generations: individuals side by side around their own."""
    places = {}
    together: dict[int, list[int]] = {}
    for id, f in individuals.items():
        together.setdefault(f["generation"], []).append(id)
    for generation, peers in together.items():
        for position, id in enumerate(peers):
            aside = 0.56 * (position / max(1, len(peers) - 1) - 0.5) * (len(peers) > 1)
            places[id] = generation + aside
    return places


def _descents(
    chart: go.Figure, view: View, individuals: Individuals, places: Places, line: set[int]
) -> None:
    """A stroke from each parent to each child that has a score."""
    scored = set(view.scores["individual"])
    edges = [
        (parent, id)
        for id, f in individuals.items()
        for parent in f["parents"]
        if parent in places and id in places and id in scored
    ]
    pale = {"color": "#d5dce7" if len(edges) < 400 else "#e8ecf2", "width": 0.8}
    for ancestral, name, style in (
        (False, "parent and child", pale),
        (True, f"ancestry of the {view.leader_is}", {"color": ORANGE, "width": 1.8}),
    ):
        chosen = [e for e in edges if line.issuperset(e) == ancestral]
        chart.add_scatter(
            x=[x for a, b in chosen for x in (places[a][0], places[b][0], None)],
            y=[y for a, b in chosen for y in (places[a][1], places[b][1], None)],
            mode="lines",
            line=style,
            name=name,
            hoverinfo="skip",
            showlegend=bool(chosen),
        )


def _individuals(chart: go.Figure, view: View, places: Places, line: set[int]) -> None:
    """A mark for each individual, a cross for each that failed, a star for the leader."""
    size = mark_size(len(places)) + 1
    rows = view.search.drop_duplicates("individual", keep="last").set_index(
        "individual", drop=False
    )
    scored = set(view.scores["individual"])
    failed = set(rows.index[rows["status"] != "ok"]) - scored
    for name, ids, marker in (
        ("individual", scored - line, {"color": FAINT, "size": size}),
        ("ancestor", scored & line, {"color": ORANGE, "size": size + 1}),
        ("failed", failed, {"color": RED, "size": size, "symbol": "x"}),
    ):
        chosen = sorted(ids & places.keys())
        chart.add_scatter(
            x=[places[i][0] for i in chosen],
            y=[places[i][1] for i in chosen],
            mode="markers",
            marker={**marker, "line": {"color": "white", "width": 0.7}},
            name=name,
            hovertext=view.hover(rows.loc[chosen]),
            hoverinfo="text",
            showlegend=bool(chosen),
            cliponaxis=False,
        )
    if view.leader in places:
        x, y = places[view.leader]
        chart.add_scatter(
            x=[x],
            y=[y],
            mode="markers",
            marker=star(17),
            name=view.leader_name(),
            hovertext=view.hover(rows.loc[[view.leader]]),
            hoverinfo="text",
        )
