"""Runs of the `evo` command, launched or resumed to their end."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.evo.driving import LEDGER, command, environment
from tests.evo.facts import read


def finished(run: Path, spec: Path, *settings: str, more: Sequence[object] = ()) -> Path:
    """A run of a spec with settings, searched or resumed to its end."""
    line: list[object] = ["launch", spec, *more, "--run", run]
    line += [word for one in settings for word in ("--set", one)]
    if (run / LEDGER).exists():
        if read(run)[-1]["fact"] == "finished":
            return run
        line = ["resume", run]
    done = subprocess.run(
        command(*line), env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{run}: {done.stderr}")
    return run
