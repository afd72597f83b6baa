"""Settings for an external trainer: the adapter's target modules and the model's dropout rates."""

from collections.abc import Mapping
from pathlib import Path

from fitness.models import adapters
from fitness.models.heads import CAUSAL
from fitness.models.loading import skeleton
from fitness.recipe import Recipe

DROPOUTS = ("dropout", "pdrop", "dropout_p", "dropout_prob")


def adapted_modules(folder: Path, recipe: Recipe) -> list[str]:
    """The modules of a recipe's adapter as PEFT's `target_modules`.

    Last parts of names where these select the same modules and no others, else full names.
    """
    model = skeleton(folder, CAUSAL)
    found = adapters.adaptable(model, recipe.lora_layers)
    wanted = adapters.targeted(found, recipe.lora_targets)
    short = sorted({name.rpartition(".")[2] for name in wanted})
    meant = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in short}
    return short if meant == set(wanted) else wanted


def dropout_rates(folder: Path, rate: float) -> Mapping[str, float]:
    """The dropout settings of the architecture's configuration by name, each set to `rate`."""
    from transformers import AutoConfig

    told = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
    return {
        name: rate
        for name, value in told.items()
        if name.endswith(DROPOUTS) and isinstance(value, float | int)
    }
