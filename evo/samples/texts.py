"""The training texts of a search."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from evo.config import SearchConfig
from fitness.errors import InputError
from fitness.samples.references import drawn, texts_of
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
