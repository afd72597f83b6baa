"""What `evo launch` and `evo resume` drive: one search, or rounds of them."""

from collections.abc import Sequence
from pathlib import Path

from evo import config as configuration
from evo import rounds, run
from evo.config import SearchConfig
from evo.ledger import read
from evo.rounds import Watching

__all__ = ["Watching", "launch", "resume"]


def launch(config: SearchConfig, folder: Path, watching: Watching) -> bool:
    """A new run in a folder; whether it finished."""
    if config.rounds is not None:
        return rounds.launch(config, folder, watching)
    with watching(config, folder) as watch:
        return run.launch(config, folder, watch)


def resume(folder: Path, overrides: Sequence[str], watching: Watching) -> bool:
    """Go on with a run after anything at all; whether it finished."""
    config = configuration.of(read(folder))
    if config.rounds is not None:
        return rounds.resume(folder, overrides, watching)
    with watching(config, folder) as watch:
        return run.resume(folder, overrides, watch)
