"""Low-rank adapters: the linear modules of a model that get one, and PEFT's settings for them.

Only linear modules get an adapter, so not experts that are stored as one three-dimensional weight,
nor linear modules that PEFT cannot adapt as they are. A dry run reports the share of the layers'
weights that adapters reach.

LoRA: Hu et al. 2021. Rank-stabilised scaling, alpha / sqrt(rank): Kalajdzievski 2023. DoRA, which
trains the length of each weight's rows or columns apart from their direction: Liu et al. 2024.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fitness.errors import InputError
from fitness.recipe import Recipe
from fitness.suggest import did_you_mean, listed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GROUPS = ("all", "attention", "mlp")
PLAIN = (  # the keys of an adapter_config.json that hold names of modules and numbers alone
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "fan_in_fan_out", "bias"),
    *("target_modules", "target_parameters", "exclude_modules", "modules_to_save", "rank_pattern"),
    *("alpha_pattern", "layers_to_transform", "layers_pattern", "inference_mode", "task_type"),
    *("base_model_name_or_path", "revision", "peft_type", "peft_version", "auto_mapping"),
)
USUAL = {"init_lora_weights": True, "megatron_core": "megatron.core", "qalora_group_size": 16}
IN_ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)  # as every architecture names it


def adaptable(
    model: "PreTrainedModel", last: int, passed_by: Collection[str] = frozenset()
) -> dict[str, Any]:
    """The linear modules inside the last so many layers that can have an adapter.

    Modules of the roles `passed_by` are excluded: a forward pass does not call them.
    """
    found = linear_modules(model, last)
    without = refused(model, found, passed_by)
    if len(without) == len(found):
        raise InputError(
            f"adapter: none of the linear modules of {type(model).__name__} can have one "
            f"({next(iter(without.values()))}); use a recipe with `adapter: none`"
        )
    return {name: module for name, module in found.items() if name not in without}


def linear_modules(model: "PreTrainedModel", last: int = 0) -> dict[str, Any]:
    """The linear modules inside the last so many layers (0: all) by name, without the head."""
    import torch
    from transformers.pytorch_utils import Conv1D

    inside = {id(module) for layer in layers(model)[-last:] for module in layer.modules()}
    found = {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside
        and isinstance(module, torch.nn.Linear | Conv1D)
        and "router" not in type(module).__name__.lower()  # a Linear that gives several tensors
    }
    if not found:
        raise InputError(
            f"adapter: {type(model).__name__} has no layers of linear modules to adapt; "
            "use a recipe with `adapter: none`"
        )
    return found


def layers(model: "PreTrainedModel") -> list[Any]:
    """The model's layers, first to last."""
    import torch

    depth = model.config.get_text_config().num_hidden_layers
    lists = (m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth)
    return list(next(lists, []))


def is_target(module: str, targets: str) -> bool:
    """True where `lora_targets` select a module by its dotted name; `mlp`: all but `attention`."""
    if targets in GROUPS:
        return targets == "all" or bool(IN_ATTENTION.search(module)) == (targets == "attention")
    return any(_ends(module, suffix) for suffix in suffixes(targets))


def suffixes(targets: str) -> list[str]:
    """The ends of module names in a comma-separated list."""
    return [suffix.strip() for suffix in targets.split(",")]


def targeted(modules: Iterable[str], targets: str) -> list[str]:
    """Names of the linear modules that get an adapter under these `lora_targets`.

    Raises InputError for a name or a group that selects none.
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


def role(module: str) -> str:
    """A module's name without the numbers of layers and experts."""
    return re.sub(r"\.\d+(?=\.)", ".*", module)


def refused(
    model: "PreTrainedModel", modules: Iterable[str], passed_by: Collection[str] = frozenset()
) -> dict[str, str]:
    """Linear modules that cannot have an adapter, each with the reason.

    A forward pass never calls modules of the roles `passed_by`. PEFT refuses the output projection
    of a Mamba layer, whose kernels read its weight directly. And since transformers 5 stores the
    experts as one weight, PEFT takes the name of an expert's module, such as `gate_proj`, for that
    weight everywhere in such a model, in shared experts and dense layers too: an adapter of those
    could not be loaded again by its own names.
    """
    from peft import LoraConfig
    from peft.tuners import tuners_utils
    from peft.utils import transformers_weight_conversion as conversion

    reasons: dict[str, str] = {}
    for last in dict.fromkeys(name.rpartition(".")[2] for name in modules):
        one = LoraConfig(target_modules=[last])
        try:
            tuners_utils._check_lora_target_modules_mamba(one, model, last)
        except ValueError:
            reasons[last] = "PEFT does not adapt it in a Mamba layer"
        try:
            conversion.convert_peft_config_for_transformers(one, model, None)
        except ValueError:  # it would convert it, were the other half of the fused weight named too
            one.target_modules = set()
        if last not in (one.target_modules or ()):
            reasons[last] = "PEFT takes its name for that of the experts, which are no module"
    ends = {name: name.rpartition(".")[2] for name in modules}
    without = {name: reasons[last] for name, last in ends.items() if last in reasons}
    idle = {name for name in ends if role(name) in passed_by}
    return without | dict.fromkeys(idle, "the model does not call it")


def check_wrapped(model: "PreTrainedModel", adapted: Iterable[str]) -> None:
    """Raise InputError unless PEFT has adapted exactly these modules."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    wrapped = {n for n, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    if stray := sorted(wrapped ^ set(adapted)):
        raise InputError(
            f"adapter: PEFT adapts other modules of {type(model).__name__} than selected: "
            f"{listed(stray, at_most=3)}; name other modules in `lora_targets`, or use "
            "`adapter: none`"
        )


def settings(
    recipe: Recipe, adapted: Mapping[str, Any], task: str | None, whole: Iterable[str] = ()
) -> Any:
    """PEFT's configuration of the recipe's adapter beside these modules, by name.

    `task` is PEFT's name for the model task; all weights of the modules `whole` are trained.
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


def unusual(told: Mapping[str, Any]) -> dict[str, object]:
    """Keys of an adapter_config.json that a plain LoRA adapter does not have, with their values.

    For some keys, such as `megatron_core`, PEFT imports what they name; for others it loads files.
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
