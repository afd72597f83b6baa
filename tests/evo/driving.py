"""Runs the `evo` command as a user would, in a process of its own, and does it harm."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
LEDGER = "ledger.jsonl"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "evo.cli", *map(str, arguments)]


def environment(**variables: object) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **{k: str(v) for k, v in variables.items()}}


def evo(
    *arguments: object, cwd: Path = ROOT, **variables: object
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def start(*arguments: object, cwd: Path = ROOT, **variables: object) -> "subprocess.Popen[str]":
    """The command, going on in the background in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_interruptible,
    )


def _interruptible() -> None:
    """Heed Ctrl-C, as a process of a terminal does; one in a script's background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def facts_written(run: Path, kind: str = '"fact":') -> int:
    """Whole lines of the ledger that hold `kind`."""
    try:
        lines = (run / LEDGER).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return 0
    return sum(kind.encode() in line for line in lines)


def wait_until(driver: "subprocess.Popen[str]", run: Path, kind: str, count: int) -> None:
    """Return as soon as the ledger holds so many facts of a kind; fail if the driver ends first."""
    deadline = time.time() + 360
    while facts_written(run, kind) < count:
        if driver.poll() is not None:
            raise AssertionError(f"ended too early:\n{driver.communicate()[0]}")
        if time.time() > deadline:
            raise AssertionError(f"only {facts_written(run, kind)} of {count} {kind} in 360 s")
        time.sleep(0.02)


def workers_of(driver: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The driver's worker processes that hold an evaluator."""
    return evaluators(psutil.Process(driver.pid))


def evaluators(driver: psutil.Process) -> list[psutil.Process]:
    """Those below it that hold an evaluator, without any that ends while one looks."""
    found = []
    for process in driver.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "_Evaluator" in process.name() or "_Evaluator" in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill_group(driver: "subprocess.Popen[str]", number: int = signal.SIGINT) -> None:
    """Press Ctrl-C, as a terminal does: the signal goes to the whole process group."""
    os.killpg(driver.pid, number)
