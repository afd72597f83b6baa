"""Figure of rewards beside the length of answers, in training by reinforcement."""

from evo.record.facts import details
from evo.report.figures.style import BLUE, ORANGE, Chart, View, figure

HACKED = 0.5  # a correlation above which longer answers may be rewarded for their length


def rewards(view: View) -> Chart | None:
    """Mean reward and length of the winner's answers in training; None if it had no rewards."""
    own = [
        details(fact)["rewarded"]
        for fact in view.facts
        if fact["fact"] == "evaluation"
        and fact["individual"] == view.leader
        and fact["split"] == "selection"
        and details(fact).get("rewarded")
    ]
    if not own:
        return None
    curve = own[0]
    share = [100 * (place + 0.5) / len(curve) for place in range(len(curve))]
    chart = figure(340)
    for column, name, colour, axis in (
        (0, "mean reward", ORANGE, "y"),
        (1, "mean length", BLUE, "y2"),
    ):
        chart.add_scatter(
            x=share,
            y=[point[column] for point in curve],
            mode="lines+markers",
            name=name,
            marker={"color": colour},
            yaxis=axis,
        )
    chart.update_layout(
        yaxis={"title": {"text": "reward"}},
        yaxis2={"title": {"text": "length (tokens)"}, "overlaying": "y", "side": "right"},
    )
    chart.update_xaxes(title_text="share of the training (%)", range=[0, 100])
    late = curve[-1][2]
    caption = (
        "Rewards of the answers that the winner gave in training, and their lengths. Among the "
        f"last answers to one prompt, reward and length have a correlation of {late:+.2f}"
    )
    longer = curve[-1][1] > curve[0][1]
    if late > HACKED and longer:
        caption += (
            ": longer ones are rewarded, and answers grew. If that is not wanted, set "
            "reinforce_length to guarded, or reward shortness"
        )
    return Chart("Rewards and lengths", f"{caption}.", chart)
