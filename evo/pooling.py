"""What becomes of a round's samples: each is scored once, and they join the pool, or do not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evo import texts
from evo.config import SearchConfig
from evo.config.rounds import JUDGEMENTS, Rounds
from evo.files import write_whole
from evo.generate import DOCUMENTS
from fitness import folders
from fitness.feedback.contamination import CONTAMINATED
from fitness.feedback.diversity import diversity
from fitness.feedback.filters import Given, needs, scored
from fitness.feedback.samples import Sample, read_samples, sample_in, to_lines
from fitness.feedback.thresholds import CONTAMINATION

POOL_FILE = "pool.jsonl"
DUPLICATE = "duplicate"  # which goes by the whole pool


@dataclass(frozen=True, slots=True)
class Yield:
    """What a round's writing came to; plain numbers for the ledger."""

    written: int
    contaminated: int
    diversity: Mapping[str, float]
    collapsed: bool
    pool: int  # samples in the pool after it


def real_texts(
    config: SearchConfig, mixture: Mapping[str, float], rng: np.random.Generator
) -> list[str]:
    """What samples begin with and are compared with: of `rounds.like`, else by the mixture."""
    assert config.rounds is not None
    names = config.rounds.like or tuple(config.sources)
    shares = {name: 1.0 if config.rounds.like else mixture.get(name, 0.0) for name in names}
    total = sum(shares.values())
    even = 1 / len(names)  # where the mixture has nothing of them
    shares = {name: share / total if total else even for name, share in shares.items()}
    return texts.documents(config, shares, DOCUMENTS, rng)


def score(
    config: SearchConfig, samples: Sequence[Sample], earlier: Sequence[Sample], real: Sequence[str]
) -> list[Sample]:
    """The samples, with the scores that the workers have not given them yet."""
    from fitness.models import Base

    assert config.rounds is not None
    left = [name for name in config.rounds.filters if needs(name) not in ("base", JUDGEMENTS)]
    second = config.rounds.second
    given = Given(
        seed=config.seed,
        second=Base(folders.locate(second)) if second and "likelihood" in left else None,
        real=real,
        training=lambda: texts.training(config),
        evaluated=texts.evaluated(config),
    )
    found = scored(samples, [name for name in left if name != DUPLICATE], given)
    if DUPLICATE in left:
        found = scored([*earlier, *found], [DUPLICATE], given)[len(earlier) :]
    return scored(found, [CONTAMINATION], given)  # whatever the spec's filters are


def pooled(
    rounds: Rounds,
    samples: Sequence[Sample],
    earlier: Sequence[Sample],
    real: Sequence[str],
    to: Path,
    judge: Callable[[Sequence[Sample]], list[Sample]] = list,
) -> Yield:
    """Write the pool after a round: what was there, and the round's samples unless they collapsed.

    `judge` adds what people's judgements say of all of them by now. Contaminated ones stay in the
    file, as evidence; no search ever learns them.
    """
    completions = [one.completion for one in samples]
    measured = diversity(completions, real)
    collapsed = measured["distinct_ratio"] < rounds.diversity
    whole = [*earlier, *([] if collapsed else samples)]
    once = {one.id: one for one in reversed(whole)}  # the first of equal ones
    kept = judge([one for one in whole if once[one.id] is one])
    write_samples(to, kept)
    dirty = sum(one.scores.get(CONTAMINATION, 0.0) >= CONTAMINATED for one in samples)
    clean = sum(one.scores.get(CONTAMINATION, 0.0) < CONTAMINATED for one in kept)
    return Yield(len(samples), dirty, measured, collapsed, clean)


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    write_whole(path, "".join(to_lines(samples)))


def read_pool(path: Path | None) -> list[Sample]:
    return list(read_samples(path)) if path is not None else []


def samples_of(facts: Sequence[Mapping[str, Any]], where: Path) -> list[Sample]:
    """What a round's individuals wrote, in the order of writers and seeds, by its ledger."""
    written = [
        fact
        for fact in facts
        if fact["fact"] == "evaluation" and fact["split"] == "samples" and fact["status"] == "ok"
    ]
    written.sort(key=lambda fact: fact["seed"])
    found = [
        sample_in(record, f"{where}: individual {fact['individual']}, seed {fact['seed']}")
        for fact in written
        for record in fact["details"].get("samples", ())
    ]
    first = {one.id: one for one in reversed(found)}
    return [one for one in found if first[one.id] is one]
