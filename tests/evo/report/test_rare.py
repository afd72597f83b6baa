"""Figures that only some runs have: classes of a classifier, and rewards of reinforcement."""

from typing import Any

import pytest

from evo.report.figures import View, charts
from tests.evo.synthetic_ledger import ledger


def told(**details: Any) -> View:
    """A finished search whose evaluations have these details."""
    facts = ledger()
    for fact in facts:
        if fact["fact"] == "evaluation":
            fact["details"] = {**fact["details"], **details}
    facts[0]["config"]["model"] = {"task": "classification", "labels": ["bug", "praise"]}
    return View.of(facts)


def test_classes_are_shown_over_the_test_seeds_of_the_winner() -> None:
    found = charts(told(confusion={"held": [[8, 2], [1, 0]]}))
    (table,) = found["classes"].figure.data
    assert [list(map(str, column)) for column in table.cells.values] == [
        ["bug", "praise"],
        ["50", "5"],
        ["0.89", "0.00"],
        ["0.80", "0.00"],
        ["0.84", "0.00"],
    ]
    (heat,) = found["confusion"].figure.data
    assert heat.text.tolist() == [[40, 10], [5, 0]]
    assert heat.z[0].tolist() == pytest.approx([80, 20])
    assert "test split" in found["confusion"].caption


@pytest.mark.parametrize(("correlation", "hacked"), [(0.8, True), (0.2, False)])
def test_rewards_are_drawn_beside_lengths(correlation: float, hacked: bool) -> None:
    curve = [[0.1, 10.0, 0.0], [0.5, 30.0, correlation]]
    chart = charts(told(rewarded=curve))["rewards"]
    assert [list(line.y) for line in chart.figure.data] == [[0.1, 0.5], [10.0, 30.0]]
    assert f"correlation of {correlation:+.2f}" in chart.caption
    assert ("set reinforce_length to guarded" in chart.caption) == hacked


def test_other_runs_have_neither() -> None:
    assert not {"classes", "confusion", "rewards"} & charts(View.of(ledger())).keys()
