"""Rungs in a search: what they cost, who goes on, and that nothing depends on the run of things."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo import history
from evo.planning.spending import continued_from
from evo.record.ledger import Fact
from evo.search.jobs import Job
from evo.search.rungs import share
from fitness.evaluation import Task
from population.individual import Individual
from tests.evo.facts import read
from tests.evo.search.test_loop import InProcess, outcome, search
from tests.evo.toy import score, write_spec

EVALUATOR = "tests.evo.search.test_rungs:rising"


def rising(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    """A learning curve: the further, the better, in the same order."""
    values = score(recipe, seed=0, fidelity=fidelity, split=split)
    return {**values, "target": values["target"] + 1 - fidelity}


def spec_of(folder: Path, *, schedule: str = "clock", promotion: str = "halving") -> Path:
    folder.mkdir(exist_ok=True)
    spec = write_spec(folder, evaluations=20, schedule=schedule)
    rungs = f"population: 6, rungs: [0.125, 0.5], promotion: {promotion}"
    text = spec.read_text().replace("population: 6", rungs)
    spec.write_text(text.replace("tests.evo.toy:score", EVALUATOR).replace(", broken]", "]"))
    return spec


def jobs(facts: list[Fact]) -> list[Fact]:
    evaluations = [f for f in facts if f["fact"] == "evaluation" and f["split"] == "selection"]
    return [f for f in evaluations if f["fidelity"] > 0]


@pytest.mark.parametrize("promotion", ["halving", "stopping"])
def test_the_budget_counts_shares_of_a_full_evaluation(tmp_path: Path, promotion: str) -> None:
    spec = spec_of(tmp_path, promotion=promotion)
    winner = search(tmp_path / "run", spec, InProcess(Task(EVALUATOR)))
    facts = read(tmp_path / "run")
    spent = sum(fact["fidelity"] for fact in jobs(facts))  # a function begins anew every time
    assert 20 <= spent < 21
    assert history.status(facts)["done"] == spent
    assert winner.fidelity == 1
    assert winner.seeds == 3
    assert history.best(facts) == winner.id


def test_of_a_rung_the_best_quarter_goes_on(tmp_path: Path) -> None:
    search(tmp_path / "run", spec_of(tmp_path), InProcess(Task(EVALUATOR)))
    facts = jobs(read(tmp_path / "run"))
    by_rung = Counter(fact["fidelity"] for fact in facts if fact["seed"] == 0)
    assert by_rung[0.125] >= 2 * by_rung[0.5] >= 2 * by_rung[1.0] > 0
    known = {(f["individual"], f["fidelity"]) for f in facts}
    assert all((id, 0.125) in known for id, _ in known)


@pytest.mark.parametrize("schedule", ["clock", "generational"])
def test_the_same_search_on_any_workers_with_rungs(tmp_path: Path, schedule: str) -> None:
    spec = spec_of(tmp_path, schedule=schedule)
    for size in (1, 2, 8):
        cluster = InProcess(Task(EVALUATOR), random.Random(size), size=size)
        search(tmp_path / str(size), spec, cluster)
        assert outcome(tmp_path / str(size)) == outcome(tmp_path / "1")


@pytest.mark.filterwarnings("ignore:.*torn last line")
@pytest.mark.parametrize("schedule", ["clock", "asynchronous"])
def test_a_search_with_rungs_resumes_exactly(tmp_path: Path, schedule: str) -> None:
    spec = spec_of(tmp_path, schedule=schedule)
    search(tmp_path / "whole", spec, InProcess(Task(EVALUATOR), random.Random(0)))
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines), 5):
        run = tmp_path / f"cut-{number}"
        run.mkdir()
        (run / "ledger.jsonl").write_bytes(b"".join(lines[:number]) + lines[number][:9])
        before = read(run)
        search(run, spec, InProcess(Task(EVALUATOR), random.Random(number)))
        assert read(run)[:number] == before
        assert schedule == "asynchronous" or outcome(run) == outcome(tmp_path / "whole")


def test_only_the_builtin_evaluator_goes_on_from_where_it_paused(tmp_path: Path) -> None:
    function = configuration.load(spec_of(tmp_path))
    builtin = configuration.load("quickstart", ["search.rungs=[0.125, 0.5]"])
    one = Individual(3, {})
    for config, expected in ((function, (0.125, 0.5, 1.0)), (builtin, (0.125, 0.375, 0.5))):
        rungs = [Job(one, config.seed, fidelity) for fidelity in (0.125, 0.5, 1.0)]
        assert tuple(share(config, job) for job in rungs) == expected
    assert continued_from(builtin, builtin.seed + 1000, 1.0, "selection") == 0
    assert continued_from(builtin, builtin.seed, 1.0, "test") == 0


def test_rungs_that_do_not_rise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(configuration.ConfigError, match=r"rungs must rise, got 0\.5, 0\.1"):
        configuration.load(write_spec(tmp_path), ["search.rungs=[0.5, 0.1]"])
