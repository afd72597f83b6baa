"""Samples from the quickstart's real texts."""

from dataclasses import replace
from pathlib import Path

from fitness.data.documents import Source
from fitness.data.samples import Sample, to_lines
from fitness.data.sources import TokenFile, tokenise
from fitness.samples.references import texts_of
from tests.fitness.quickstart import CORPUS, MODEL

JARGON = list(texts_of(Source(path="held_out/jargon.selection.jsonl"), CORPUS))


def sample(completion: str, prompt: str = "", **scores: float) -> Sample:
    return Sample(prompt, completion, individual=1, seed=2, scores=scores)


def good(count: int) -> list[Sample]:
    """Real held-back text of the target domain, some 40 words each."""
    parts = [text.split()[:44] for text in JARGON[:count]]
    return [sample(" " + " ".join(part[4:]), " ".join(part[:4])) for part in parts]


def numbered(samples: list[Sample], **columns: list[float]) -> list[Sample]:
    """Samples with scores by name, one for each sample."""
    return [
        replace(one, scores={name: values[place] for name, values in columns.items()})
        for place, one in enumerate(samples)
    ]


def written(samples: list[Sample], folder: Path) -> Path:
    path = folder / "pool.jsonl"
    path.write_text("".join(to_lines(samples)), encoding="utf-8")
    return path


def pool_file(samples: list[Sample], folder: Path, *, without: tuple[str, ...] = ()) -> TokenFile:
    source = Source(path=str(written(samples, folder)), kind="sample")
    return tokenise("sources.pool", source, folder, MODEL, folder, without=without)
