"""The trackers by name, and what all of them can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from evo.config.track import Track
from evo.tracking.records import End, Evaluation, Search
from fitness.errors import InputError
from fitness.plugins import load_function


class Tracker(Protocol):
    """A tracker, open for one search.

    A record is sent again if a process died before it had noted that it was sent; the tracker still
    has it once then.
    """

    def begin(self, search: Search, sent: Sequence[Evaluation]) -> str:
        """Open the record of a search, of which `sent` were sent before; where to look at it."""
        ...

    def evaluation(self, one: Evaluation) -> None:
        """Record an evaluation, and the best values after it with the search."""
        ...

    def end(self, end: End, report: Path | None) -> None:
        """Record state and results of the search, with the report where files can be kept."""
        ...

    def close(self) -> None:
        """Send what is buffered."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of tracker: the package that it needs, and what makes one.

    This takes the settings (a section of `track`) and the run folder. It raises InputError where
    credentials are missing, and neither imports the package nor connects.
    """

    package: str
    makes: str  # module:function


TRACKERS = {
    "mlflow": Kind("mlflow", "evo.tracking.mlflow:Mlflow"),
    "wandb": Kind("wandb", "evo.tracking.wandb:Wandb"),
    "tensorboard": Kind("tensorboardX", "evo.tracking.tensorboard:Tensorboard"),
    "trackio": Kind("trackio", "evo.tracking.trackio:Trackio"),
}


def check(track: Track, run: Path) -> None:
    """Raise InputError for a tracker whose package or credentials are missing on this machine."""
    for name in track.chosen:
        package = TRACKERS[name].package
        if find_spec(package) is None:
            raise InputError(
                f"track.{name}: needs the package {package}, which is not installed; "
                f"pip install 'evomix[{name}]'"
            )
        opened(name, track, run)


def opened(name: str, track: Track, run: Path) -> Tracker:
    """A tracker with its settings of the section `track`, before it has connected to anything."""
    makes = load_function(TRACKERS[name].makes, f"track.{name}")
    tracker: Tracker = makes(track.chosen[name], run)
    return tracker
