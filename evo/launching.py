"""Launch or resume a run: one search, one after those of its proxies, or rounds of them."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evo import config as configuration
from evo import run
from evo.config import SearchConfig
from evo.config.file import read as read_spec
from evo.history.proxies import folders as proxies_of
from evo.printable import say
from evo.proxies import loop as proxies
from evo.record import trust
from evo.record.facts import Facts
from evo.record.ledger import FILE, read
from evo.reuse.earlier import read_for
from evo.rounds import loop
from evo.rounds.loop import Watching
from evo.storage.following import mirrored
from evo.tracking.follower import following

CONFIG = "config.yaml"
__all__ = ["Watching", "launch", "launch_or_resume", "resume"]


def launch(
    config: SearchConfig, folder: Path, watching: Watching, earlier: Sequence[Path] = ()
) -> bool:
    """Launch a new run in a folder; True if it finished.

    `earlier` are run folders and tables whose scores are imported. The code that the spec names is
    trusted on this machine from now on, see `evo.record.trust`.
    """
    known = read_for(config, earlier)
    trust.remember(configuration.to_plain(config))
    run.check_new(config, folder)
    with mirrored(config.mirror, folder, _tell, new=True), following(config, folder):
        if config.rounds is not None:
            return loop.launch(config, folder, watching)
        if config.model.proxies:
            return proxies.launch(config, folder, watching, known)
        with watching(config, folder) as watch:
            return run.launch(config, folder, watch, earlier=known)


def launch_or_resume(
    config: SearchConfig, folder: Path, watching: Watching, earlier: Sequence[Path] = ()
) -> bool:
    """Launch a run, or resume the one that the folder has already; True if it finished.

    This is for a command that is started again after anything, such as a job of a cluster. Raises
    InputError if the spec differs from the run's in more than a resume may change.
    """
    if not (folder / FILE).exists():
        return launch(config, folder, watching, earlier)
    facts = read(folder)
    begun = configuration.of(facts)
    config = run.settled_as(begun, config)
    run.check_changes(folder, begun, config)
    trust.remember(configuration.to_plain(config))
    _check_all_code(folder, facts, trusted=False)
    return _continue(folder, config, watching)


def resume(
    folder: Path, overrides: Sequence[str], watching: Watching, *, trusted: bool = False
) -> bool:
    """Resume a run that was stopped or killed; True if it finished.

    Refuses code that was not launched on this machine, unless it is `trusted`. This comes first,
    since checking a spec imports the modules that it names.
    """
    facts = read(folder)
    _check_all_code(folder, facts, trusted=trusted)
    return _continue(folder, run.reloaded(folder, facts, overrides), watching)


def _continue(folder: Path, config: SearchConfig, watching: Watching) -> bool:
    with mirrored(config.mirror, folder, _tell), following(config, folder):
        if config.rounds is not None:
            return loop.resume(folder, config, watching)
        if config.model.proxies:
            return proxies.resume(folder, config, watching)
        with watching(config, folder) as watch:
            return run.continue_search(folder, config, watch)


def _check_all_code(folder: Path, facts: Facts, *, trusted: bool) -> None:
    """Check trust in the code named by a run, and by the searches of its proxies."""
    _check_code(folder, facts, configuration.of(facts), trusted=trusted)
    for own in proxies_of(folder, facts):
        known = read(own)
        _check_code(own, known, configuration.of(known), trusted=trusted)


def _tell(line: str) -> None:
    """Print a message about the mirror; a closed standard error is no reason to end a search."""
    with suppress(OSError):
        say(f"evo: {line}", error=True)


def _check_code(folder: Path, facts: Facts, config: SearchConfig, *, trusted: bool) -> None:
    """Check trust in the code named by the ledger and by the spec file in the run folder.

    Overrides on the command line are the user's own and are not checked.
    """
    code = trust.code_of_run(folder, facts, configuration.to_plain(config))
    trust.check(folder, code, config.import_from, trust=trusted)
    if (folder / CONFIG).is_file():
        spec = read_spec(folder / CONFIG).data
        named = str(spec.get("import_from", "."))
        trust.check(folder, trust.code_in(spec), str(folder / named), trust=trusted)
