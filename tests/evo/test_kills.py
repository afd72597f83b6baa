"""Drivers killed at random moments: the run ends as if nothing had happened.

4 times, or half as often as EVOMIX_KILLS says, then in buckets, in rounds and with a proxy as well.
"""

import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import pytest

import tests.evo.rounds.scenario as small
from fitness.evaluation import Task
from tests.evo.driving import LEDGER, evo, facts_written, start
from tests.evo.facts import read
from tests.evo.proxies import scenario as proxied
from tests.evo.rounds.test_loop import plain
from tests.evo.search.test_loop import InProcess, outcome, search
from tests.evo.toy import write_spec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*torn last line")]
EVALUATIONS = 120
KILLS = int(os.environ.get("EVOMIX_KILLS", "8"))
MANY = pytest.mark.skipif(KILLS < 12, reason="stand-ins are killed everywhere; EVOMIX_KILLS=60")
SLOW: dict[str, Any] = {"TOY_SECONDS": 0.1}


def killed(
    spec: Path,
    run: Path,
    *watched: Path,
    kills: int,
    seed: int,
    more: Sequence[object] = (),
    **harm: Any,
) -> None:
    """Launch, and kill and resume so many times; then let it end.

    Half of the kills come at any moment from the start on, half soon after something was written
    to a ledger of `watched`, when evaluations run. Every third leaves a torn line. What was
    written stays as it is.
    """
    rng, kept = random.Random(seed), b""
    line: tuple[object, ...] = ("launch", spec, *more, "--run", run)
    for kill in range(kills):
        driver = start(*line, **harm)
        if kill % 2:
            written = [facts_written(one) for one in watched]
            while [facts_written(one) for one in watched] == written and driver.poll() is None:
                _wait(driver, 0.02)
        _wait(driver, rng.uniform(0, 0.3 if kill % 2 else 8))
        assert driver.poll() is None, f"ended before kill {kill}: {driver.communicate()[0]}"
        driver.kill()
        driver.communicate()
        ledger = run / LEDGER
        if ledger.exists():
            line = ("resume", run)
            assert ledger.read_bytes().startswith(kept)
            kept = b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1])
            if kill % 3 == 0:
                with ledger.open("ab") as file:
                    file.write(b'{"fact":"evalu')
    done = evo(*line)
    assert done.returncode == 0, done.stderr
    assert (run / LEDGER).read_bytes().startswith(kept)


def _wait(driver: Any, seconds: float) -> None:
    """For so long, or until it ends."""
    try:
        driver.wait(seconds)
    except TimeoutExpired:
        return
    assert driver.returncode != -signal.SIGKILL


def once_each(run: Path) -> None:
    """Nothing was evaluated twice."""
    done = [fact for fact in read(run) if fact["fact"] == "evaluation"]
    keys = {(fact["individual"], fact["seed"], fact["fidelity"], fact["split"]) for fact in done}
    assert len(keys) == len(done)


def test_an_asynchronous_search_killed_at_any_moments_goes_on(tmp_path: Path) -> None:
    run, calls = tmp_path / "run", tmp_path / "calls"
    calls.mkdir()
    spec = write_spec(tmp_path, evaluations=EVALUATIONS, schedule="asynchronous")
    killed(spec, run, run, kills=KILLS // 2, seed=1, TOY_CALLS=calls, **SLOW)
    once_each(run)
    facts = read(run)
    recorded = [fact for fact in facts if fact["fact"] == "evaluation"]
    running = 2  # evaluations, one a worker, that a kill may lose
    assert len(list(calls.iterdir())) <= len(recorded) + running * (KILLS // 2)
    assert len([one for one in facts if one["fact"] in ("individual", "repeat")]) == EVALUATIONS
    assert facts[-1]["fact"] == "finished"


@MANY
def test_a_search_in_buckets_killed_at_any_moments_ends_the_same(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, evaluations=EVALUATIONS)
    spec.write_text(spec.read_text().replace("search: {", "search: {bucket: 3, "))
    whole, run = tmp_path / "whole", tmp_path / "run"
    search(whole, spec, InProcess(Task("tests.evo.toy:score")))
    killed(spec, run, run, kills=KILLS // 2, seed=2, **SLOW)
    once_each(run)
    assert outcome(run) == outcome(whole)


@MANY
@pytest.mark.parametrize("text", [small.SPEC, small.CHECKED], ids=["filters", "checker"])
def test_rounds_killed_at_any_moments_end_the_same(text: str, tmp_path: Path) -> None:
    """Real fine-tunes, samples, and filters or a checker."""
    spec, whole, run = (tmp_path / name for name in ("search.yaml", "whole", "run"))
    spec.write_text(text)
    done = evo("launch", spec, "--run", whole)
    assert done.returncode == 0, done.stderr
    rounds = [folder.name for folder in sorted(whole.glob("round-*"))]
    assert len(rounds) >= 2
    killed(spec, run, *(run / name for name in rounds), kills=KILLS // 6, seed=3)
    assert plain(run) == plain(whole)
    for name in rounds:
        once_each(run / name)


@MANY
def test_a_search_that_learns_from_all_there_is_killed_at_any_moments_ends_the_same(
    tmp_path: Path,
) -> None:
    """Real fine-tunes: an aggregate, a prior, a proxy, experts, simulations, an earlier search."""
    changes = (
        ("simulate: off", "simulate: 8"),
        ("high: 6e-3, log: true", "high: 6e-3, log: true, prior: {at: 1e-3, strength: weak}"),
        ("{target/loss: minimize}", "{quality: minimize}"),
        ("baselines", "aggregates: {quality: {mean: ['*/loss']}}\nbaselines"),
        ("evaluations: 6", "evaluations: 12"),
    )
    base = proxied.grown(tmp_path / "larger")
    spec = proxied.spec(tmp_path, base, *changes)
    earlier, whole, run = (tmp_path / name for name in ("earlier", "whole", "run"))
    for to, seed in ((earlier, ["--set", "seed=9"]), (whole, ["--from", earlier])):
        done = evo("launch", spec, *seed, "--run", to)
        assert done.returncode == 0, done.stderr
    assert {"simulation", "imported"} <= {fact["fact"] for fact in read(whole)}
    ledgers = (run, run / "proxy-1")
    killed(spec, run, *ledgers, kills=KILLS // 3, seed=4, more=("--from", earlier))
    for part in (".", "proxy-1"):
        once_each(run / part)
        assert outcome(run / part) == outcome(whole / part)
