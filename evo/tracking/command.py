"""`evo track`: sends a run, finished or not, to the trackers of its spec or to others."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from evo import history
from evo.config.errors import problems
from evo.config.file import SpecFile
from evo.config.track import Track
from evo.record.ledger import read
from evo.tracking.sending import Sender
from evo.tracking.trackers import TRACKERS, check
from fitness.errors import InputError
from fitness.suggest import did_you_mean, listed


def track(run: Path, name: str | None, settings: Sequence[str]) -> Iterator[str]:
    """Send what trackers do not have yet; yields a line about each.

    They are the tracker `name` with `settings` KEY=VALUE, or those of the spec. InputError for one
    that there is not, or that refuses.
    """
    chosen = _chosen(run, name, settings)
    check(chosen, run)
    for one in chosen.chosen:
        with Sender(run, one, chosen) as sender:
            count = sender.send()
            yield f"{one}: {count} records sent; {sender.place}" if count else f"{one}: nothing new"


def _chosen(run: Path, name: str | None, settings: Sequence[str]) -> Track:
    """The section `track` of the spec, or the one tracker of it that is named."""
    recorded = history.spec(read(run)).track
    if name is None:
        if settings:
            raise InputError(f"--set {settings[0]}: is for one tracker; name it with --to")
        if not recorded.chosen:
            raise InputError(
                f"{run}: its spec names no tracker; name one with --to: {listed(TRACKERS)}"
            )
        return recorded
    if name not in TRACKERS:
        raise InputError(
            f"--to {name}: there is no such tracker{did_you_mean(name, TRACKERS)}; there are "
            f"{listed(TRACKERS)}"
        )
    known = recorded.chosen.get(name)
    plain = {} if known is None else known.model_dump(exclude_defaults=True)
    for text in settings:
        key, found, value = text.partition("=")
        if not found:
            raise InputError(
                f"--set {text}: must look like KEY=VALUE, such as uri=http://host:5000"
            )
        plain[key] = value
    try:
        return Track.model_validate({name: plain})
    except ValidationError as error:
        found_in = SpecFile("", origin={(): "the command line"})
        raise found_in.error(
            problems(error, {name: plain}, Track.model_json_schema(), ("track",))
        ) from None
