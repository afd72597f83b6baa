"""Optimisers of a fine-tune, and the schedule of its learning rate.

AdamW: Loshchilov, Hutter 2019. Muon (Jordan et al. 2024) makes the update of a matrix orthogonal:
it trains the matrices of the layers, and AdamW the embeddings, the head and what is no matrix. Its
updates are scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that both take the
same learning rates. Adafactor (Shazeer, Stern 2018) keeps a mean for each row and column in place
of two numbers for each weight. Moments of 8 bits, with a scale for each block of 256: Dettmers et
al. 2022, by bitsandbytes, which keeps float32 for tensors of fewer than 4,096 weights.
"""

import math
from typing import TYPE_CHECKING, Any

from fitness.errors import InputError
from fitness.models.adapters import layers
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

WSD_SHARE = 0.2  # of the steps; 10 to 20 % do as well as cosine in the literature


def optimisers(model: "PreTrainedModel", recipe: Recipe) -> "list[Optimizer]":
    """The optimisers of a model's trained weights, by the recipe; each weight is in one of them."""
    import torch

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adafactor":
        from transformers.optimization import Adafactor  # takes a second or two with all of PEFT

        settings = {"scale_parameter": False, "relative_step": False, "warmup_init": False}
        return [Adafactor(_groups(trained, decay), lr=rate, **settings)]
    if recipe.optimizer == "adamw_8bit":
        return [_in_8_bits(_groups(trained, decay), rate, (0.9, recipe.beta2))]
    found: list[Optimizer] = []
    if recipe.optimizer == "muon":
        inside = {id(weight) for layer in layers(model) for weight in layer.parameters()}
        matrices = [w for w in trained if w.ndim == 2 and id(w) in inside]
        if not matrices:
            raise InputError(
                f"optimizer muon: the layers of {type(model).__name__} have no matrix to train; "
                "take adamw"
            )
        like = "match_rms_adamw"
        found.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn=like))
        taken = {id(weight) for weight in matrices}
        trained = [weight for weight in trained if id(weight) not in taken]
    if trained:
        betas = (0.9, recipe.beta2)
        found.append(torch.optim.AdamW(_groups(trained, decay), lr=rate, betas=betas, fused=True))
    return found


def _in_8_bits(
    groups: list[dict[str, Any]], rate: float, betas: tuple[float, float]
) -> "Optimizer":
    from bitsandbytes.optim import AdamW8bit

    found: Optimizer = AdamW8bit(groups, lr=rate, betas=betas)
    return found


def _groups(weights: "list[Tensor]", decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only."""
    return [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]


def trained_by(*optimisers: "Optimizer") -> "list[Tensor]":
    """The weights of optimisers, in their order."""
    groups = [group for one in optimisers for group in one.param_groups]
    return [weight for group in groups for weight in group["params"]]


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """The share of the peak learning rate at `step` of `steps`: linear warm-up, then the decay.

    All but the constant rate end at zero one step after the last one. WSD, warm-up, stable, decay:
    Hu et al. 2024 (arXiv 2404.06395); its decay is linear.
    """
    warmup = round(recipe.warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if recipe.decay == "linear":
        return 1.0 - progress
    if recipe.decay == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if recipe.decay == "wsd":
        return min(1.0, (steps - step) / wsd_steps(steps))
    return 1.0


def wsd_steps(steps: int) -> int:
    """Number of the last steps, of all, over which WSD decays."""
    return max(1, round(WSD_SHARE * steps))
