"""Watchdog that kills all processes of an evaluation's command, however its worker ends; a script.

    python -I -S watchdog.py FOLDER

goes to the background, reads the number of a process group from standard input, and waits for its
end: the worker closes it when the evaluation is over, and the system does when the worker dies.
Then every process of the group is killed, and every one that was started with this FOLDER as
EVOMIX_FOLDER and left the group, and the folder is deleted. Standard output closes after that.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

LOOKS = 50  # for processes that were being started while others were killed
LOOK_SECONDS = 0.02


def marked(folder: str) -> list[int]:
    """Processes with EVOMIX_FOLDER=folder in their environment; none where there is no /proc."""
    mark = b"\0EVOMIX_FOLDER=" + os.fsencode(folder) + b"\0"
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            environment = b"\0" + (entry / "environ").read_bytes() + b"\0"
            if mark in environment and not _is_dead(entry):
                found.append(int(entry.name))
    return found


def _is_dead(entry: Path) -> bool:
    """True for a zombie: a process that has ended, but was not waited for by its parent."""
    return (entry / "stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")


def main(folder: str) -> None:
    """Wait for the end of the evaluation, then kill its processes and delete its folder."""
    group = sys.stdin.read().strip()
    if group:
        with suppress(OSError):
            os.killpg(int(group), signal.SIGKILL)
    for _ in range(LOOKS):
        left = marked(folder)
        if not left:
            break
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if os.fork():  # no child of the worker: Ray kills those first
        os._exit(0)
    main(sys.argv[1])
