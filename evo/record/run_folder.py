"""The folder of a new run: made and locked before anything expensive, gone if a launch fails."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evo.places import unusable
from evo.record.ledger import FILE, LOCK
from fitness.errors import InputError
from fitness.facts import lock

LAUNCH = "launch"  # the lock of a launch, from before its checks to its end


@contextmanager
def new(run: Path) -> Iterator[None]:
    """Make and lock the folder of a run that is to be launched within.

    InputError if it cannot be made or another launch has it. Where no ledger stands in the end,
    what was made here is removed again.
    """
    try:
        made = _missing(run)
        run.mkdir(parents=True, exist_ok=True)
        held = lock(run, LAUNCH)
    except OSError as error:
        raise InputError(
            f"cannot make the run folder: {unusable(error)}; --run DIR says where"
        ) from None
    try:
        yield
    finally:
        _remove(run, LAUNCH)
        held.release()
        if not (run / FILE).exists():
            _remove(run, LOCK)
            with suppress(OSError):  # something else is in it by now
                for folder in made:
                    folder.rmdir()


def _missing(run: Path) -> list[Path]:
    """The run's folder and those above it that are not there yet, the innermost first."""
    return [folder for folder in (run, *run.parents) if not folder.exists()]


def _remove(run: Path, name: str) -> None:
    for path in (run / f"{name}.lock", run / f"{name}.json"):
        with suppress(OSError):
            path.unlink()
