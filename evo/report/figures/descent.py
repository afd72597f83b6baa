"""What may have made individuals good: which genes go with it, and whom they descend from."""

import numpy as np

from evo import history
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
    titled,
    window,
)


def importance(view: View) -> Chart | None:
    """How much of the first loss's rank each gene explains, with the level of chance."""
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
        "pass the black mark cannot be told from noise. Selection breeds what it likes, so this "
        "shows what goes together, not what causes what."
    )
    return Chart("Which genes matter", caption, chart)


def lineage(view: View) -> Chart | None:
    """Individuals by generation and first loss, parents joined, the leader's ancestry in colour."""
    born = {f["id"]: f for f in view.facts if f["fact"] == "individual"}
    if view.scores.empty or not any(f["parents"] for f in born.values()):
        return None
    objective = next(iter(view.objectives))
    values = view.scores.set_index("individual")[view.columns.measurements[objective]]
    low, high, _ = window(values, view.front[view.columns.measurements[objective]])
    worst = high if view.objectives[objective] > 0 else low
    place: dict[int, tuple[float, float]] = {}
    for generation in sorted({f["generation"] for f in born.values()}):
        peers = [id for id, f in born.items() if f["generation"] == generation]
        for position, id in enumerate(peers):
            x = generation + 0.56 * (position / max(1, len(peers) - 1) - 0.5) * (len(peers) > 1)
            place[id] = (x, float(np.clip(values.get(id, worst), low, high)))
    line = (
        set(history.lineage(view.facts, view.leader)["individual"])
        if view.leader is not None
        else set()
    )
    chart = figure(500, margin={"t": 44})
    edges = [
        (parent, id)
        for id, f in born.items()
        for parent in f["parents"]
        if parent in place and id in values.index
    ]
    for ancestral, name, style in (
        (
            False,
            "parent and child",
            {"color": "#d5dce7" if len(edges) < 400 else "#e8ecf2", "width": 0.8},
        ),
        (True, f"ancestry of the {view.leader_is}", {"color": ORANGE, "width": 1.8}),
    ):
        chosen = [e for e in edges if (e[0] in line and e[1] in line) == ancestral]
        chart.add_scatter(
            x=[x for a, b in chosen for x in (place[a][0], place[b][0], None)],
            y=[y for a, b in chosen for y in (place[a][1], place[b][1], None)],
            mode="lines",
            line=style,
            name=name,
            hoverinfo="skip",
            showlegend=bool(chosen),
        )
    size = mark_size(len(born)) + 1
    failed = {id for id in born if id not in values.index}
    rows = view.search.drop_duplicates("individual", keep="last").set_index(
        "individual", drop=False
    )
    seen = set(rows.index)
    for name, ids, marker in (
        ("individual", set(values.index) - line, {"color": FAINT, "size": size}),
        ("ancestor", set(values.index) & line, {"color": ORANGE, "size": size + 1}),
        ("failed", failed & seen, {"color": RED, "size": size, "symbol": "x"}),
    ):
        chosen_ids = sorted(i for i in ids if i in place)
        chart.add_scatter(
            x=[place[i][0] for i in chosen_ids],
            y=[place[i][1] for i in chosen_ids],
            mode="markers",
            marker={**marker, "line": {"color": "white", "width": 0.7}},
            name=name,
            hovertext=view.hover(rows.loc[chosen_ids]),
            hoverinfo="text",
            showlegend=bool(chosen_ids),
            cliponaxis=False,
        )
    if view.leader in place:
        x, y = place[view.leader]
        chart.add_scatter(
            x=[x],
            y=[y],
            mode="markers",
            marker={
                "symbol": "star",
                "size": 17,
                "color": ORANGE,
                "line": {"color": "white", "width": 1},
            },
            name=f"{view.leader_is} (individual {view.leader})",
            hovertext=view.hover(rows.loc[[view.leader]]),
            hoverinfo="text",
        )
    generations = sorted({f["generation"] for f in born.values()})
    chart.update_xaxes(
        title_text="generation",
        tickformat="d",
        dtick=max(1, len(generations) // 16),
        range=[generations[0] - 0.5, generations[-1] + 0.5],
    )
    chart.update_yaxes(title_text=titled(objective), range=[low, high])
    caption = (
        f"The {view.leader_is} (individual {view.leader}) descends from {len(line) - 1} recorded "
        "individuals. Values beyond the frame and failures stand at its edge."
        if line
        else "Failures stand at the edge."
    )
    return Chart("Lineage", caption, chart)
