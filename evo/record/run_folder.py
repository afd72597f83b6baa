"""The folder of a new run: made and locked before expensive work, removed if the launch fails."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evo.places import unusable
from evo.record.ledger import FILE, LOCK
from fitness.errors import InputError
from fitness.facts import lock
from fitness.files import remove_partial

WRITTEN = (FILE, "config.yaml", "now.json")  # by a driver alone, each as a whole
LAUNCH = "launch"  # the lock of a launch, from before its checks to its end


@contextmanager
def new(run: Path) -> Iterator[None]:
    """Make the folder of a new run, and lock it for the duration of the context.

    Raises InputError if it cannot be made or another launch has locked it. If there is no ledger
    at the end, the folders made here are removed again.
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
        tidy(run)
        held.release()
        if not (run / FILE).exists():
            _remove(run, LOCK)
            with suppress(OSError):  # something else is in it by now
                for folder in made:
                    folder.rmdir()


def tidy(run: Path) -> None:
    """Delete what drivers that were killed left unfinished; to be called with the run locked."""
    for name in WRITTEN:
        remove_partial(run / name)
    _remove(run, LAUNCH)


def _missing(run: Path) -> list[Path]:
    """Folders that do not exist yet among the run's folder and its parents, the innermost first."""
    return [folder for folder in (run, *run.parents) if not folder.exists()]


def _remove(run: Path, name: str) -> None:
    for path in (run / f"{name}.lock", run / f"{name}.json"):
        with suppress(OSError):
            path.unlink()
