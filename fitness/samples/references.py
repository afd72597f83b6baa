"""Texts that samples are compared with: training texts and evaluation texts."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from fitness.checks.table import alternatives
from fitness.data.documents import Half, Source, documents, records, strings_of
from fitness.data.prompts import Prompts


def texts_of(source: Source, base: Path, half: Half | None = None) -> Iterator[str]:
    """Stream a source's documents; of records, all their texts. Errors as in `documents`."""
    if source.kind == "text":
        yield from documents(source, base, half=half)
        return
    for _, record in records(source, base, half=half):
        said = " ".join(strings_of(record, source))
        if said:
            yield said


def evaluated_texts(
    held_out: Iterable[tuple[Source, Half | None]], prompts: Iterable[Prompts], base: Path
) -> list[str]:
    """All evaluation texts of a search, selection and test, which no sample may contain.

    Held-out documents, each prompt, and each prompt with its reference; equal ones once.
    """
    found = [text for source, half in held_out for text in texts_of(source, base, half)]
    for asked in prompts:
        found += asked.prompts
        pairs = zip(asked.prompts, asked.references, strict=True)
        found += [f"{prompt} {one}" for prompt, each in pairs for one in alternatives(each)]
    return list(dict.fromkeys(found))


def drawn(texts: Iterable[str], count: int, rng: np.random.Generator) -> list[str]:
    """Random sample of at most `count` texts of a stream, uniform (Vitter 1985, algorithm R)."""
    kept: list[str] = []
    for number, text in enumerate(texts):
        if number < count:
            kept.append(text)
        elif (place := int(rng.integers(number + 1))) < count:
            kept[place] = text
    return kept
