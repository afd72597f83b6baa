"""Cleaning of the sources of a spec (`cleaning`), and what it dropped."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from evo.config import SearchConfig
from evo.prepare.evaluated import evaluated
from fitness.cleaning.files import Cleaned, cleaned
from fitness.data.prompts import Prompts
from fitness.files import cache_folder


def cleaned_sources(config: SearchConfig, prompts: Iterable[Prompts]) -> dict[str, Cleaned]:
    """The cleaned sources by name; none where the spec cleans nothing. Raises InputError."""
    settings = config.cleaning
    if settings is None:
        return {}
    names = settings.sources or [n for n, one in config.sources.items() if one.kind != "sample"]
    held_out = evaluated(config, prompts) if settings.held_out else []
    sources = {name: config.sources[name] for name in names}
    return cleaned(sources, settings, held_out, Path.cwd(), cache_folder())


def dropped_notes(made: Mapping[str, Cleaned]) -> Iterator[str]:
    """One sentence on the documents that cleaning dropped, by source and reason, if any."""
    less = {name: one for name, one in made.items() if one.dropped}
    if less:
        read = sum(one.read for one in made.values())
        dropped = sum(one.read - one.kept for one in less.values())
        listed = "; ".join(f"of {name} {one.reasons}" for name, one in less.items())
        yield f"cleaning dropped {dropped:,} of {read:,} documents: {listed}"
