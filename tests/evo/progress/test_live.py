"""Progress of a search while it runs: phases, the best individual, the time left, Ctrl-C."""

import io
import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo import config as configuration
from evo import history
from evo.cluster.activity import Doing, described
from evo.cluster.gauges import gauges
from evo.config import SearchConfig
from evo.progress import live, now
from evo.progress.live import Mode, Progress
from evo.progress.tally import Tally
from evo.record.elapsed import Session, running_time, sessions
from fitness.evaluation import EvaluationSpec, Task
from tests.evo.facts import Fact, read
from tests.evo.search.test_loop import InProcess, search
from tests.evo.toy import write_spec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished toy search."""
    folder = tmp_path_factory.mktemp("toy")
    spec = write_spec(folder)
    spec.write_text(spec.read_text().replace("baselines: []", "baselines: [uniform]"))
    search(folder / "run", spec, InProcess(Task("tests.evo.toy:score")))
    return folder / "run"


@pytest.fixture
def facts(run: Path) -> list[Fact]:
    return read(run)


def config_of(facts: Sequence[Fact], **sections: Any) -> SearchConfig:
    config = configuration.of(facts)
    return config.model_copy(update=sections)


def tallied(config: SearchConfig, facts: Sequence[Fact]) -> Tally:
    tally = Tally(config)
    for fact in facts:
        tally.take(fact)
    return tally


def evaluation(individual: int, seconds: float, **changes: Any) -> Fact:
    return {
        "fact": "evaluation",
        "individual": individual,
        "seed": 0,
        "fidelity": 1.0,
        "split": "selection",
        "status": "ok",
        "measurements": {"target": 4.0, "general": 2.0},
        "cost": {},
        "details": {},
        "message": "",
        "worker": f"host/{individual}",
        "started": 100.0,
        "finished": 100.0 + seconds,
        **changes,
    }


def running(individual: int, since: float, **changes: Any) -> Doing:
    spec = EvaluationSpec(individual, {}, 0, **changes)
    return Doing(f"host/{individual}", "evaluating", since, (spec,))


def test_the_best_so_far_is_one_individual_and_the_one_that_status_and_report_name(
    facts: list[Fact],
) -> None:
    ahead = [place for place, fact in enumerate(facts) if fact["fact"] == "evaluation"]
    for end in (*ahead[3::4], len(facts)):
        tally, known = tallied(config_of(facts), facts[:end]), facts[:end]
        best, found = tally.best, history.status(known)["best"]
        if best is None or best.violation:
            assert set(found.values()) == {None}
            assert tally.why_none()
            continue
        assert {one["individual"] for one in found.values()} == {best.id}
        for name, one in found.items():
            assert one["value"] == pytest.approx(tally.means(best.id)[name])


def test_why_nothing_counts_as_best_is_said_with_the_nearest(facts: list[Fact]) -> None:
    config = config_of(facts, constraints=("general <= 1.5", "target <= 100"))
    before = tallied(config, facts[:1])
    assert before.why_none().endswith("no individual has had its full budget")
    tally = tallied(config, facts)
    assert tally.best is not None
    nearest = min(
        (tally.means(id)["general"], id)
        for id in history.scores(facts).query("seeds == 3")["individual"]
    )
    assert tally.why_none() == (
        "nothing counts as best yet: no individual meets general <= 1.5; the nearest, individual "
        f"{nearest[1]}, has {nearest[0]:.4g}"
    )
    assert tallied(config_of(facts), facts).why_none() == ""
    failed = evaluation(0, 1.0, status="error", measurements={})
    assert "all 1 evaluations so far have failed" in tallied(config, [failed]).why_none()


def test_the_time_left_counts_what_runs_and_the_comparison_and_falls_as_time_passes(
    facts: list[Fact],
) -> None:
    """24 evaluations of 10 s on 2 workers, 2 seeds of base, winner: the base takes 4 s."""
    config = config_of(facts, baselines=())
    untouched = evaluation(0, 4.0, fidelity=0.0)
    first = [untouched, *(evaluation(one, 10.0, worker=f"other/{one}") for one in range(4))]
    tally = tallied(config, first)
    assert tallied(config, [untouched]).seconds_left(0.0, [], 2, 2.0) is None
    idle = tally.seconds_left(200.0, [], 2, 2.0)
    assert idle == pytest.approx(20 * 10 / 2 + (2 * 10 + 2 * 4) / 2)
    two = [running(4, 200.0), running(5, 200.0)]
    left: list[float] = []
    for gone in range(0, 600, 2):
        seconds = tally.seconds_left(200.0 + gone, two, 2, 2.0)
        assert seconds is not None
        left.append(seconds)
    assert left[0] == idle
    assert left[3] == pytest.approx(left[0] - 6)
    assert all(later <= earlier for earlier, later in pairwise(left))
    assert left[-1] > 100  # however long they run on, the others are still to come
    lost = tallied(config, [*first, {"fact": "lost"}])
    assert lost.seconds_left(300.0, [running(4, 300.0)], 2, 2.0) == pytest.approx(idle)


def test_the_closing_fine_tunes_are_still_to_come_when_the_budget_is_spent(
    facts: list[Fact],
) -> None:
    config = config_of(facts)
    done = [fact for fact in facts if fact.get("split") != "test" and fact.get("fidelity") != 0]
    tally = tallied(config, [*done, evaluation(0, 4.0, fidelity=0.0)])
    assert tally.spent == config.budget.evaluations
    contenders = 1 if tally.winner in tally.names else 2
    assert tally._comparisons() == (2 * contenders, 2)
    left = tally.seconds_left(0.0, [], 1, 1.0)
    unit = tally._search.per_unit(0.0)
    assert left == pytest.approx(2 * contenders * unit + 2 * 4.0)
    whole = tallied(config, facts)
    assert whole.seconds_left(0.0, [], 2, 2.0) == 0


def test_a_buckets_time_counts_once(facts: list[Fact]) -> None:
    same = {"worker": "host/1", "started": 100.0, "finished": 130.0}
    tally = tallied(config_of(facts), [evaluation(one, 30.0, **same) for one in range(3)])
    assert tally.worked == 30
    assert tally.seconds_left(0.0, [], 1, 1.0) == pytest.approx(21 * 10 + 2 * 10 + 2 * 10)


def shown(config: SearchConfig, folder: Path, mode: Mode) -> Progress:
    return Progress(config, folder, mode)


def always(workers: list[Doing]) -> Callable[[], list[Doing]]:
    return lambda: workers


STARTING = [
    ([Doing("", "starting", 0.0)] * 2, "starting 2 workers"),
    (
        [Doing("", "starting", 0.0), Doing("a/1", "loading", 0.0)],
        "loading the model and the data on 2 workers",
    ),
    (
        [Doing("a/2", "loading", 0.0), running(0, 0.0)],
        "evaluating the untouched base and the first individuals",
    ),
]


def test_every_phase_of_a_start_is_said_once_in_a_pipe(
    facts: list[Fact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = shown(config_of(facts), tmp_path, "plain")
    with told:
        told.enter("starting Ray")
        for workers, _ in STARTING:
            told.follow(always(workers))
            told.look()
            told.look()
        told(evaluation(0, 1.0, fidelity=0.0))
        told.look()
    lines = capsys.readouterr().err.splitlines()
    phases = [re.sub(r" \(running time .*\)$", "", line) for line in lines]
    assert phases == [
        "starting Ray",
        *(phase for _, phase in STARTING),
        "[0/24] untouched base: target 4.0000  general 2.0000  1.0 s",
        "searching",
    ]


def test_a_pipe_gets_no_control_sequence_and_no_line_twice(
    facts: list[Fact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with shown(config_of(facts), tmp_path, "plain") as told:
        for place, fact in enumerate(facts):
            workers = [running(place, told.begun), Doing("a/2", "idle", told.begun)]
            told.follow(always(workers))
            told(fact)
            told.look()
    out, err = capsys.readouterr()
    said = err.splitlines()
    assert out == ""
    assert len(said) > 30
    assert len(set(said)) == len(said)
    best = history.winner(facts)
    *_, last = (line for line in said if "best so far" in line)
    assert re.search(
        rf"; best so far: individual {best}, target \d\.\d{{4}}; about \d+:\d\d left$", last
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", err)


def test_json_lines_hold_facts_alone(
    facts: list[Fact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = shown(config_of(facts), tmp_path, "json")
    told.enter("starting Ray")
    told.follow(lambda: STARTING[2][0])
    told(evaluation(0, 1.0))
    out, err = capsys.readouterr()
    assert err == ""
    assert [json.loads(line)["individual"] for line in out.splitlines()] == [0]


def test_a_long_silence_in_a_pipe_says_what_runs(
    facts: list[Fact], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    told = shown(config_of(facts), tmp_path, "plain")
    told.follow(lambda: [running(3, told.begun), Doing("a/2", "idle", told.begun)])
    capsys.readouterr()
    told.look()
    assert capsys.readouterr().err == ""
    later = told.begun + live.QUIET_SECONDS + 5
    monkeypatch.setattr(live.time, "time", lambda: later)
    told.look()
    assert "running time 1:05; individual 3, 1:05" in capsys.readouterr().err


def test_workers_that_wait_for_a_cluster_to_grow_do_not_count_as_idle(
    facts: list[Fact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = shown(config_of(facts), tmp_path, "plain")
    begun = told.begun
    busy = running(3, begun)
    told.follow(lambda: [busy])
    monkeypatch.setattr(live.time, "time", lambda: begun + 60)
    alone = told.busy_share()
    assert alone is not None
    told.follow(lambda: [busy, *[Doing("", "starting", begun)] * 3])
    assert told.busy_share() == alone


def test_a_search_on_this_machine_or_through_a_client_sets_no_gauges() -> None:
    assert gauges("local", "run") is None
    assert gauges("ray://host:10001", "run") is None


def test_ctrl_c_is_acknowledged_at_once(
    facts: list[Fact], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = shown(config_of(facts), tmp_path, "plain")
    told.interrupted(1, 2)
    assert capfd.readouterr().err == "evo: finishing 2 evaluations; Ctrl-C again to stop now\n"
    told.interrupted(2, 2)
    assert capfd.readouterr().err == "evo: stopping now\n"
    told.interrupted(1, 0)
    assert capfd.readouterr().err == "evo: stopping now\n"


def test_a_stop_tells_how_many_evaluations_are_still_waited_for(
    facts: list[Fact], run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ledger.jsonl").write_bytes((run / "ledger.jsonl").read_bytes())
    told = shown(config_of(facts), folder, "json")
    workers = [running(3, told.begun), running(4, told.begun)]
    told.follow(lambda: list(workers))
    told.interrupted(1, 2)
    for left in (2, 1, 0):
        del workers[left:]
        told._written = 0.0
        told.look()
        said = now.read(folder)
        assert said is not None
        assert (said.stopping, said.finishing) == (True, left)
        assert told.stopping.startswith(f"finishing {left} " if left else "stopping now")
    workers = [running(5, told.begun)]
    told.interrupted(2, 1)
    told.look()
    assert (told.stopping, told.finishing()) == ("stopping now", 0)


def test_the_running_time_is_the_same_wherever_it_is_shown(
    facts: list[Fact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launched for 100 s, of which Ray took 30 to start, a pause of a day, resumed for 50 s."""
    day = 86_400.0
    first: list[Any] = [{**facts[0], "begun": 1000.0, "time": 1030.0}]
    first += [fact for fact in facts if fact["fact"] == "individual"][:1]
    first += [evaluation(0, 20.0, started=1040.0, finished=1060.0, fidelity=0.0)]
    first += [{"fact": "stopped", "time": 1100.0}]
    resumed = {"fact": "resumed", "begun": 1000.0 + day, "time": 1040.0 + day}
    whole: list[Any] = [*first, resumed, {"fact": "finished", "time": 1050.0 + day}]
    assert history.usage(whole)["elapsed"] == 150
    assert history.hours(whole, np.array([1100.0, 1020.0 + day])) * 3600 == pytest.approx(
        [100, 120]
    )
    monkeypatch.setattr(live.time, "time", lambda: 1000.0 + day)
    told = shown(config_of(facts), tmp_path, "plain")
    told.earlier = running_time(sessions(first))
    monkeypatch.setattr(live.time, "time", lambda: 1045.0 + day)
    assert told.running_time() == 145
    for known in (first, [*first, resumed]):  # before and after the resume is written down
        found = history.status(known, now=1045.0 + day, begun=told.begun)
        assert found["elapsed_seconds"] == 145


def test_rounds_within_a_run_count_once() -> None:
    """A run of 100 s, killed while its second round went on for 20 s after its last fact."""
    of = (Session(0, 0, 100), Session(10, 20, 60), Session(70, 80, 120))
    assert running_time(of) == 120


def test_a_search_goes_on_where_nobody_reads_any_more(
    facts: list[Fact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    told = shown(config_of(facts), tmp_path, "plain")
    monkeypatch.setattr("sys.stderr", Broken())
    monkeypatch.setattr(live.os, "write", lambda *_: Broken().write(""))
    with told:
        told.enter("starting Ray")
        told(evaluation(0, 1.0))
        told.interrupted(1, 2)
    assert told.tally.spent == 1


def test_the_live_table_shows_one_individual_constraints_workers_and_ctrl_c(
    facts: list[Fact], tmp_path: Path
) -> None:
    from rich.console import Console

    from evo.progress.table import live_table

    told = shown(config_of(facts), tmp_path, "live")
    told.recall([fact for fact in facts if fact.get("split") != "test"])
    told.follow(lambda: [running(3, told.begun), Doing("a/2", "idle", told.begun)])
    told.interrupted(1, 1)
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(live_table(told))
    text = console.export_text()
    best = told.tally.best
    assert best is not None
    assert f"best so far: {best.id}" in text
    assert re.search(rf"target +{told.tally.means(best.id)['target']:.4f}", text)
    assert re.search(r"general <= 2.9 +\d\.\d{4} met +2\.0000 met", text)
    assert "worker 1: individual 3, 0:0" in text
    assert "worker 2: idle" in text
    assert "finishing 1 evaluation; Ctrl-C again to stop now" in text
    broken = shown(config_of(facts, constraints=("general <= 1",)), tmp_path, "live")
    broken.recall(facts)
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(live_table(broken))
    text = console.export_text()
    assert "nearest so far" in text
    assert "violated" in text
    assert "no individual meets general <= 1; the nearest" in " ".join(text.split())


def test_what_a_driver_does_can_be_read_from_outside_until_it_ends(
    facts: list[Fact], run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ledger.jsonl").write_bytes((run / "ledger.jsonl").read_bytes())
    with shown(config_of(facts), folder, "json") as told:
        told.follow(lambda: [running(3, told.begun)])
        said = now.read(folder)
        assert said is not None
        assert [worker.does for worker in said.workers] == ["individual 3"]
        assert said.phase == "evaluating the untouched base and the first individuals"
    assert now.read(folder) is None
    for damaged in (b"{", b"[]", b'{"time": "x"}', b"\xff"):
        (folder / "now.json").write_bytes(damaged)
        assert now.read(folder) is None


def test_workers_are_described_in_words() -> None:
    assert described(running(0, 0.0, fidelity=0.0)) == "untouched base"
    assert described(running(4, 0.0, split="test")) == "individual 4 on the test split, seed 0"
    assert described(running(4, 0.0, fidelity=0.25)) == "individual 4 up to 0.25 of the tokens"
    assert described(Doing("a/1", "loading", 0.0)) == "loading the model and the data"
    pair = Doing("a/1", "evaluating", 0.0, (running(1, 0.0).specs[0], running(2, 0.0).specs[0]))
    assert described(pair) == "individuals 1, 2 in one bucket"
