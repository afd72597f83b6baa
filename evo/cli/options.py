"""Arguments that several `evo` commands share, and types of their values."""

import argparse
from collections.abc import Callable
from pathlib import Path

from fitness.remote.store import is_url

RUN = "a run folder, or the URL of a run's mirror"


def run_folder(sub: argparse.ArgumentParser) -> None:
    """Add the run folder that a command works on and writes to."""
    sub.add_argument("run", type=_folder, metavar="RUN", help="a run folder")


def run_or_url(sub: argparse.ArgumentParser) -> None:
    """Add the run that a command reads or resumes: its folder, or the URL of its mirror."""
    sub.add_argument("run", type=folder_or_url, metavar="RUN", help=RUN)


def folder_or_url(text: str) -> Path | str:
    """A path, or a URL as it is."""
    return text if is_url(text) else Path(text)


def _folder(text: str) -> Path:
    if is_url(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is a URL, and this command writes into the run folder: `evo resume` fetches "
            "a mirrored run, then name its folder"
        )
    return Path(text)


def trust(sub: argparse.ArgumentParser) -> None:
    """Add the permission to execute the code that a run names."""
    sub.add_argument(
        "--trust",
        action="store_true",
        help="allow Python code named in the run (rewards, metrics, ...) to be "
        "executed although the run was not launched on this machine",
    )


def numbers(
    sub: argparse.ArgumentParser, *options: tuple[str, Callable[[str], float], str]
) -> None:
    """Add options that take a number, each given by name, type and help text."""
    for name, kind, text in options:
        sub.add_argument(f"--{name}", type=kind, metavar="N", help=text)


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got {text!r}")
    return number
