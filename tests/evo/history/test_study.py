"""A run as an Optuna study: Optuna's own answers beside ours, and how a run ended."""

import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from evo import history
from evo.history.study import write_study
from fitness.errors import InputError
from tests.evo.browsing import needs_chromium
from tests.evo.history.test_tables import failed
from tests.evo.synthetic_ledger import ledger


def study_of(facts: Any, folder: Path, *, alive: bool = False) -> optuna.Study:
    file = folder / "new" / "journal.log"
    count = write_study(facts, "a run", file, alive=alive)
    assert [one.name for one in file.parent.iterdir()] == ["journal.log"]
    study = optuna.load_study(
        study_name="a run", storage=JournalStorage(JournalFileBackend(str(file)))
    )
    assert len(study.trials) == count
    return study


def test_optuna_finds_the_same_front_in_it(tmp_path: Path) -> None:
    facts = [
        one for one in ledger() if one.get("individual", one.get("id")) != 6
    ]  # a repeat's slot
    study = study_of(facts, tmp_path)
    assert study.metric_names == ["target/loss", "general/loss"]
    front = {one.user_attrs["individual"] for one in study.best_trials}
    assert front == set(history.front(facts)["individual"])
    scored = history.scores(facts).set_index("individual")
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        number = trial.user_attrs["individual"]
        assert trial.values == list(scored.loc[number, ["target/loss", "general/loss"]])
        assert trial.user_attrs["jargon/chrf"] == scored["jargon/chrf"][number]
        broken = any(value > 0 for value in trial.constraints.values())
        assert broken == (scored["violation"][number] > 0)
        shares = [v for name, v in trial.params.items() if name.startswith("mixture.")]
        assert sum(shares) == pytest.approx(1)
        assert trial.duration is not None


def test_a_single_objective_to_maximise_has_the_same_best(tmp_path: Path) -> None:
    facts = ledger(objectives=("jargon/chrf",), constraints=())
    study = study_of(facts, tmp_path)
    assert study.direction.name == "MAXIMIZE"
    assert study.best_trial.number == history.front(facts)["individual"][0]
    assert optuna.importance.get_param_importances(study)


def test_a_baseline_outside_of_a_range_keeps_its_gene_in_all_trials(tmp_path: Path) -> None:
    facts = ledger()
    gene = facts[0]["config"]["genome"]["learning_rate"]
    first = next(one for one in facts if one.get("id") == 0)
    first["genome"]["learning_rate"] = 10 * gene["high"]
    space = optuna.search_space.intersection_search_space(study_of(facts, tmp_path).trials)
    widened = optuna.distributions.FloatDistribution(gene["low"], 10 * gene["high"], log=True)
    assert space["learning_rate"] == widened
    assert {"mixture.jargon", "adapter", "decay"} <= space.keys()


def test_each_constraint_is_one_of_its_own_and_an_unknown_limit_is_not_met(tmp_path: Path) -> None:
    both = ("general/loss <= 3.28", "general/loss <= 1.05 * base")
    facts = ledger(constraints=both)
    trials = study_of(facts, tmp_path / "both").get_trials(states=[TrialState.COMPLETE])
    assert {len(trial.constraints) for trial in trials} == {2}
    unmeasured = [one for one in facts if one.get("fidelity") != 0]
    trials = study_of(unmeasured, tmp_path / "none").get_trials(states=[TrialState.COMPLETE])
    assert all(max(trial.constraints.values()) > 0 for trial in trials)


def test_states_are_those_of_the_individuals(tmp_path: Path) -> None:
    facts = ledger(evaluations=12)
    facts = failed(facts, lambda one: one["individual"] == 4, "out_of_memory")
    rung = [
        {**one, "fidelity": 0.25} if one.get("individual") == 5 and "split" in one else one
        for one in facts
    ]
    cut = next(n for n, one in enumerate(rung) if one.get("individual") == 9)
    for alive, state in ((True, TrialState.RUNNING), (False, TrialState.WAITING)):
        trials = study_of(rung[:cut], tmp_path / state.name, alive=alive).trials
        assert trials[4].state == TrialState.FAIL
        assert trials[4].user_attrs["status"] == "out_of_memory"
        assert trials[5].state == TrialState.PRUNED
        assert len(trials[5].intermediate_values) == 1
        assert trials[9].state == state


@pytest.mark.slow
@needs_chromium
def test_the_dashboard_shows_it(tmp_path: Path, browser: Any) -> None:
    from playwright.sync_api import Error as PlaywrightError

    file = tmp_path / "journal.log"
    write_study(ledger(), "a run", file)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import sys; from optuna_dashboard._cli import main; main()"]
    server = subprocess.Popen([*command, str(file), "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        page = browser.new_page()
        for _ in range(100):
            with suppress(PlaywrightError):  # it does not listen yet
                page.goto(f"http://127.0.0.1:{port}/dashboard/studies/0")
                break
            time.sleep(0.2)
        for text in ("a run", "Pareto Front", "general/loss", "mixture.jargon"):
            page.get_by_text(text).first.wait_for(timeout=60_000)
        page.close()
    finally:
        server.terminate()
        server.wait()


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_text("mine")
    with pytest.raises(InputError, match=r"journal.log exists; name a new file"):
        write_study(ledger(), "a run", tmp_path / "journal.log")


def test_a_run_without_individuals_is_an_empty_study(tmp_path: Path) -> None:
    assert study_of(ledger()[:1], tmp_path).trials == []
