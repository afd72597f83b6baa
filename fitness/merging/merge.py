"""Merging fine-tunes without training: of adapters by PEFT, of all weights by the same formulas.

Linear and `svd`: weighted sums. TIES: Yadav et al. 2023, sec. 3 (keep the largest changes, elect a
sign, mean of those that agree). DARE: Yu et al. 2024, sec. 3 (drop changes at random, rescale).
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fitness.errors import InputError
from fitness.merging.lineage import Factors, StartingWeights, product, read
from fitness.models import folders, weights
from fitness.models.base import Base
from fitness.models.loading import cuda_devices
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

MERGED = "merged"


@dataclass(frozen=True, slots=True)
class Merge:
    """Settings of a merge: weights of the parts, share of the changes that TIES or DARE keep."""

    weights: tuple[float, ...]
    method: str
    density: float
    scale: float = 1.0  # times the result

    @classmethod
    def of(cls, recipe: Recipe, weights: Sequence[float]) -> "Merge":
        """The settings of a recipe, with these weights of the parts."""
        settings = recipe.merge_method, recipe.merge_density, recipe.merge_scale
        return cls(tuple(weights), *settings)

    @property
    def effective(self) -> list[float]:
        """Weights times the scale; for TIES also times the number of parts.

        TIES divides by the number of parts that agree, which would shrink weights that sum to 1.
        """
        times = self.scale * (len(self.weights) if "ties" in self.method else 1)
        return [times * weight for weight in self.weights]


def start(
    base: Base, recipe: Recipe, folders: Sequence[Path], *, seed: int
) -> StartingWeights | None:
    """Initial weights of a fine-tune, from the folders of its parents; None for the base alone.

    `seed` decides what DARE drops.
    """
    if len(folders) < 2:
        return read(folders[0], base.head) if folders else None
    first = recipe.merge_weight
    how = Merge.of(recipe, (first, 1 - first))
    return merge(base, folders, how, rank=_rank(recipe), seed=seed)


def of_parts(
    base: Base, recipe: Recipe, parts: Mapping[str, Path], *, seed: int
) -> StartingWeights:
    """Merge parts without training, each weighted by its share of the mixture."""
    shares = {name: share for name, share in recipe.mixture.items() if share > 0}
    folders = [parts[name] for name in shares]
    how = Merge.of(recipe, list(shares.values()))
    return merge(base, folders, how, rank=_rank(recipe), seed=seed)


def check_part(key: str, part: Path, base: Path, *, quantised: bool = False) -> None:
    """Raise InputError unless the folder holds a fine-tune of the base, whole or an adapter.

    To a `quantised` base only adapters can be added.
    """
    if not part.is_dir():
        raise InputError(
            f"{key}: there is no folder {str(part)!r}; give one with a PEFT adapter or a model, "
            "such as `evo export` writes"
        )
    if (part / weights.ADAPTER).is_file():
        settings = json.loads((part / weights.ADAPTER).read_text(encoding="utf-8"))
        if settings.get("peft_type") != "LORA" or settings.get("use_dora"):
            raise InputError(f"{key}: {part} is not a plain LoRA adapter; merge it into a model")
        if not (part / "adapter_model.safetensors").is_file():
            raise InputError(f"{key}: {part} has no adapter_model.safetensors; save it there")
        return
    if quantised:
        raise InputError(
            f"{key}: {part} holds no adapter, and to a quantised base only adapters can be added; "
            "leave model.quantisation out, or give adapters alone"
        )
    if not list(part.glob("*.safetensors")) or not (part / "config.json").is_file():
        raise InputError(f"{key}: {part} holds neither a model nor a PEFT adapter in safetensors")
    if sorted(folders.shapes(part)) != sorted(folders.shapes(base)):
        raise InputError(
            f"{key}: the weights in {part} do not have the shapes of the base's in {base}; only "
            "fine-tunes of the same base can be merged"
        )


def fingerprint_of(part: Path) -> str:
    """SHA-256, in hex, over the weights and the configurations beside them."""
    digest = hashlib.sha256()
    for name in sorted({*part.glob("*config.json"), *part.glob("*.safetensors")}):
        digest.update(name.name.encode() + name.read_bytes())
    return digest.hexdigest()


def _rank(recipe: Recipe) -> int | None:
    return recipe.lora_rank if recipe.adapter == "lora" else None


def merge(
    base: Base, folders: Sequence[Path], how: Merge, *, rank: int | None, seed: int
) -> StartingWeights:
    """The weights in the folders, merged as changes of the base.

    `rank` is that of the adapter that starts from them, None for all weights. Adapters merge to an
    adapter; where ranks differ, or the method is `svd`, by way of their products b @ a.
    """
    import torch

    parts = [read(folder, base.head) for folder in folders]
    with torch.random.fork_rng(devices=cuda_devices()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, on a density of 1 and on transformers
        torch.manual_seed(seed)
        if rank is not None and all(part.factors for part in parts):
            return _adapters(base, folders, parts, how, rank)
        return StartingWeights(all=_all(base, parts, how))


def _adapters(
    base: Base, folders: Sequence[Path], parts: Sequence[StartingWeights], how: Merge, rank: int
) -> StartingWeights:
    ranks = {factors.b.shape[1] for part in parts for factors in part.factors.values()}
    method = how.method
    if len(ranks) > 1 and method != "svd":  # factors of unequal ranks cannot be added
        method = "svd" if method == "linear" else f"{method}_svd"
    names = [f"part-{place}" for place in range(len(folders))]
    with base.prepared(Recipe(adapter="lora", lora_rank=1), seed=0) as model:
        for name, folder in zip(names, folders, strict=True):
            model.load_adapter(folder, name)
        model.add_weighted_adapter(
            names,
            how.effective,
            MERGED,
            combination_type=method,
            svd_rank=rank if method.endswith("svd") else None,
            svd_full_matrices=False,
            density=how.density,
        )
        return StartingWeights(
            factors={
                name.removeprefix("base_model.model."): Factors(
                    layer.lora_B[MERGED].weight.detach().clone(),
                    layer.lora_A[MERGED].weight.detach().clone(),
                    layer.scaling[MERGED],
                )
                for name, layer in model.named_modules()
                if MERGED in getattr(layer, "lora_A", {})
            }
        )


def _all(base: Base, parts: Sequence[StartingWeights], how: Merge) -> dict[str, "Tensor"]:
    """Every weight of the base with the merged change, float32, one after the other."""
    import torch

    by_share = torch.tensor(how.effective)
    merged = {}
    for name, weight in base.model.named_parameters():
        untouched = weight.data.float().cpu()
        changes = [_change(base.model, name, untouched, part) for part in parts]
        merged[name] = untouched + _combined(changes, by_share, how)
    return merged


def _change(
    model: "PreTrainedModel", name: str, untouched: "Tensor", part: StartingWeights
) -> "Tensor":
    if name in part.all:
        return part.all[name] - untouched
    module = name.removesuffix(".weight")
    if module != name and module in part.factors:
        return product(part.factors[module], model.get_submodule(module))
    return untouched.new_zeros(untouched.shape)


def _combined(changes: list["Tensor"], by_share: "Tensor", how: Merge) -> "Tensor":
    from peft.utils import merge_utils

    if how.method in ("linear", "svd"):
        return merge_utils.task_arithmetic(changes, by_share)
    formulas: Mapping[str, Callable[[list[Tensor], Tensor, float], Tensor]] = {
        "ties": merge_utils.ties,
        "dare_linear": merge_utils.dare_linear,
        "dare_ties": merge_utils.dare_ties,
    }
    return formulas[how.method](changes, by_share, how.density)
