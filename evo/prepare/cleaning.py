"""Cleaning of the sources of a spec (`cleaning`), and what it dropped."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from evo.config import SearchConfig
from fitness.cleaning.files import Cleaned, cleaned
from fitness.data.prompts import Prompts
from fitness.evaluation import Split
from fitness.files import cache_folder
from fitness.samples.references import evaluated_texts


def cleaned_sources(
    config: SearchConfig, prompts: Mapping[str, Mapping[Split, Prompts]]
) -> dict[str, Cleaned]:
    """The cleaned sources by name; none where the spec cleans nothing. Raises InputError."""
    settings = config.cleaning
    if settings is None:
        return {}
    names = settings.sources or [n for n, one in config.sources.items() if one.kind != "sample"]
    evaluated: Iterable[str] = ()
    if settings.held_out:
        halves = (half for domain in config.domains.values() for half in domain.splits().values())
        asked = (split for splits in prompts.values() for split in splits.values())
        evaluated = evaluated_texts(halves, asked, Path.cwd())
    sources = {name: config.sources[name] for name in names}
    return cleaned(sources, settings, list(evaluated), Path.cwd(), cache_folder())


def dropped_notes(made: Mapping[str, Cleaned]) -> Iterator[str]:
    """Sentences on the documents that cleaning dropped, by source and reason."""
    for name, one in made.items():
        if one.dropped:
            yield (
                f"sources.{name}: cleaning dropped {one.read - one.kept:,} of {one.read:,} "
                f"documents ({one.reasons})"
            )
