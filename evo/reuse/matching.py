"""Matching of the sources, genes and genomes of an earlier search with those of a new one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evo.config import SearchConfig
from evo.config.genomes import mixed_sources
from evo.reuse.conditions import recorded
from population.space import AnyGene, Choice, Genome, SearchSpace, Simplex

MIXTURE = "mixture"
MOST_DROPPED = 0.5  # share of a mixture that may be in sources which the new search lacks
DROPPED = "more than half of the mixture is in sources that this spec lacks"

Contents = Mapping[str, object]  # fingerprint of each source; None where there is none


class Unfit(ValueError):
    """A genome that cannot be taken over, with the reason."""


@dataclass(frozen=True)
class Sources:
    """Matched sources; `of` has the earlier run's by those of this run."""

    of: Mapping[str, str]
    same: frozenset[str]  # of equal name and content, so that the same is drawn from them
    changed: tuple[str, ...]  # of equal name and other content
    new: tuple[str, ...]
    dropped: tuple[str, ...]  # of the earlier run


def contents(config: SearchConfig, fingerprints: Mapping[str, Any]) -> dict[str, object]:
    """Fingerprint by source, or by part of a merge."""
    known = recorded(fingerprints, "parts" if config.parts else "sources")
    return {name: known.get(name) for name in mixed_sources(config)}


def contents_of_genes(genes: Mapping[str, AnyGene]) -> dict[str, object]:
    """The sources of a table's mixture, of whose contents nothing is known."""
    gene = genes.get(MIXTURE)
    return dict.fromkeys(gene.over) if isinstance(gene, Simplex) else {}


def matched(earlier: Contents, now: Contents) -> Sources:
    """Match sources by name and content, then by content, then by name; each at most once."""
    of: dict[str, str] = {}

    def match(name: str, candidates: list[str]) -> None:
        free = [one for one in candidates if one not in of.values()]
        if name not in of and free:
            of[name] = free[0]

    for name, content in now.items():
        match(name, [name] if name in earlier and earlier[name] == content else [])
    same = frozenset(of)
    for name, content in now.items():
        match(name, [one for one in earlier if content is not None and earlier[one] == content])
    for name in now:
        match(name, [name] if name in earlier else [])
    return Sources(
        {name: of[name] for name in now if name in of},
        same,
        tuple(name for name in now if of.get(name) == name and name not in same),
        tuple(name for name in now if name not in of),
        tuple(name for name in earlier if name not in of.values()),
    )


def common_genes(earlier: Mapping[str, AnyGene], now: Mapping[str, AnyGene]) -> dict[str, AnyGene]:
    """Genes of the new search that the earlier one has too, of equal name and type.

    Conditions (`when`) on a gene that is not among them are left out.
    """
    common = {name: gene for name, gene in now.items() if type(earlier.get(name)) is type(gene)}
    found = {}
    for name, gene in common.items():
        when = {other: values for other, values in (gene.when or {}).items() if other in common}
        found[name] = replace(gene, when=when or None)
    return found


def translated(values: Mapping[str, Any], space: SearchSpace, sources: Sources) -> Genome:
    """Values of an earlier search as a genome of the common genes, within their bounds.

    Raises Unfit where too much of the mixture is dropped, or a choice is none here.
    """
    found = {}
    for name, gene in space.genes.items():
        if name not in values and name == MIXTURE:
            raise Unfit("without a mixture")
        if name not in values:
            continue
        value = values[name]
        if isinstance(gene, Choice) and value not in gene.options:
            raise Unfit(f"{name} is {value!r}, which is no option of this spec")
        if isinstance(gene, Simplex):
            same = dict(zip(gene.over, gene.over, strict=True))
            value = _renamed(value, sources.of if name == MIXTURE else same)
        found[name] = value
    return space.repair(found)


def _renamed(shares: Mapping[str, float], of: Mapping[str, str]) -> dict[str, float]:
    """Shares by the sources of this run, which sum to 1; new ones have none."""
    kept = {name: shares.get(earlier, 0.0) for name, earlier in of.items()}
    total, whole = sum(kept.values()), sum(shares.values())
    if total <= 0 or total < (1 - MOST_DROPPED) * whole:
        raise Unfit(DROPPED)
    return {name: share / total for name, share in kept.items()}
