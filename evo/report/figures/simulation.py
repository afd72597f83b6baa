"""Figure of simulated mixtures: the first objective as simulated and as trained."""

from scipy.stats import spearmanr

from evo import history
from evo.report.figures.style import BLUE, MUTED, Chart, View, figure, mark_size, star

LEAST = 3  # fine-tunes, for a rank correlation


def simulation(view: View) -> Chart | None:
    """Each fine-tune's first objective over that of its mixture as simulated; None without any."""
    found = history.simulated(view.facts)
    if len(found) < LEAST:
        return None
    objective = next(iter(view.objectives))
    chart = figure(420, margin={"t": 60})
    rows = view.search.drop_duplicates("individual").set_index("individual")
    for name, chosen, marker in (
        ("fine-tune", ~(found["individual"] == view.leader), {"color": BLUE}),
        (view.leader_name(), found["individual"] == view.leader, star(15)),
    ):
        points = found[chosen]
        chart.add_scatter(
            x=points["simulated"],
            y=points["trained"],
            mode="markers",
            marker={"size": mark_size(len(found)), **marker},
            name=name,
            hovertext=view.hover(rows.loc[points["individual"]].reset_index()),
            hoverinfo="text",
        )
    low = min(found["simulated"].min(), found["trained"].min())
    high = max(found["simulated"].max(), found["trained"].max())
    chart.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": MUTED, "width": 1, "dash": "dot"},
        name="equal",
        hoverinfo="skip",
    )
    chart.update_xaxes(title_text=f"{view.titled(objective)}, simulated")
    chart.update_yaxes(title_text=f"{view.titled(objective)}, trained")
    correlation = float(spearmanr(found["simulated"], found["trained"]).statistic)
    caption = (
        f"{len(found)} fine-tunes beside the sum of experts for their mixture, which was scored "
        f"without training; rank correlation {correlation:.2f}. Experts are trained by the default "
        "recipe on one source each, so that other hyperparameters move a point off the line. The "
        "surrogate estimates from the fine-tunes how far to follow the simulation."
    )
    return Chart("Simulated mixtures", caption, chart)
