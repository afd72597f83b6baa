"""Simulated mixtures: experts of one source each, summed by the shares of a mixture, not trained.

weights = base + sum over sources of share * (expert - base), exact for all weights and for
adapters, whose products b @ a are summed and not their factors. Wang et al. 2026, MergeMix
(arXiv:2601.17858): scores of such sums rank mixtures nearly as fine-tunes on them do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fitness.merging.lineage import Factors, StartingWeights, read
from fitness.models.base import Base
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

Shares = Mapping[str, float]


@dataclass(frozen=True)
class Experts:
    """Experts by source, read once; `recipe` prepares a base that can hold any sum of them."""

    recipe: Recipe
    sources: Sequence[str]
    summed: Callable[[Sequence[float]], StartingWeights]

    @classmethod
    def of(cls, base: Base, recipe: Recipe, folders: Mapping[str, Path]) -> "Experts":
        """Read the checkpoints of fine-tunes of the base by one recipe, by source."""
        if not folders:  # in a process that does not score
            return cls(recipe, (), lambda shares: StartingWeights())
        if recipe.adapter == "none":
            return cls(recipe, tuple(folders), _all(base, list(folders.values())))
        parts = [read(folder, base.head) for folder in folders.values()]
        rank = sum(next(iter(part.factors.values())).b.shape[1] for part in parts)
        wide = {"lora_rank": rank, "lora_alpha": float(rank), "lora_scaling": "standard"}
        return cls(recipe.model_copy(update=wide), tuple(folders), _factors(parts))

    def mixed(self, shares: Shares) -> StartingWeights:
        """Weights of a mixture of the experts' sources."""
        return self.summed([shares.get(source, 0.0) for source in self.sources])


def _all(base: Base, folders: Sequence[Path]) -> Callable[[Sequence[float]], StartingWeights]:
    """Sums of all weights; in memory are one float32 copy of the base, and one for each expert."""
    untouched = {name: weight.data.float().cpu() for name, weight in base.model.named_parameters()}
    changes: list[Mapping[str, Tensor]] = []
    for folder in folders:
        change = read(folder, base.head).all
        for name, weight in untouched.items():
            change[name].sub_(weight)  # in place: a second copy of each expert may not fit
        changes.append(change)

    def summed(shares: Sequence[float]) -> StartingWeights:
        weights = {}
        for name, weight in untouched.items():
            total: Tensor = weight.clone()
            for share, change in zip(shares, changes, strict=True):
                if share:
                    total.add_(change[name], alpha=share)
            weights[name] = total
        return StartingWeights(all=weights)

    return summed


def _factors(parts: Sequence[StartingWeights]) -> Callable[[Sequence[float]], StartingWeights]:
    import torch

    modules = parts[0].factors
    wide = {name: torch.cat([part.factors[name].a for part in parts]) for name in modules}

    def summed(shares: Sequence[float]) -> StartingWeights:
        factors = {}
        for name in modules:
            tall = [
                share * part.factors[name].scale * part.factors[name].b
                for share, part in zip(shares, parts, strict=True)
            ]
            factors[name] = Factors(torch.cat(tall, dim=1), wide[name], 1.0)
        return StartingWeights(factors=factors)

    return summed
