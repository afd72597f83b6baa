"""The spec of one round: the run's spec, with generated samples and judgements as more sources."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evo.config import SearchConfig
from evo.config.genomes import baseline_names
from evo.config.rounds import ADDED, POOL, WHOLE
from fitness.data.documents import Source
from fitness.data.requirements import Requirements
from fitness.filters import FILTERS
from fitness.mixture.thresholds import score_of_field
from population.space import Simplex

CARRIED = 0.5  # largest share of the first population that genomes of earlier rounds may fill


@dataclass(frozen=True, slots=True)
class Legacy:
    """Results of earlier rounds for the next: data by source, genomes, and a model."""

    files: Mapping[str, Path]
    genomes: Sequence[Mapping[str, object]]  # the best of them first; none before a search
    best: Path | None = None  # a model folder, if rounds start from the best model so far
    scores: frozenset[str] = frozenset()  # that samples of the pool have, and that say something


def first_spec(config: SearchConfig) -> SearchConfig:
    """Spec of the first round, in which there are no generated samples yet."""
    recipe = {name: value for name, value in config.recipe.items() if not score_of_field(name)}
    genome = {name: gene for name, gene in config.genome.items() if not score_of_field(name)}
    update = {"rounds": None, "mirror": None, "recipe": recipe, "genome": genome}
    return config.model_copy(update=update)  # the run's mirror has the rounds too


def spec_after(config: SearchConfig, legacy: Legacy) -> SearchConfig:
    """Spec of a later round: the same search over more sources, seeded with earlier genomes.

    These have no share of the new sources. With a pool there are two more: the best with half the
    share that it may have, and all of that share under the recipe's own hyperparameters, since the
    best ones of a round without a pool may be too small to learn from it. Baselines are those of
    the first search only.
    """
    assert config.rounds is not None
    new = {name: Source(path=str(path), kind=ADDED[name]) for name, path in legacy.files.items()}
    beside: dict[str, Source] = {}
    if POOL in new:
        wanted = {name: getattr(config.rounds, name) for name in Requirements.model_fields}
        beside = {WHOLE: new[POOL]} if any(wanted.values()) else {}
        new[POOL] = new[POOL].model_copy(update=wanted)
    most = 1.0 - config.rounds.real_share if config.sources else 1.0
    genome = {
        name: widened(gene, tuple(new), most) if isinstance(gene, Simplex) else gene
        for name, gene in config.genome.items()
        if not absent(name, legacy.scores)
    }
    recipe = {n: value for n, value in config.recipe.items() if not absent(n, legacy.scores)}
    bare = config.model_copy(
        update={
            "rounds": None,
            "mirror": None,
            "sources": {**config.sources, **new, **beside},
            "recipe": recipe,
            "genome": genome,
            "baselines": () if legacy.genomes else config.baselines,
        }
    )
    room = int(CARRIED * config.search.population) - len(baseline_names(bare))
    genomes = [
        {name: value for name, value in one.items() if not absent(name, legacy.scores)}
        for one in legacy.genomes
    ]
    if POOL in new:
        even = {"mixture": {name: 1 / len(config.sources) for name in config.sources}}
        first = genomes[0] if genomes else even
        whole = {"mixture": _with_pool(first, most)["mixture"]}
        half = [_with_pool(first, most / 2)] if config.sources else []
        genomes = [*genomes[:1], whole, *half, *genomes[1:]]
    update: dict[str, Any] = {"known": tuple(genomes[: max(1, room)])}
    if legacy.best is not None:
        update["model"] = config.model.model_copy(update={"base": str(legacy.best)})
    return bare.model_copy(update=update)


def absent(field: str, scores: Collection[str]) -> bool:
    """True if a field of the recipe is a threshold of a score that no sample has, or of noise."""
    name = score_of_field(field)
    if name is None:
        return False
    return name not in scores if name in FILTERS else not scores


def widened(gene: Simplex, new: Sequence[str], most: float) -> Simplex:
    """The mixture gene extended to new sources; the pool's share is at most `most`."""
    cap = gene.cap if isinstance(gene.cap, dict) else dict.fromkeys(gene.over, gene.cap)
    floor = gene.floor if isinstance(gene.floor, dict) else dict.fromkeys(gene.over, gene.floor)
    if POOL in new:
        cap = {**cap, POOL: most}
    return replace(gene, over=(*gene.over, *new), floor=floor, cap=cap)


def _with_pool(genome: Mapping[str, Any], share: float) -> dict[str, Any]:
    mixture = {name: weight * (1 - share) for name, weight in genome["mixture"].items()}
    return {**genome, "mixture": {**mixture, POOL: mixture.get(POOL, 0.0) + share}}


def different(genomes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Genomes without repeats, and without absent sources and thresholds of an absent pool."""
    found: list[dict[str, Any]] = []
    for genome in genomes:
        mixture = {name: share for name, share in genome["mixture"].items() if share}
        cutting = POOL in mixture
        plain = {
            name: value for name, value in genome.items() if cutting or not score_of_field(name)
        }
        plain["mixture"] = mixture
        if plain not in found:
            found.append(plain)
    return found
