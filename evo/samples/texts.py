"""The real texts of a search: its training texts, and its evaluation texts."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from evo.config import SearchConfig
from fitness.data.prompts import Prompts, read_prompts
from fitness.errors import InputError
from fitness.models import folders
from fitness.samples.references import drawn, evaluated_texts, texts_of
from fitness.suggest import listed


def documents(
    config: SearchConfig, mixture: Mapping[str, float], count: int, rng: np.random.Generator
) -> list[str]:
    """About `count` texts, from each source by its share of a mixture; all texts of a small one.

    None for a merge of parts. Raises InputError for a name that is no source.
    """
    if config.parts:
        return []
    found: list[str] = []
    for name, share in mixture.items():
        wanted = round(count * share)
        if wanted and name not in config.sources:
            raise InputError(
                f"source {name!r}: has a share of {share:.3g} and is not among the run's sources, "
                f"which are {listed(config.sources)}; choose another individual"
            )
        if wanted:
            found += drawn(texts_of(config.sources[name], Path.cwd()), wanted, rng)
    return found


def training(config: SearchConfig) -> Iterator[str]:
    """Stream all training texts of a search, except generated samples."""
    for source in config.sources.values():
        if source.kind != "sample":
            yield from texts_of(source, Path.cwd())


def evaluated(config: SearchConfig, prompts: Iterable[Prompts] | None = None) -> list[str]:
    """All evaluation texts of a search, of the selection and the test split.

    `prompts` are all of its prompt sets, where they are read already.
    """
    halves = (half for domain in config.domains.values() for half in domain.splits().values())
    asked = _asked(config) if prompts is None else prompts
    return evaluated_texts(halves, asked, Path.cwd())


def _asked(config: SearchConfig) -> Iterator[Prompts]:
    folder = folders.locate(config.model.base)
    for name, prompt_set in config.prompts.items():
        for split, path in prompt_set.files().items():
            yield read_prompts(f"prompts.{name}.{split}", path, prompt_set, folder)
