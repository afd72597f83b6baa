"""Evaluation by a user's command: it gets a recipe as JSON and returns measurements as JSON.

Each evaluation has an empty folder of its own, where the command starts, and a process group of its
own, of which no process is left afterwards (`watchdog.py`).
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fitness.data.tokenizer import load_tokenizer
from fitness.evaluate import materialise
from fitness.evaluate.transcript import Transcript
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from fitness.evaluators import Command, filled_in
from fitness.secrets import quoted, without_secrets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WATCHDOG = Path(__file__).with_name("watchdog.py")
MEASUREMENTS_BYTES = 2**20
LAST_CHARACTERS = 1000  # of the output, in the message of a failure
MARGIN_SECONDS = 5.0  # at most, before the cluster's time limit, which would kill the worker too
DRAIN_SECONDS = 10.0
NO_MEMORY = ("outofmemoryerror", "out of memory", "memoryerror", "can't allocate memory")


@dataclass(frozen=True, slots=True)
class Ended:
    """End of a command: its exit code, -n for signal n, None for a timeout."""

    code: int | None
    measured: str | None  # content of its file of measurements; None if there is none


class Unusable(Exception):
    """A command, or its measurements, cannot be used; the message says why and what to do."""

    def __init__(self, why: str, status: Status = Status.ERROR) -> None:
        super().__init__(why)
        self.status = status


def by_command(task: Task) -> Callable[[EvaluationSpec], Evaluation]:
    """Evaluation function that runs the command; any failure of it becomes a status."""
    command = task.evaluator
    assert isinstance(command, Command)
    tokenizer = load_tokenizer(task.model) if command.data and task.model else None

    def run(spec: EvaluationSpec) -> Evaluation:
        started = time.perf_counter()
        log = Transcript(_log_file(task, spec), os.environ)
        try:
            with _workplace() as (folder, watch):
                values = _placed(task, command, spec, folder)
                _ask(task, spec, values)
                if tokenizer is not None:
                    _write_data(task, spec, Path(values["data"]), tokenizer)
                left = _within(task.timeout) - (time.perf_counter() - started)
                seconds = max(0.0, min(command.timeout or math.inf, left))
                ended, reader = _run(task, command, values, watch, log, seconds)
            reader.join(DRAIN_SECONDS)  # no process is left that could write to it
            measurements = _measurements(ended, seconds)
        except Unusable as error:
            log.close()
            return _failed(spec, error, log)
        finally:
            log.close()
        cost = {"train_seconds": time.perf_counter() - started}
        return Evaluation(spec, Status.OK, measurements, cost)

    return run


def _within(timeout: float) -> float:
    """Time limit a little below `timeout`, so that the worker can still report the result."""
    return timeout - min(MARGIN_SECONDS, timeout / 10)


def _log_file(task: Task, spec: EvaluationSpec) -> Path | None:
    """Log file of an evaluation in the run's folder; None if that is not on this machine."""
    if task.artifacts is None or not task.artifacts.parent.is_dir():
        return None
    name = f"individual-{spec.individual}.{spec.split}.seed-{spec.seed}"
    fidelity = "" if spec.fidelity == 1 else f".fidelity-{spec.fidelity:g}"
    return task.artifacts.parent / "logs" / f"{name}{fidelity}.log"


@contextmanager
def _workplace() -> Iterator[tuple[Path, "subprocess.Popen[bytes]"]]:
    """A new folder and its watchdog, which afterwards kills every process started there."""
    folder = Path(tempfile.mkdtemp(prefix="evomix-")).resolve()
    watch = subprocess.Popen(
        [sys.executable, "-I", "-S", str(WATCHDOG), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert watch.stdin is not None
    assert watch.stdout is not None
    watch.wait()  # it has gone to the background
    try:
        yield folder, watch
    finally:
        with suppress(BrokenPipeError):
            watch.stdin.close()
        watch.stdout.read()
        watch.stdout.close()


def _placed(task: Task, command: Command, spec: EvaluationSpec, folder: Path) -> dict[str, str]:
    """Values of the command's placeholders; empty text for those that do not apply."""
    return {
        "recipe": str(folder / "recipe.json"),
        "measurements": str(folder / "measurements.json"),
        "data": str(folder / f"data.{command.data}") if command.data else "",
        "model": str(task.model or ""),
        "folder": str(folder),
        "seed": str(spec.seed),
        "fidelity": str(spec.fidelity),
        "split": spec.split,
        "budget_tokens": str(_budget(task, spec)),
        "individual": str(spec.individual),
    }


def _budget(task: Task, spec: EvaluationSpec) -> int:
    """Tokens of the individual's full fine-tune: of the data, if evomix draws it."""
    share = spec.recipe.get("train_share", 1.0) if task.form.mixes else 1.0
    return round(task.budget_tokens * share)


def _ask(task: Task, spec: EvaluationSpec, values: Mapping[str, str]) -> None:
    request = {
        "recipe": dict(spec.recipe),
        "seed": spec.seed,
        "fidelity": spec.fidelity,
        "split": spec.split,
        "budget_tokens": _budget(task, spec),
        "individual": spec.individual,
        **{name: values[name] or None for name in ("model", "data", "measurements")},
    }
    Path(values["recipe"]).write_text(json.dumps(request, indent=1), encoding="utf-8")


def _write_data(
    task: Task, spec: EvaluationSpec, path: Path, tokenizer: "PreTrainedTokenizerBase"
) -> None:
    write = materialise.write_parquet if path.suffix == ".parquet" else materialise.write_jsonl
    windows = materialise.drawn(task, spec.recipe, seed=spec.seed, fidelity=spec.fidelity)
    write(path, windows, tokenizer)


def _run(
    task: Task,
    command: Command,
    values: dict[str, str],
    watch: "subprocess.Popen[bytes]",
    log: Transcript,
    seconds: float,
) -> tuple[Ended, threading.Thread]:
    """Run the command to its end or time limit; also returns the thread that reads its output."""
    arguments = [filled_in(argument, values) for argument in command.command]
    try:
        process = subprocess.Popen(
            arguments,
            cwd=values["folder"],
            env=_environment(task, values),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise Unusable(
            f"the command {arguments[0]!r} cannot be started on {socket.gethostname()} "
            f"({error.strerror or error}); it must be there and executable on every machine, and a "
            "script begin with #! and its interpreter"
        ) from None
    assert process.stdout is not None
    assert watch.stdin is not None
    try:
        watch.stdin.write(f"{process.pid}\n".encode())
        watch.stdin.flush()
    except BrokenPipeError:  # the watchdog was killed
        os.killpg(process.pid, signal.SIGKILL)
        raise
    reader = threading.Thread(target=log.drain, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        code = process.wait(None if seconds == math.inf else seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return Ended(None, None), reader
    return Ended(code, _written(Path(values["measurements"]))), reader


def _environment(task: Task, values: Mapping[str, str]) -> dict[str, str]:
    """Environment of the command: this process's, thread counts, placeholders as EVOMIX_<NAME>."""
    environment = dict(os.environ)
    offline = environment.pop("EVOMIX_HF_HUB_OFFLINE", None)  # what it was before workers began
    if offline is not None:
        environment["HF_HUB_OFFLINE"] = offline
    for library in ("OMP", "MKL", "OPENBLAS"):
        environment[f"{library}_NUM_THREADS"] = str(task.threads)
    return environment | {f"EVOMIX_{name.upper()}": value for name, value in values.items()}


def _written(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MEASUREMENTS_BYTES + 1).decode(errors="replace")
    except OSError:
        return None


def _measurements(ended: Ended, seconds: float) -> dict[str, float]:
    """Measurements by name, which may be NaN or infinite. Raises Unusable."""
    where = "the file {measurements}, which is also $EVOMIX_MEASUREMENTS"
    if ended.code is None:
        raise Unusable(
            f"the command was killed after {seconds:.3g} s; raise resources.timeout (and "
            "evaluator.timeout), or let it do less",
            Status.TIMED_OUT,
        )
    if ended.code < 0:
        raise Unusable(f"the command was killed by {_signal(-ended.code)}")
    if ended.code > 0:
        raise Unusable(f"the command ended with exit code {ended.code}; it must be 0")
    if ended.measured is None:
        raise Unusable(
            f"the command ended with exit code 0 and wrote no measurements; it must write them to "
            f"{where}"
        )
    if len(ended.measured) > MEASUREMENTS_BYTES:
        raise Unusable(f"the command wrote more than {MEASUREMENTS_BYTES:,} bytes to {where}")
    try:
        values = json.loads(ended.measured)
    except (ValueError, RecursionError) as error:
        given = quoted(ended.measured, 80)
        raise Unusable(
            f"the command's measurements are not JSON ({error}): {given}; write an "
            f"object of name: number to {where}"
        ) from None
    if not isinstance(values, dict):
        given = quoted(values, 80)
        raise Unusable(f"the command's measurements must be an object of name: number, got {given}")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unusable(
                f"the command's measurement {name!r} must be a number, got {quoted(value, 80)}; "
                "leave it out, or say NaN where the fine-tune diverged"
            )
    return {without_secrets(name): _as_float(value) for name, value in values.items()}


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _signal(number: int) -> str:
    named = {one.value: one.name for one in signal.Signals}
    name = f"signal {named.get(number, number)}"
    if number == signal.SIGKILL:
        return f"{name}; the kernel does that where memory ran out: let it use less"
    return name


def _failed(spec: EvaluationSpec, error: Unusable, log: Transcript) -> Evaluation:
    """Failed evaluation, with the last lines of the output and the path of its log."""
    why, last = str(error), log.last(LAST_CHARACTERS)
    if log.path is not None:
        why += f"\nits output: {log.path}"
    why += f"\n{last}" if last else "\nit printed nothing"
    out_of_memory = error.status is Status.ERROR and any(w in last.lower() for w in NO_MEMORY)
    return failed(spec, Status.OUT_OF_MEMORY if out_of_memory else error.status, why)
