"""Launch or resume a run: one search, or rounds of them."""

from collections.abc import Sequence
from pathlib import Path

from evo import config as configuration
from evo import run
from evo.config import SearchConfig
from evo.config.file import read as read_spec
from evo.record import trust
from evo.record.ledger import Fact, read
from evo.rounds import loop
from evo.rounds.loop import Watching

CONFIG = "config.yaml"
__all__ = ["Watching", "launch", "resume"]


def launch(config: SearchConfig, folder: Path, watching: Watching) -> bool:
    """A new run in a folder; whether it finished. What its spec names that is code may be run by
    other commands from now on, see `evo.record.trust`."""
    trust.remember(configuration.to_plain(config))
    if config.rounds is not None:
        return loop.launch(config, folder, watching)
    with watching(config, folder) as watch:
        return run.launch(config, folder, watch)


def resume(
    folder: Path, overrides: Sequence[str], watching: Watching, *, trusted: bool = False
) -> bool:
    """Go on with a run after anything at all; whether it finished.

    Refuses code that was not launched here, unless it is `trusted`: a spec is checked by importing
    what it names, so that comes before anything else.
    """
    facts = read(folder)
    config = configuration.of(facts)
    _check_code(folder, facts, config, trusted=trusted)
    if config.rounds is not None:
        return loop.resume(folder, overrides, watching)
    with watching(config, folder) as watch:
        return run.resume(folder, overrides, watch)


def _check_code(
    folder: Path, facts: Sequence[Fact], config: SearchConfig, *, trusted: bool
) -> None:
    """Of what was recorded, and of the spec as it stands in the folder; what is overridden on the
    command line is the user's own word."""
    code = trust.code_of_run(folder, facts, configuration.to_plain(config))
    trust.check(folder, code, config.import_from, trust=trusted)
    if (folder / CONFIG).is_file():
        spec = read_spec(folder / CONFIG, ()).data
        named = str(spec.get("import_from", "."))
        trust.check(folder, trust.code_in(spec), str(folder / named), trust=trusted)
