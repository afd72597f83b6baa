"""The check of a GPU, on whatever is here; a verdict that could not fail would say nothing."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import check

SCRIPT = Path(__file__).with_name("check.sh")
REPEATED = {"repeated: lora", "paused and resumed: lora"}


@pytest.mark.slow
def test_the_check_passes_on_this_machine_and_ends_with_its_figures() -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT)],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *table, last = done.stdout.splitlines()
    name, _, told = last.partition(" ")
    figures = json.loads(told)
    assert name == "BENCH"
    assert figures["ok"] is True
    verdicts = figures["checks"]
    rest = {"bucket of 3", "memory after 20 individuals", "bfloat16 on a bfloat16 base"}
    assert {one for one, holds in verdicts.items() if holds} >= REPEATED | rest
    assert [one for one, holds in verdicts.items() if holds is False] == []
    assert len(table) == 1 + len(verdicts)
    assert figures["speed: tokens a second"] > 0
    assert verdicts["logits in parts"]


def test_losses_that_differ_fail() -> None:
    bound = check.AGREE["float32"]
    base = {"a": 4.0, "b": 2.0}
    assert check.compared("x", {"a": 4.0, "b": 2.0 * (1 + bound / 2)}, base, bound).holds
    for wrong in ({"a": 4.0, "b": 2.0 * (1 + 2 * bound)}, {"a": 4.0, "b": math.nan}, {"a": 4.0}):
        assert not check.compared("x", wrong, base, bound).holds


def test_memory_that_is_kept_is_seen() -> None:
    import torch

    before = check.held()
    kept = torch.zeros(1000)
    assert check.held() - before == kept.nbytes


def test_a_check_that_breaks_fails_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks() -> None:
        raise RuntimeError("no such kernel")

    def fine() -> list[check.Row]:
        return [check.Row("fine", "1", "1", True)]

    monkeypatch.setattr(check, "CHECKS", (fine, breaks, fine))
    assert check.main([]) == 1
    printed = capsys.readouterr().out
    assert "no such kernel" in printed
    assert json.loads(printed.splitlines()[-1].removeprefix("BENCH "))["failed"] == ["breaks"]
