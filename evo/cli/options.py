"""Arguments that several `evo` commands share, and types of their values."""

import argparse
from collections.abc import Callable
from pathlib import Path


def run_folder(sub: argparse.ArgumentParser) -> None:
    """Add the run folder that a command works on."""
    sub.add_argument("run", type=Path, metavar="RUN", help="a run folder")


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
