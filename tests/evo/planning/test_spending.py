"""Cost of evaluations to the budget: the same in the search, its live screen and its history."""

from typing import Any

import pytest

from evo import history
from evo.planning.lineages import from_fact, portion
from evo.planning.spending import continued_from, share
from evo.progress.tally import Tally
from evo.search.jobs import Job
from evo.search.rungs import share as share_of_job
from tests.evo.synthetic_ledger import ledger

RUNGS = (0.25, 0.5)


@pytest.fixture
def facts() -> list[Any]:
    """A search with rungs whose children start from their parents' weights, at a quarter."""
    made = ledger(evaluations=12, population=4)
    made[0]["config"]["search"]["rungs"] = list(RUNGS)
    made[0]["config"]["recipe"]["start"] = "parent"
    made[0]["config"]["budget"]["inherit_share"] = 0.25
    found = []
    for fact in made:
        if fact["fact"] == "evaluation" and fact["split"] == "selection" and fact["fidelity"]:
            found += [{**fact, "fidelity": rung} for rung in RUNGS]
        found.append(fact)
    return found


def test_the_parts_of_a_fine_tune_that_pauses_at_rungs_add_up_to_the_whole(
    facts: list[Any],
) -> None:
    config = history.spec(facts)
    parts = [share(config, 0.25, config.seed, fidelity, "selection") for fidelity in (*RUNGS, 1.0)]
    assert sum(parts) == 0.25
    assert share(config, 1.0, config.seed + 1, 1.0, "selection") == 1.0
    assert continued_from(config, config.seed, 1.0, "test") == 0.0


def test_search_live_screen_and_history_count_the_same_budget(facts: list[Any]) -> None:
    config, tally = history.spec(facts), Tally(history.spec(facts))
    bred = {fact["id"]: from_fact(fact) for fact in facts if fact["fact"] == "individual"}
    assert {portion(config, one) for one in bred.values()} == {0.25, 1.0}
    spent = 0.0
    for fact in facts:
        tally.take(fact)
        if fact["fact"] == "evaluation" and fact["split"] == "selection" and fact["fidelity"]:
            job = Job(bred[fact["individual"]], fact["seed"], fact["fidelity"])
            spent += share_of_job(config, job)
    assert tally.spent == pytest.approx(spent)
    assert history.status(facts)["done"] == pytest.approx(spent, abs=1e-3)
