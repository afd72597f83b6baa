"""Terminal output about a stranger's run or spec: no escape sequence, no value of any length."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.cli import main
from evo.feedback.server import Server
from evo.printable import printable
from evo.progress.live import Progress
from evo.screen import Screen
from fitness.facts import as_line
from tests.evo.synthetic_ledger import ledger
from tests.evo.toy import write_spec

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"  # sets the clipboard of most terminals
HOSTILE = f"{CLIPBOARD}\x9b31m\x00\r\x08[bold]"
SHOWN = r"\x1b]52;c;ZXZpbA=="  # rich leaves out the bell


def everywhere(value: Any) -> Any:
    """The facts with a hostile text in each name and each text that is free."""
    if isinstance(value, dict):
        return {
            (f"{name}{HOSTILE}" if name in ("jargon", "jargon/chrf") else name): everywhere(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [everywhere(one) for one in value]
    if value in ("quickstart", "node-a/400", "loss is not finite at step 31 of 80", "only jargon"):
        return f"{value}{HOSTILE}"
    return value


def raw(text: str) -> set[str]:
    """The control characters in a text."""
    return {one for one in text if (ord(one) < 32 or 127 <= ord(one) < 160) and one not in "\n\t"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    folder = tmp_path / f"run{CLIPBOARD}"
    folder.mkdir()
    facts = everywhere(ledger(evaluations=12))
    (folder / "ledger.jsonl").write_bytes(b"".join(map(as_line, facts)))
    return folder


@pytest.mark.parametrize(
    "command",
    [["status"], ["report"], ["history"], ["compare"], ["ls"], ["export", "--to", "out"]],
    ids=lambda words: words[0],
)
def test_no_command_prints_an_escape_sequence_of_a_run(
    command: list[str],
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, *options = command
    if name == "history":  # a table for a terminal, without colours on this one
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "dumb")
    main([name, str(run), *options])
    said = capsys.readouterr()
    if name in ("status", "report", "export"):  # in the rest it may be cut off
        assert SHOWN in said.out + said.err
    assert raw(said.out + said.err) == set()


def test_a_report_holds_names_as_text_only(run: Path) -> None:
    from plotly.offline import get_plotlyjs

    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert SHOWN in page
    assert raw(page.replace(get_plotlyjs(), "")) == set()


def test_no_error_of_a_spec_prints_an_escape_sequence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(tmp_path)
    text = spec.read_text() + f"{json.dumps('x' + CLIPBOARD)}: 1\n"
    spec.write_text(text)
    assert main(["launch", str(spec), "--dry-run"]) == 2
    said = capsys.readouterr()
    assert SHOWN in said.err
    assert raw(said.err) == set()


def test_the_live_table_and_plain_lines_print_no_escape_sequence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evo.progress.table import live_table

    facts = everywhere(ledger(evaluations=12))
    config = configuration.of(ledger(evaluations=12))
    with Progress(config, tmp_path / HOSTILE.replace("\0", ""), "plain") as progress:
        for fact in facts:
            progress(fact)
        progress.enter(f"phase {HOSTILE}")
        file = io.StringIO()
        Screen(file=file, width=200).print(live_table(progress))
    table = file.getvalue()
    said = capsys.readouterr().err
    assert SHOWN in table
    assert SHOWN in said
    assert raw(table + said) == set()


def test_a_screen_keeps_its_own_control_codes_and_no_markup() -> None:
    from rich.table import Table

    file = io.StringIO()
    screen = Screen(file=file, force_terminal=True, width=60, color_system=None)
    table = Table(f"head {CLIPBOARD}")
    table.add_row(f"[red]{CLIPBOARD}[/red]")
    screen.print(table)
    shown = file.getvalue()
    assert raw(shown) == set()
    assert f"[red]{SHOWN}" in shown
    screen.show_cursor(show=False)
    assert "\x1b[?25l" in file.getvalue()


def test_control_characters_are_escaped_and_long_lines_are_clipped() -> None:
    assert printable("a\x1b]52;c;eA==\x07\x9b\ud83d\r\nb\tä") == (
        "a\\x1b]52;c;eA==\\x07\\x9b\\ud83d\\x0d\nb\tä"
    )
    assert len(printable("x" * 100_000)) < 2100
    assert printable("short") == "short"


@pytest.mark.parametrize(
    "line",
    [
        ["launch", "SPEC", "--dry-run", "--set", "seed=" + "9" * 100_000],
        ["launch", "SPEC", "--dry-run", "--set", "x" * 100_000],
        ["launch", "SPEC", "--dry-run", "--set", "search.strategy=" + "x" * 100_000],
        ["launch", "x" * 100_000],
        ["launch", "SPEC", "--run", "x" * 100_000],
        ["launch", "SPEC", "--" + "x" * 100_000],
        ["x" * 100_000],
        ["status", "x" * 100_000],
        ["generate", "run", "--to", "out", "--samples", "x" * 100_000],
        ["export", "run", "--to", "out", "--as", "x" * 100_000],
        ["launch", "SPEC", "--" + CLIPBOARD],
        ["export", "run", "--to", "out", "--as", CLIPBOARD],
    ],
    ids=range(12),
)
def test_an_option_of_any_length_and_kind_is_a_short_error(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = str(write_spec(tmp_path))
    code: object
    try:
        code = main([spec if word == "SPEC" else word for word in line])
    except SystemExit as ended:  # of argparse
        code = ended.code
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert 0 < len(said) < 6000
    assert raw(said) == set()
    assert "Traceback" not in said


def test_the_cost_of_a_fault_does_not_grow_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in what each with each would take: the comparisons of keys."""
    from evo.config.file import Problem, SpecFile

    class Counted(tuple[str, ...]):
        compared = 0

        def __getitem__(self, at: Any) -> Any:
            Counted.compared += 1
            return tuple.__getitem__(self, at)

    count = 2000
    keys = [Counted(("sources", f"s{number}", "pth")) for number in range(count)]
    spec = SpecFile("a.yaml", {}, {(): 1, **{key: line for line, key in enumerate(keys, 2)}})
    error = spec.error([Problem(key, "unknown key") for key in keys])
    assert "and 19" in str(error)
    assert Counted.compared < 10 * count


def test_the_feedback_server_lets_a_burst_wait() -> None:
    assert Server.request_queue_size >= 128
