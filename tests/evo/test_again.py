"""`evo launch --or-resume`: the same command launches a run, and resumes what is left of it."""

from pathlib import Path

import pytest

from evo.cli import BAD_INPUT, DONE, main
from tests.evo.facts import read
from tests.evo.search.test_loop import outcome
from tests.evo.toy import write_spec

pytestmark = pytest.mark.usefixtures("here")


def cut(run: Path, facts: int) -> None:
    """Leave only the first facts of the ledger, as a driver that was killed then."""
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:facts]))


def test_the_same_command_launches_resumes_and_has_nothing_to_do_after_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    spec = write_spec(tmp_path, evaluations=12)
    line = ["launch", str(spec), "--run", str(run), "--or-resume"]
    assert main(line) == DONE
    whole = outcome(run)
    cut(run, 15)
    assert outcome(run) != whole
    assert main(line) == DONE
    assert outcome(run) == whole
    assert [fact["fact"] for fact in read(run)].count("resumed") == 1
    finished = (run / "ledger.jsonl").read_bytes()
    capsys.readouterr()
    assert main(line) == DONE
    assert (run / "ledger.jsonl").read_bytes() == finished
    assert f"evo export {run}" in capsys.readouterr().out, "the report is printed again"


def test_a_spec_may_differ_from_the_run_only_in_what_a_resume_may_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    line = ["--run", str(run), "--or-resume"]
    spec = str(write_spec(tmp_path, evaluations=12))
    assert main(["launch", spec, *line]) == DONE
    before = (run / "ledger.jsonl").read_bytes()
    assert main(["launch", spec, *line, "--set", "search.population=8"]) == BAD_INPUT
    assert "search.population: 6 -> 8" in capsys.readouterr().err
    assert (run / "ledger.jsonl").read_bytes() == before
    more = ["--set", "budget.evaluations=18", "--set", "resources.workers=3"]
    assert main(["launch", spec, *line, *more]) == DONE
    resumed = next(fact for fact in read(run) if fact["fact"] == "resumed")
    assert resumed["config"]["budget"]["evaluations"] == 18
    assert resumed["config"]["resources"]["workers"] == 3


def test_without_the_option_a_folder_with_a_run_is_refused_and_it_needs_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = str(write_spec(tmp_path, evaluations=12))
    assert main(["launch", spec, "--or-resume"]) == BAD_INPUT
    assert "add --run" in capsys.readouterr().err
    assert main(["launch", spec, "--run", str(tmp_path / "run")]) == DONE
    assert main(["launch", spec, "--run", str(tmp_path / "run")]) == BAD_INPUT
    assert "has a run already" in capsys.readouterr().err


def test_the_code_of_the_spec_is_trusted_on_a_new_machine_as_at_a_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    line = ["launch", str(write_spec(tmp_path, evaluations=12)), "--run", str(run), "--or-resume"]
    assert main(line) == DONE
    cut(run, 15)
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path / "elsewhere"))
    assert main(["resume", str(run)]) == BAD_INPUT
    assert "--trust" in capsys.readouterr().err
    changed = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(changed.replace("tests.evo.toy:score", "tests.evo.toy:hang"))
    assert main(line) == BAD_INPUT, "somebody else's code in the run folder"
    (run / "config.yaml").write_text(changed)
    assert main(line) == DONE
