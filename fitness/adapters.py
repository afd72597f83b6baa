"""Low-rank adapters: which of a model's linear modules they stand beside, and PEFT's settings.

LoRA: Hu et al. 2021. Rank-stabilised scaling, alpha / sqrt(rank): Kalajdzievski 2023. DoRA, which
trains the length of each weight's rows or columns apart from their direction: Liu et al. 2024.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fitness.errors import InputError
from fitness.recipe import Recipe
from fitness.suggest import did_you_mean, listed

GROUPS = ("all", "attention", "mlp")
PLAIN = (  # the keys of an adapter_config.json that hold names of modules and numbers alone
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "fan_in_fan_out", "bias"),
    *("target_modules", "target_parameters", "exclude_modules", "modules_to_save", "rank_pattern"),
    *("alpha_pattern", "layers_to_transform", "layers_pattern", "inference_mode", "task_type"),
    *("base_model_name_or_path", "revision", "peft_type", "peft_version", "auto_mapping"),
)
USUAL = {"init_lora_weights": True, "megatron_core": "megatron.core", "qalora_group_size": 16}
IN_ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)  # as every architecture names it


def is_target(module: str, targets: str) -> bool:
    """Whether an adapter with these `lora_targets` stands beside the module of this dotted name.

    `mlp` is what is not `attention`.
    """
    if targets in GROUPS:
        return targets == "all" or bool(IN_ATTENTION.search(module)) == (targets == "attention")
    return any(_ends(module, suffix) for suffix in suffixes(targets))


def suffixes(targets: str) -> list[str]:
    """The ends of module names in a comma-separated list."""
    return [suffix.strip() for suffix in targets.split(",")]


def targeted(modules: Iterable[str], targets: str) -> list[str]:
    """Those of a model's linear modules that an adapter stands beside.

    Raises InputError for a name, or a group, which none of them has.
    """
    known = list(modules)
    wanted = [targets] if targets in GROUPS else suffixes(targets)
    for one in wanted:
        if not any(is_target(module, one) for module in known):
            last = list(dict.fromkeys(module.rpartition(".")[2] for module in known))
            raise InputError(
                f"lora_targets: no linear module of the base model's layers is {one!r}; it has "
                f"{listed(last)}{did_you_mean(one, last)}"
            )
    return [module for module in known if is_target(module, targets)]


def settings(
    recipe: Recipe, adapted: Mapping[str, Any], task: str | None, whole: Iterable[str] = ()
) -> Any:
    """PEFT's configuration of the recipe's adapter beside these modules, by name.

    `task` is PEFT's name of what the model does; the modules `whole` are trained themselves.
    """
    import torch
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        use_rslora=recipe.lora_scaling == "rank_stabilised",
        use_dora=recipe.adapter == "dora",
        lora_dropout=recipe.adapter_dropout,
        target_modules=list(adapted),
        fan_in_fan_out=not any(isinstance(m, torch.nn.Linear) for m in adapted.values()),
        task_type=task,
        modules_to_save=list(whole) or None,
    )


def unusual(told: Mapping[str, Any]) -> dict[str, Any]:
    """What an adapter_config.json says besides what makes a plain LoRA adapter.

    PEFT imports what some of its keys name, such as `megatron_core`, and loads files for others.
    """
    mapping = told.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, Mapping) else mapping
    found = {
        name: value
        for name, value in told.items()
        if name not in PLAIN and value and value != USUAL.get(name)
    }
    if told.get("peft_type") != "LORA":
        found["peft_type"] = told.get("peft_type")
    if library and str(library).split(".")[0] not in ("transformers", "peft"):
        found["auto_mapping"] = mapping
    return found


def _ends(module: str, suffix: str) -> bool:
    return module == suffix or module.endswith(f".{suffix}")
