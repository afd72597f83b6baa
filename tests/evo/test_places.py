"""Places that cannot be read or written: one line with the path and a remedy, and no traceback."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.cli import main
from fitness.errors import InputError
from fitness.facts import as_line, lock
from fitness.files import write_whole
from tests.evo.prepare.test_data_faults import spec_of
from tests.evo.synthetic_ledger import ledger
from tests.evo.toy import write_spec
from tests.fitness.quickstart import CORPUS


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, in a working directory of its own, with no Hub to ask."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    lines = b"".join(map(as_line, ledger(evaluations=12)))
    (tmp_path / "run" / "ledger.jsonl").write_bytes(lines)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "something").touch()
    return tmp_path / "run"


WRITING = {
    "history --csv": ["history", "run", "--csv"],
    "history --parquet": ["history", "run", "--parquet"],
    "compare": ["compare", "run", "run", "--html"],
    "export": ["export", "run", "--to"],
    "export --as": ["export", "run", "--as", "trl", "--to"],
    "generate": ["generate", "run", "--to"],
    "init": ["init"],
    "launch": ["launch", "toy.yaml", "--run"],
}
READING = {
    "status": ["status"],
    "report": ["report"],
    "resume": ["resume"],
    "ls": ["ls"],
    "launch": ["launch"],
    "pool": ["pool"],
    "feedback open": ["feedback", "open"],
    "feedback import": ["feedback", "import", "run"],
    "replay": ["replay", "--strategy", "nsga2", "--budget", "9", "--roles", "file"],
}
NOWHERE = {"a file as a folder": "file/x", "too long a name": "n" * 300}


@pytest.mark.parametrize("where", NOWHERE)
@pytest.mark.parametrize("command", [*WRITING, *(f"{name} read" for name in READING)])
def test_a_place_that_does_not_do_is_one_line_with_a_remedy(
    command: str, where: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_spec(run.parent)
    line = READING[command[:-5]] if command.endswith(" read") else WRITING[command]
    before = sorted(run.parent.rglob("*"))
    assert main([*line, NOWHERE[where]]) in (1, 2)
    said = [one for one in capsys.readouterr().err.splitlines() if one.startswith("evo: ")]
    assert len(said) == 1
    assert NOWHERE[where] in said[0]
    assert any(word in said[0] for word in ("; name ", "name another", "` writes"))
    assert "resume" not in said[0]
    left = [path for path in sorted(run.parent.rglob("*")) if "feedback" not in path.parts]
    assert left == before  # nothing half made either


PATHS = [
    *WRITING.values(),
    *READING.values(),
    *(["history"], ["compare", "run"], ["export", "--to", "x"], ["generate", "--to", "x"]),
    *(["generate", "run", "--to", "x", "--prompts"], ["pool", "file", "--to", "x", "--judged-in"]),
    *(["feedback"], ["feedback", "report"], ["feedback", "export", "run", "--as", "preference"]),
    *(["feedback", "open", "run", option] for option in ("--items", "--pool")),
    *(["feedback", "judge", "run", "--with"], ["feedback", "refine", "run", "--to", "x", "--with"]),
    ["replay", "file", "--strategy", "nsga2", "--budget", "9", "--roles"],
]


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "n" * 300, "n/" * 3000])
def test_a_path_that_cannot_be_is_one_line_and_bad_input(
    text: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_spec(run.parent)
    before = sorted(run.parent.rglob("*"))
    for line in PATHS:
        assert main([*line, text]) == 2, line
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith("evo: ")
    assert sorted(run.parent.rglob("*")) == before


def test_a_name_that_is_not_utf8_is_a_name(run: Path) -> None:
    assert main(["history", "run", "--csv", "caf\udce9"]) == 0
    assert b"caf\xe9" in os.listdir(os.fsencode(run.parent))


@pytest.mark.parametrize("text", ["a\0b", "a\udce9b", "n" * 300, "~nobody-here/x"])
def test_a_path_in_a_spec_that_cannot_be_is_one_line_and_bad_input(
    text: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good: dict[str, object] = {"target": {"path": f"{CORPUS}/sources/jargon.jsonl", "limit": 10}}
    wrong: tuple[dict[str, Any], ...] = (
        {"model": {"base": text}},
        {"sources": {"a": {"path": text}}},
        {"evaluator": {"command": [text, "x"]}},
    )
    for changes in wrong:
        spec = spec_of(run.parent, **{"sources": good, **changes})
        assert main(["launch", str(spec), "--dry-run"]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith("evo: ")
    record = configuration.to_plain(configuration.load(spec_of(run.parent, good)))
    record["sources"]["target"]["path"] = "a\0b"
    with pytest.raises(InputError, match=r"the recorded spec: sources.target.path: .* null byte"):
        configuration.from_plain(record)


@pytest.mark.parametrize("to", ["none/x", "folder"])
@pytest.mark.parametrize("command", ["history --csv", "history --parquet", "compare"])
def test_a_folder_or_nothing_where_a_file_should_be_is_one_line(
    command: str, to: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WRITING[command], to]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"evo: {to}: ")
    assert "name another place" in line


def test_a_report_that_cannot_be_written_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "report.html").mkdir()
    assert main(["report", "run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("evo: run/report.html: Is a directory; ")


@pytest.mark.parametrize(
    "command",
    [["status", "run"], ["history", "run"], ["report", "run"], ["schema"], ["ls", "."]],
    ids=lambda words: words[0],
)
def test_a_full_standard_output_is_one_line(
    command: list[str],
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "evo: standard output or a file: No space left on device; make room there, or name another "
        "place"
    )


@pytest.mark.parametrize("command", ["history --csv", "compare"])
def test_a_full_device_is_one_line_and_stays_a_device(
    command: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.parent / "full").symlink_to("/dev/full")
    assert main([*WRITING[command], "full"]) == 1
    assert "evo: full: No space left on device; make room" in capsys.readouterr().err
    assert stat.S_ISCHR((run.parent / "full").stat().st_mode)


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        write_whole(tmp_path / "pipe", "text")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)


def test_the_loser_of_two_launches_changes_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, place = write_spec(run.parent), run.parent / "new"
    place.mkdir()
    (place / "config.yaml").write_text("the winner's\n")
    held = lock(place, "launch")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert main(["launch", str(spec), "--run", "new"]) == 2
    assert "new is in use by process" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    held.release()


def test_the_loser_that_comes_to_the_ledger_writes_no_config(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Have locks not hold, as those of a shared folder between two machines may."""
    from contextlib import contextmanager, nullcontext
    from types import SimpleNamespace

    import evo.run

    place = run.parent / "new"

    @contextmanager
    def slow(*_: object) -> Iterator[SimpleNamespace]:
        (place / "ledger.jsonl").write_bytes(as_line(ledger(evaluations=4)[0]))
        (place / "config.yaml").write_text("the winner's\n")
        yield SimpleNamespace(size=1, bfloat16_cost=lambda: 1.0)

    monkeypatch.setattr(evo.run, "_cluster", slow)
    monkeypatch.setattr(evo.run, "_measured", lambda config, *_: config)
    monkeypatch.setattr(evo.run.run_folder, "new", nullcontext)
    place.mkdir()
    assert main(["launch", str(write_spec(run.parent)), "--run", "new"]) == 2
    assert "new has a run already" in capsys.readouterr().err
    assert (place / "config.yaml").read_text() == "the winner's\n"


@pytest.mark.parametrize("spoilt", ["the data", "Ray"])
def test_a_launch_that_fails_leaves_no_folder(
    spoilt: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from evo.cluster.queue import ClusterError

    def fail(*_: object, **__: object) -> None:
        assert list(run.parent.glob("a/**/launch.json"))
        raise ClusterError("no Ray today")

    spec = write_spec(run.parent)

    def refuse(*_: object) -> None:
        raise InputError("no such data")

    monkeypatch.setattr("evo.run.Cluster", fail)
    if spoilt == "the data":
        monkeypatch.setattr("evo.run.prepare", refuse)
    code = main(["launch", str(spec), "--run", "a/b"])
    said = capsys.readouterr().err
    assert code == (2 if spoilt == "the data" else 1)
    assert "resume" not in said
    assert not (run.parent / "a").exists()
    (run.parent / "a").mkdir()
    (run.parent / "a" / "mine").touch()
    assert main(["launch", str(spec), "--run", "a"]) == code
    assert [path.name for path in (run.parent / "a").iterdir()] == ["mine"]
