"""The pool of samples over the rounds: scores of new samples, and whether they are added."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from evo.config import SearchConfig
from evo.config.rounds import Rounds
from evo.prepare.evaluated import evaluated
from evo.record.facts import Evaluated, Facts, samples
from evo.samples import texts
from evo.samples.generate import DOCUMENTS
from fitness.data.samples import Sample, read_samples, sample_in, to_lines
from fitness.facts import as_lines
from fitness.files import write_whole
from fitness.filters import CONTAMINATION, REALNESS, needs
from fitness.models import folders
from fitness.samples.contamination import is_contaminated
from fitness.samples.diversity import diversity
from fitness.samples.pairs import pairs
from fitness.samples.scoring import Given, scored
from fitness.samples.separation import separation, write_separation

PAIRS_FILE = "pairs.jsonl"  # in the folder of a round
DUPLICATE = "duplicate"  # the filter that compares a sample with the whole pool


@dataclass(frozen=True, slots=True)
class Yield:
    """Counts of a round's samples; plain numbers for the ledger."""

    written: int
    contaminated: int
    met: int  # that meet the requirements of the rounds
    diversity: Mapping[str, float]
    collapsed: bool
    pool: int  # samples of the pool after it that may be trained on
    pairs: int = 0  # of right and wrong samples of that pool
    discriminator: Mapping[str, float] = field(default_factory=dict)  # see `Separation`


def real_texts(
    config: SearchConfig, mixture: Mapping[str, float], rng: np.random.Generator
) -> list[str]:
    """Real texts to start from and to compare with: of `rounds.like`, else by the mixture.

    None where there are no sources.
    """
    assert config.rounds is not None
    names = config.rounds.like or tuple(config.sources)
    if not names:
        return []
    shares = {name: 1.0 if config.rounds.like else mixture.get(name, 0.0) for name in names}
    total = sum(shares.values())
    even = 1 / len(names)  # where the mixture has nothing of them
    shares = {name: share / total if total else even for name, share in shares.items()}
    return texts.documents(config, shares, DOCUMENTS, rng)


def score(
    config: SearchConfig, samples: Sequence[Sample], earlier: Sequence[Sample], real: Sequence[str]
) -> list[Sample]:
    """Add the scores of filters that the workers do not compute."""
    from fitness.models.base import Base

    assert config.rounds is not None
    wanted = dict.fromkeys([*config.rounds.filters, CONTAMINATION])  # which is always scored
    left = [name for name in wanted if needs(name) not in ("base", "judgements")]
    second = config.rounds.second
    given = Given(
        seed=config.seed,
        second=Base(folders.locate(second)) if second and "likelihood" in left else None,
        real=real,
        training=lambda: texts.training(config),
        evaluated=evaluated(config),
    )
    new = scored(samples, [name for name in left if name != DUPLICATE], given)
    if DUPLICATE in left:
        new = scored([*earlier, *new], [DUPLICATE], given)[len(earlier) :]
    return new


def pooled(
    rounds: Rounds,
    samples: Sequence[Sample],
    earlier: Sequence[Sample],
    real: Sequence[str],
    to: Path,
    judge: Callable[[Sequence[Sample]], list[Sample]] = list,
    *,
    seed: int = 0,
) -> Yield:
    """Write the pool after a round: the earlier pool, and the round's samples unless collapsed.

    Samples have collapsed if their diversity is below `rounds.diversity`. `judge` adds the scores
    from people's judgements so far to all. Contaminated samples stay in the file, as evidence; no
    search trains on them. Pairs are written beside it, and how well the discriminator behind the
    filter `realness` tells the round's samples, by `seed`.
    """
    completions = [one.completion for one in samples]
    measured = diversity(completions, real)
    collapsed = measured["distinct_ratio"] < rounds.diversity
    every = judge(once([*earlier, *samples]))
    new, old = ({one.id for one in many} for many in (samples, earlier))
    kept = [one for one in every if one.id in old or not collapsed]
    write_samples(to, kept)
    dirty = sum(map(is_contaminated, samples))
    clean = [one for one in kept if not is_contaminated(one)]
    left, met = rounds.learned(clean), sum(one.id in new for one in rounds.met(every))
    made = pairs(clean, {one.id for one in rounds.met(clean)}, rounds.pairs)
    if made:
        write_whole(to.with_name(PAIRS_FILE), as_lines(made))
    apart = None
    if any(REALNESS in one.scores for one in samples):
        apart = separation(samples, real, seed=seed)
        write_separation(to, apart)
    told = asdict(apart) if apart else {}
    return Yield(len(samples), dirty, met, measured, collapsed, len(left), len(made), told)


def once(samples: Iterable[Sample]) -> list[Sample]:
    """Samples without repeats, the first of equal ones, in order."""
    first: dict[str, Sample] = {}
    for one in samples:
        first.setdefault(one.id, one)
    return list(first.values())


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    write_whole(path, "".join(to_lines(samples)))


def read_pool(path: Path | None) -> list[Sample]:
    return list(read_samples(path)) if path is not None else []


def written(facts: Facts) -> list[Evaluated]:
    """Evaluations in which a round's individuals generated samples, in the order of their seeds."""
    found = [
        fact
        for fact in facts
        if fact["fact"] == "evaluation" and fact["split"] == "samples" and fact["status"] == "ok"
    ]
    return sorted(found, key=lambda fact: fact["seed"])


def samples_of(facts: Facts, where: Path) -> list[Sample]:
    """Samples that a round's individuals generated, in the order of seeds, from its ledger."""
    return once(
        sample_in(record, f"{where}: individual {fact['individual']}, seed {fact['seed']}")
        for fact in written(facts)
        for records in samples(fact).values()
        for record in records
    )
