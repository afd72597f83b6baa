"""The real texts of a search: what its models learn from, and what they are measured on."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from evo.config import SearchConfig
from fitness import folders
from fitness.feedback.references import drawn, evaluated_texts, texts_of
from fitness.generation import read_prompts


def documents(
    config: SearchConfig, mixture: Mapping[str, float], count: int, rng: np.random.Generator
) -> list[str]:
    """About `count` texts, of each source by its share of a mixture; of a small one all it has.

    The mixture may name sources that hold no real texts, or none of this search: they have no part.
    """
    real = {
        name: share
        for name, share in mixture.items()
        if name in config.sources and config.sources[name].kind != "sample"
    }
    total = sum(real.values())
    found: list[str] = []
    for name, share in real.items():
        if wanted := round(count * share / total):
            found += drawn(texts_of(config.sources[name], Path.cwd()), wanted, rng)
    return found


def training(config: SearchConfig) -> Iterator[str]:
    """Stream all that people wrote of what a search may train on."""
    for source in config.sources.values():
        if source.kind != "sample":
            yield from texts_of(source, Path.cwd())


def evaluated(config: SearchConfig) -> list[str]:
    """All that a search measures on, selection and test."""
    folder = folders.locate(config.model.base)
    halves = (half for domain in config.domains.values() for half in domain.splits().values())
    asked = (
        read_prompts(f"prompts.{name}.{split}", path, prompt_set, folder)
        for name, prompt_set in config.prompts.items()
        for split, path in prompt_set.files().items()
    )
    return evaluated_texts(halves, asked, Path.cwd())
