"""Specs and ledgers of any content, through the command line: exit code 0, 1 or 2, no traceback.

Model folders of any content are in tests/fitness/models/test_soundness.py, where what passes is
loaded.
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from evo.cli import main
from tests.evo.synthetic_ledger import ledger

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
INPUTS = int(os.environ.get("EVOMIX_FUZZ", "90"))
SEED = 12
ODD: list[Any] = [None, "", "\x1b[2J", "x", [], {}, [[]], [None], {"": None}, True, False]
NUMBERS = [0, -1, 1, 7, 0.5, 2**31, 2**40, 2**70, 1e300, -1e300, float("nan"), float("inf")]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container within a value, and each key or index in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(inner):
        yield value, key
        if isinstance(one, dict | list):
            yield from places(one)


def delete(rng: random.Random, holder: Any, key: Any) -> None:
    del holder[key]


def retype(rng: random.Random, holder: Any, key: Any) -> None:
    holder[key] = rng.choice(rng.choice((ODD, NUMBERS)))


def wrap(rng: random.Random, holder: Any, key: Any) -> None:
    holder[key] = [holder[key]] if rng.random() < 0.5 else str(holder[key])


def duplicate(rng: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[f"{key}{rng.choice(('2', ' ', '.', '/loss'))}"] = holder[key]
    else:
        holder.insert(key, holder[key])


def exchange(rng: random.Random, holder: Any, key: Any) -> None:
    other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


CHANGES: tuple[Callable[[random.Random, Any, Any], None], ...] = (
    *(delete, retype, retype),
    *(wrap, duplicate, exchange),
)


def changed(rng: random.Random, value: Any) -> None:
    """One to three changes somewhere within a value."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        if spots := list(places(value)):
            rng.choice(CHANGES)(rng, *rng.choice(spots))


def torn(rng: random.Random, text: str) -> str:
    """A text with a line left out, repeated, or cut, or a character of it replaced."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 2:
        lines[at] = lines[at][: rng.randrange(len(lines[at]))] + "\n"
    else:
        place = rng.randrange(len(lines[at]))
        letter = rng.choice("{}[]:,\"'-#&*!|>%@`\0\x1b0 é")
        lines[at] = lines[at][:place] + letter + lines[at][place + 1 :]
    return "".join(lines)


def run_through(line: list[str], number: int, text: str) -> int:
    """The exit code of a command; what it raises is told with the input that did it."""
    try:
        code = main(line)
    except SystemExit as ended:  # of argparse
        code = int(ended.code or 0)
    except Exception as error:
        raise AssertionError(f"input {number}, {line[0]}: {error!r}\n{text}") from error
    assert code in (0, 1, 2), (number, line, text)
    return code


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a cache of its own, and no Hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_spec_ends_in_a_traceback(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, passed = random.Random(SEED), 0
    assert main(["init", "."]) == 0
    own = (alone / "search.yaml").read_text()
    yaml = YAML(typ="safe", pure=True)
    for number in range(INPUTS):
        if number % 3:
            data = yaml.load(own)
            changed(rng, data)
            text = json.dumps(data)  # which is YAML
        else:
            text = torn(rng, own)
        (alone / "a.yaml").write_text(text)
        code = run_through(["launch", "a.yaml", "--dry-run"], number, text)
        said = capsys.readouterr().err
        assert code == 0 or "evo: " in said, (number, said)
        passed += code == 0
    assert passed > INPUTS // 20


READERS = {
    "status": ["status", "run"],
    "history": ["history", "run"],
    "compare": ["compare", "run", "run", "--json"],
    "export": ["export", "run", "--to", "out"],
    "report": ["report", "run"],
}


def test_no_ledger_ends_in_a_traceback(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ledgers without checksums, as of an earlier version, or of a stranger who left them out."""
    rng, passed = random.Random(SEED), dict.fromkeys(READERS, 0)
    own = [json.dumps(fact) for fact in ledger(evaluations=12, seeds=2)]
    (alone / "run").mkdir()
    for number in range(INPUTS):
        facts = [json.loads(line) for line in own]
        if number % 3 == 0:
            text = torn(rng, "".join(f"{line}\n" for line in own))
        elif number % 3 == 1:
            changed(rng, facts[rng.randrange(len(facts))])
            text = "".join(json.dumps(fact) + "\n" for fact in facts)
        else:
            changed(rng, facts[0]["config"])
            text = "".join(json.dumps(fact) + "\n" for fact in facts)
        (alone / "run" / "ledger.jsonl").write_text(text)
        for name, line in READERS.items():
            if name == "report" and passed["status"] % 5:  # a second each
                continue
            code = run_through(line, number, text)
            said = capsys.readouterr().err
            assert code == 0 or "evo: " in said, (number, said)
            passed[name] += code == 0
            if name == "status" and code == 2:
                break  # the others read it by the same way
    assert passed["history"] > INPUTS // 5
    assert passed["report"] > INPUTS // 50
