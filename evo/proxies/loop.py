"""Proxies: search mixtures on smaller models, then on the base model, guided by what they scored.

Each proxy's search is a run folder of its own within the run, with a spec derived from the run's
spec. The run's own ledger begins before them. Once a proxy's search has finished, its scores are
imported into that ledger, so that the base's search needs none of the proxies' folders.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from evo import config as configuration
from evo import run
from evo.config import SearchConfig
from evo.history.proxies import folder_of, pending
from evo.prepare.task import Prepared, prepare, versions
from evo.progress.live import Progress
from evo.proxies.spec import spec_of
from evo.record import run_folder
from evo.record.facts import launch_of
from evo.record.ledger import FILE, Ledger, read
from evo.record.state import state
from evo.reuse.earlier import Earlier, read_for
from evo.reuse.imports import Import, fact_of, notes
from evo.reuse.pairing import Pairing
from fitness.errors import InputError
from fitness.models import folders

Watching = Callable[[SearchConfig, Path], AbstractContextManager[Progress]]


def launch(
    config: SearchConfig, folder: Path, watching: Watching, earlier: Sequence[Earlier] = ()
) -> bool:
    """Launch a new run with proxies; False if it was stopped. `earlier` guide the base's search."""
    with run_folder.new(folder):
        with watching(config, folder) as watch:
            run.check_new(config, folder)
            watch.enter("checking the proxies")
            prepared(config)
            config = run.begin(config, folder, watch, earlier)
        with Ledger(folder) as ledger:
            finished = _search(config, folder, ledger, watching)
        return finished and _continue(config, folder, watching)


def resume(folder: Path, config: SearchConfig, watching: Watching) -> bool:
    """Resume the unfinished search, and continue with those after it; True if all finished."""
    facts = read(folder)
    begun = configuration.of(facts)
    if pending(facts, len(config.model.proxies)):
        run.check_changes(folder, begun, config)
        with Ledger(folder) as ledger:
            changed = {} if config == begun else {"config": configuration.to_plain(config)}
            ledger.append("resumed", time=time.time(), versions=versions(), **changed)
            if not _search(config, folder, ledger, watching):
                return False
    return _continue(config, folder, watching)


def prepared(config: SearchConfig) -> list[tuple[SearchConfig, Prepared]]:
    """Check each proxy's model and data as a launch does; its spec and task. Raises InputError."""
    bases = {folders.fingerprint(folders.locate(config.model.base)): "model.base"}
    found = []
    for number, proxy in enumerate(config.model.proxies, 1):
        spec, key = spec_of(config, number), f"model.proxies.{number - 1}.base"
        try:
            ready = prepare(spec)
        except InputError as error:
            raise InputError(f"{key}: {proxy.base}: {error}") from None
        weights = str(ready.fingerprints["model"])
        if weights in bases:
            raise InputError(
                f"{key}: {proxy.base} has the same weights as {bases[weights]}; name a smaller "
                "model, or leave this one out"
            )
        bases[weights] = key
        found.append((spec, ready))
    return found


def _search(config: SearchConfig, folder: Path, ledger: Ledger, watching: Watching) -> bool:
    """Search on each proxy whose scores the run does not have, and import them.

    False if it was stopped.
    """
    fingerprints = launch_of(read(folder))["fingerprints"]
    for number in pending(ledger.facts, len(config.model.proxies)):
        own, spec = folder_of(folder, number), spec_of(config, number)
        with watching(spec, own) as watch:
            if not _finished(spec, own, watch, [folder_of(folder, n) for n in range(1, number)]):
                ledger.append("stopped", time=time.time())
                return False
            earlier = _scored(config, own, number)
            pair = Pairing(earlier, config, fingerprints)
            found = Import(pair, {**fact_of(pair), "proxy": number})
            for note in notes(found):
                watch.note(note)
            watch(ledger.append(**found.fact))
    return True


def _scored(config: SearchConfig, own: Path, number: int) -> Earlier:
    """The scores of a proxy's finished search. InputError if every fine-tune of it failed."""
    try:
        [earlier] = read_for(config, [own])
    except InputError as error:
        raise InputError(
            f"model.proxies.{number - 1}: its search in {own} gives no scores ({error}); see "
            f"`evo history {own}` for why, and launch again with another proxy or without it"
        ) from None
    return earlier


def _finished(spec: SearchConfig, own: Path, watch: Progress, before: Sequence[Path]) -> bool:
    """Launch or resume a proxy's search, guided by the proxies before it; False if stopped."""
    if not (own / FILE).exists():
        return run.launch(spec, own, watch, earlier=read_for(spec, before))
    return state(read(own)) == "finished" or run.continue_search(own, spec, watch)


def _continue(config: SearchConfig, folder: Path, watching: Watching) -> bool:
    with watching(config, folder) as watch:
        return run.continue_search(folder, config, watch)
