"""Commands that look at runs: status, ls, history, report, every --help."""

import argparse
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evo.cli import BAD_INPUT, CALLS, DONE, main
from evo.cli.arguments import parser
from evo.cli.examples import EXAMPLES
from evo.cli.feedback_arguments import with_action
from evo.progress import status as statuses
from evo.progress.now import Now, WorkerNow, write
from evo.record.ledger import Ledger
from fitness.evaluation import Task
from tests.evo.facts import read
from tests.evo.search.test_loop import InProcess, search
from tests.evo.toy import write_spec


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, one cut short, and a damaged one."""
    folder = tmp_path_factory.mktemp("runs")
    search(folder / "whole", write_spec(folder), InProcess(Task("tests.evo.toy:score")))
    lines = (folder / "whole/ledger.jsonl").read_text().splitlines(keepends=True)
    (folder / "cut").mkdir()
    (folder / "cut/ledger.jsonl").write_text("".join(lines[:20]))
    (folder / "damaged").mkdir()
    (folder / "damaged/ledger.jsonl").write_text("{not a fact}\n" + lines[1])
    with Ledger(folder / "whole") as ledger:
        ledger.append("finished", time=2.0)
    return folder


def output(capsys: pytest.CaptureFixture[str], *line: object) -> str:
    assert main([*map(str, line)]) == DONE
    return capsys.readouterr().out


def test_a_status_is_a_table_of_words(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "status", runs / "whole")
    assert "{" not in text
    assert re.search(r"^run +toy, finished", text, re.MULTILINE)
    assert re.search(r"^evaluations +24 of 24; failed: \d+ error; 4 on the test split", text, re.M)
    found = json.loads(output(capsys, "status", runs / "whole", "--json"))
    assert re.search(rf"^winner +individual {found['winner']}: target ", text, re.MULTILINE)
    [limit] = found["constraints"]
    assert limit["met"] is True
    assert re.search(r"general <= 2.9 +met: individual", text)
    cut = output(capsys, "status", runs / "cut")
    assert re.search(r"^run +toy, stopped", cut, re.MULTILINE)


def test_a_status_says_what_a_living_driver_does(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "ledger.jsonl").write_bytes((runs / "cut/ledger.jsonl").read_bytes())
    begun = 1_000_000.0
    with Ledger(run) as ledger:
        ledger.append("resumed", time=begun, workers=2)
        workers = (WorkerNow(name="a/1", does="individual 9", since=begun + 30),)
        now = Now(
            time=begun + 60,
            phase="searching",
            begun=begun,
            busy_share=0.5,
            seconds_left=100.0,
            workers=workers,
        )
        write(run, now)
        monkeypatch.setattr(statuses.time, "time", lambda: begun + 70)
        text = output(capsys, "status", run)
        assert re.search(r"^run +toy, running", text, re.MULTILINE)
        assert re.search(r"^now +searching", text, re.MULTILINE)
        assert re.search(r"^running time +1:1\d, about 1:30 left", text, re.MULTILINE)
        assert re.search(r"worker 1 +individual 9, 0:40", text)
        write(run, now.model_copy(update={"stopping": True, "finishing": 2}))
        text = output(capsys, "status", run)
        assert re.search(r"^run +toy, stopping: 2 evaluations finish *$", text, re.MULTILINE)
        ledger.append("stopped", time=begun + 65)  # while the cluster closes
        assert json.loads(output(capsys, "status", run, "--json"))["state"] == "stopping"
        write(run, now.model_copy(update={"stopping": False, "begun": begun + 65}))
        found = json.loads(output(capsys, "status", run, "--json"))  # a resume that starts Ray
        assert found["state"] == "running"
        assert found["elapsed_seconds"] == pytest.approx(70, abs=2)
    text = output(capsys, "status", run)  # it lives no more: what it said last does not count
    assert "individual 9, 0:40" not in text
    assert "stopped" in text


def test_watching_a_run_ends_when_its_driver_does(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(["running", "running", "finished"])
    real = statuses.status

    def status(run: Path) -> dict[str, Any]:
        return {**real(run), "state": next(states)}

    waited: list[float] = []
    monkeypatch.setattr(statuses, "status", status)
    monkeypatch.setattr(statuses.time, "sleep", waited.append)
    text = output(capsys, "status", runs / "whole", "--watch")
    assert waited == [statuses.WATCH_SECONDS] * 2
    assert "finished" in text


def test_runs_are_listed_with_their_state_and_a_damaged_one_does_not_hide_the_others(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(output(capsys, "ls", runs, "--json"))
    states = {Path(one["run"]).name: one["state"] for one in found}
    assert states == {"whole": "finished", "cut": "stopped", "damaged": "unreadable"}
    monkeypatch.setenv("COLUMNS", "200")
    text = output(capsys, "ls", runs)
    assert re.search(r"whole.* finished +24 of 24 .*target \d\.\d+", text)
    assert json.loads(output(capsys, "ls", runs / "cut", "--json"))[0]["state"] == "stopped"
    monkeypatch.chdir(runs / "cut")
    assert "no runs in runs; `evo launch quickstart` makes one" in output(capsys, "ls")
    assert main(["ls", "nowhere"]) == BAD_INPUT
    (runs / "cut/runs").mkdir()
    (runs / "cut/runs/one").symlink_to(runs / "whole")
    assert [one["state"] for one in json.loads(output(capsys, "ls", "--json"))] == ["finished"]


def test_a_history_is_a_table_for_people_and_csv_for_pipes(
    runs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["history", str(runs / "whole")]) == DONE
    piped = capfd.readouterr().out
    assert piped.startswith("individual,generation,parents,")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["history", str(runs / "whole")]) == DONE
    table = capfd.readouterr().out
    evaluations = [fact for fact in read(runs / "whole") if fact["fact"] == "evaluation"]
    rows = [line for line in table.splitlines() if re.match(r" *(-?\d+|base) ", line)]
    assert len(rows) == len(evaluations)
    bases = [line for line in rows if line.split()[:3] == ["base", "untouched", "base"]]
    assert len(bases) == sum(fact["fidelity"] == 0 for fact in evaluations)
    records = pd.read_csv(io.StringIO(piped))
    assert list(records["kind"] == "base") == [fact["fidelity"] == 0 for fact in evaluations]
    assert {"base", "individual"} == set(records["kind"][records["individual"] == 0])
    assert "test, seed 1" in table
    assert "all columns, genes included: --csv FILE" in table
    assert main(["history", str(runs / "whole"), "--csv", "-"]) == DONE
    assert capfd.readouterr().out == piped


def test_a_summary_has_constraints_and_the_next_step_and_a_report_can_be_opened(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    text = output(capsys, "report", runs / "whole")
    assert text.splitlines()[-1].startswith(f"next:   evo export {runs / 'whole'} --to DIR")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)  # in a pipe
    assert opened == []
    cut = output(capsys, "report", runs / "cut", "--open")
    assert f"next:   evo resume {runs / 'cut'}" in cut
    assert opened == [(runs / "cut/report.html").as_uri()]
    text = " ".join(text.split())
    assert re.search(r"general <= 2\.9: met, 2\.\d+ on the selection split", text)
    assert re.search(r"met, 2\.\d+ on the test split", text)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert re.fullmatch(r"evomix \d+\.\d+\S*\n", capsys.readouterr().out)


def test_every_command_has_examples_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(EXAMPLES) == {"", "feedback", *CALLS}
    for name, lines in EXAMPLES.items():
        for line in lines:
            for command in re.split(r" \| ", re.split(r" {4,}| > ", line)[0]):
                program, *words = command.split()
                if program != "evo":
                    continue
                options = parser(CALLS).parse_args(with_action(words))
                assert callable(options.command)
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        assert f"examples:\n  {lines[0]}" in capsys.readouterr().out


def test_every_option_of_every_command_is_explained() -> None:
    def unexplained(command: argparse.ArgumentParser) -> list[str]:
        found = []
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [name for sub in action.choices.values() for name in unexplained(sub)]
            elif not action.help:
                found.append(f"{command.prog} {action.dest}")
        return found

    assert unexplained(parser(CALLS)) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["statsu", "x"], "'statsu' .*did you mean 'status'?"),
        (["lunch", "x"], "did you mean 'launch'?"),
        (["launch", "x", "--dryrun"], "did you mean '--dry-run'?"),
        (["feedback", "reprot", "x"], "did you mean 'report'?"),
        (["export", "x", "--to", "y", "--as", "axolot"], "did you mean 'axolotl'?"),
        (["feedback", "export", "x", "--as", "preferense", "y"], "did you mean 'preference'?"),
    ],
)
def test_a_misspelt_command_option_or_choice_is_told_the_nearest(
    line: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(line)
    assert re.search(re.escape(told).replace(r"\.\*", ".*"), capsys.readouterr().err)


def test_a_run_with_a_name_like_an_action_is_a_run(tmp_path: Path) -> None:
    (run := tmp_path / "reports").mkdir()
    assert with_action(["feedback", str(run)]) == ["feedback", "open", str(run)]


@pytest.mark.parametrize("first", [1, 0])  # 0: that of the untouched base, which does not count
def test_rounds_show_those_that_are_over_and_the_one_under_way(
    first: int, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "rounds"
    facts = read(runs / "whole")
    for number, source in ((first, "whole"), (first + 1, "cut")):
        (run / f"round-{number}").mkdir(parents=True)
        copied = (runs / source / "ledger.jsonl").read_bytes()
        (run / f"round-{number}/ledger.jsonl").write_bytes(copied)
    config = {**facts[0]["config"], "rounds": {"limit": 3}}
    winner = next(fact["individual"] for fact in facts if fact["fact"] == "winner")
    header = {"config": config, "fingerprints": {}, "time": 5.0}
    Ledger.create(run, header).close()
    with Ledger(run) as ledger:
        own = {"individual": winner, "loss": 4.2, "violation": 0.0}
        ledger.append("round", round=first, **own, measurements={"target": 4.2, "general": 5.0})
    text = output(capsys, "status", run)
    assert re.search(r"^run +toy, stopped", text, re.MULTILINE)
    assert re.search(rf"^rounds +{first} over, of at most 3", text, re.MULTILINE)
    assert re.search(rf"^best +round {first}: target 4\.\d+", text, re.MULTILINE)
    assert re.search(rf"^round {first + 1}\n.*stopped", text, re.MULTILINE)
    [row] = json.loads(output(capsys, "ls", run, "--json"))
    under_way = row["round_under_way"]
    assert (row["rounds_over"], under_way["round"], under_way["total"]) == (first, first + 1, 24)
    assert f"round {first} of 3" in output(capsys, "ls", run)
