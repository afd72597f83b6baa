"""Follows a run in a process of its own while its driver works, so that no tracker delays it.

The process has the lowest priority, and ends when its standard input does, which the driver holds:
also if the driver is killed.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from evo.config import SearchConfig
from evo.config.track import Track
from evo.printable import say
from evo.record.ledger import FILE
from evo.tracking.sending import Sender
from evo.tracking.trackers import check
from fitness.errors import InputError
from fitness.secrets import without_secrets

LOOK_SECONDS = 2.0  # between looks at the ledgers
AGAIN_SECONDS = 30.0  # before a tracker that was down is tried again
PATIENCE_SECONDS = 60.0  # for what is left to send after the driver's last fact
SHARE = 0.05  # of the time at most, for reading the ledgers of a long run


@contextmanager
def following(config: SearchConfig, run: Path) -> Iterator[None]:
    """Let the trackers of a spec follow its run within the context.

    Raises InputError, before anything starts, for a tracker that cannot work on this machine.
    """
    if not config.track.chosen:
        yield
        return
    check(config.track, run)
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, str(run.absolute()), config.track.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C is for the driver
    )
    try:
        yield
    finally:
        _finish(process, run)


def _finish(process: "subprocess.Popen[str]", run: Path) -> None:
    """Let a follower send the rest; say where it is, or why it is not all there."""
    try:
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        told = f"trackers take more than {PATIENCE_SECONDS:.0f} s; `evo track {run}` sends the rest"
    except KeyboardInterrupt:
        process.kill()
        raise
    for line in told.splitlines():
        say(f"evo: {line}", error=True)


def follow(run: Path, track: Track) -> list[str]:
    """Send what is recorded until standard input ends; what to tell the user of each tracker.

    A tracker that is down is tried again while the run goes on.
    """
    over = False
    while not over and not (run / FILE).is_file():
        over = _over(LOOK_SECONDS)
    if not (run / FILE).is_file():  # the launch was refused
        return []
    with ExitStack() as opened:
        senders = [opened.enter_context(Sender(run, name, track)) for name in track.chosen]
        told, due, pause, seen = dict[str, str](), dict[str, float](), LOOK_SECONDS, -1
        while True:
            began, size = time.monotonic(), _bytes(run)
            for sender in senders:
                new = size != seen or sender.name in due
                if over or (new and began >= due.pop(sender.name, began)):
                    told[sender.name], works = _sent(sender)
                    due |= {} if works else {sender.name: began + AGAIN_SECONDS}
            if over:
                return list(told.values())
            seen, pause = size, max(LOOK_SECONDS, (time.monotonic() - began) / SHARE)
            if over := _over(pause):
                _priority("SCHED_OTHER")


def _sent(sender: Sender) -> tuple[str, bool]:
    """Send what is new: a line about it, and whether the tracker took it."""
    try:
        sender.send()
    except InputError as error:
        return f"warning: {error}", False
    return f"tracked by {sender.name}: {sender.place}", True


def _bytes(run: Path) -> int:
    """Bytes of the ledgers of a run, its proxies and its rounds."""
    return sum(file.stat().st_size for file in (run / FILE, *run.glob(f"*/{FILE}")))


def _over(seconds: float) -> bool:
    """Wait for the end of standard input, which the driver holds open, for so long at most."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _priority(policy: str) -> None:
    """Run with a priority of Linux; not every user may raise it again."""
    if hasattr(os, policy):
        with suppress(PermissionError):
            os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))


def main() -> None:
    """Follow the run of the arguments; libraries may print, but not to the driver."""
    told = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    _priority("SCHED_IDLE")  # until the driver, which waits then, has ended
    run, track = Path(sys.argv[1]), Track.model_validate_json(sys.argv[2])
    try:
        lines = follow(run, track)
    except Exception as error:  # a bug, which must not go unsaid
        lines = [without_secrets(f"warning: trackers stopped: {type(error).__name__}: {error}")]
    print(*lines, sep="\n", file=told, flush=True)


if __name__ == "__main__":
    main()
