"""The figures of the report, in their order on the page."""

from evo.report.figures import (
    classes,
    closing,
    descent,
    front,
    genes,
    inheritance,
    progress,
    rewards,
    simulation,
)
from evo.report.figures.style import Chart, View

__all__ = ["Chart", "View", "charts"]

DRAWN = (
    closing.comparison,
    progress.progress,
    inheritance.inheritance,
    simulation.simulation,
    classes.classes,
    classes.confusion,
    front.front,
    genes.mixture,
    genes.parallel,
    descent.importance,
    descent.lineage,
    closing.learning,
    rewards.rewards,
    closing.cost,
)


def charts(view: View) -> dict[str, Chart]:
    """Every chart that has something to show, by the name of its function."""
    drawn = {draw.__name__: draw(view) for draw in DRAWN}
    return {name: chart for name, chart in drawn.items() if chart is not None}
