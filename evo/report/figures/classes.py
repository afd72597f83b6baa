"""Figures of a classifier: the confusion of its classes, and a table of their scores."""

import numpy as np
import plotly.graph_objects as go

from evo import history
from evo.record.facts import details
from evo.report.figures.style import BLUE, Chart, View, figure

ROW = 28  # pixels


def confusion(view: View) -> Chart | None:
    """Predicted classes by class, of the winner; None for other models."""
    found = _counts(view)
    if found is None:
        return None
    domain, split, counts = found
    names = _names(view, len(counts))
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    chart = figure(180 + ROW * len(counts))
    chart.add_heatmap(
        x=names,
        y=names,
        z=shares,
        text=counts,
        texttemplate="%{text}",
        colorscale=[[0, "white"], [1, BLUE]],
        zmin=0,
        zmax=100,
        colorbar={"title": {"text": "% of class"}},
    )
    chart.update_xaxes(title_text="predicted", type="category")
    chart.update_yaxes(title_text="class", type="category", autorange="reversed")
    caption = f"Texts of {domain}, {split} split, by their class and the one that is predicted."
    return Chart("Confusion of classes", caption, chart)


def classes(view: View) -> Chart | None:
    """Precision, recall and F1 of each class, of the winner; None for other models."""
    found = _counts(view)
    if found is None:
        return None
    domain, split, counts = found
    right, given, there = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    columns = [
        ["-" if not whole else f"{part / whole:.2f}" for part, whole in zip(*pair, strict=True)]
        for pair in ((right, given), (right, there), (2 * right, given + there))
    ]
    chart = figure(120 + ROW * len(counts))
    chart.add_trace(
        go.Table(
            header={"values": ["class", "texts", "precision", "recall", "F1"], "align": "left"},
            cells={
                "values": [_names(view, len(counts)), there.tolist(), *columns],
                "align": "left",
                "height": ROW,
            },
        )
    )
    caption = f"{domain}, {split} split, all seeds together; - where nothing is predicted as it."
    return Chart("Classes", caption, chart)


def _counts(view: View) -> tuple[str, str, np.ndarray] | None:
    """First domain with classes, the split, and the winner's counts over all seeds."""
    for split in ("test", "selection"):
        own = [
            details(fact)["confusion"]
            for fact in view.facts
            if fact["fact"] == "evaluation"
            and fact["individual"] == view.leader
            and fact["split"] == split
            and fact["fidelity"] == 1
            and details(fact).get("confusion")
        ]
        if own:
            domain = next(iter(own[0]))
            return domain, split, np.sum([one[domain] for one in own], axis=0)
    return None


def _names(view: View, count: int) -> list[str]:
    """Names of the classes; their numbers where the spec leaves them to the base."""
    labels = list(map(str, history.spec(view.facts).model.labels))
    return labels if len(labels) == count else [str(number) for number in range(count)]
