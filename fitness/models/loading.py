"""Load a folder's model with the head of a model task; a missing classifier head is initialised."""

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fitness.data.tokenizer import load_tokenizer
from fitness.data.tokens import separator
from fitness.errors import InputError
from fitness.models import folders
from fitness.models.heads import CAUSAL, Head
from fitness.quiet import quieten

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"]
FLASH = {  # the module and the package of each, without which transformers would fetch a kernel
    "flash_attention_2": ("flash_attn", "flash-attn"),
    "flash_attention_3": ("flash_attn_interface", "flash-attn-3"),
}
HEAD_SEED = 0  # of a head that the base does not have


def load(folder: Path, dtype: str, head: Head, **how: Any) -> "PreTrainedModel":
    """Load a folder's model on the CPU. A missing classifier head gets weights from a fixed seed.

    `how` are further arguments of `from_pretrained`.

    Raises InputError for other missing weights, which the library would initialise at random.
    """
    import torch

    configuration(folder, head)
    try:
        with torch.random.fork_rng(devices=cuda_devices()):
            torch.manual_seed(HEAD_SEED)
            model, loading = head.model_class.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                trust_remote_code=False,
                output_loading_info=True,
                **head.settings,
                **how,
            )
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):  # of the device, or the CPU
            raise
        raise InputError(unusable(folder, "cannot be loaded", error)) from error
    own = tuple(f"{part}." for part in own_parts(model, head))
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith(own))
    if missing:
        raise InputError(
            f"model.base {str(folder)!r}: {len(missing)} weights of {type(model).__name__} are not "
            f"in it, such as {missing[0]}; save the whole model there"
        )
    if head.on_top:
        tokenizer, config = load_tokenizer(folder), model.config.get_text_config()
        if tokenizer.pad_token_id is not None:
            config.pad_token_id = tokenizer.pad_token_id
        elif config.pad_token_id is None:
            config.pad_token_id = separator(tokenizer)
        config.use_cache = False  # keys and values are only needed to generate further tokens
    return model


def attention_settings(attention: str) -> dict[str, Any]:
    """Settings of `from_pretrained` for an implementation of attention.

    Raises InputError where its package is missing.
    """
    if attention in FLASH:
        module, package = FLASH[attention]
        if find_spec(module) is None:
            raise InputError(
                f"model.attention {attention}: needs the package {package}, which is not installed "
                "here; install it, or leave model.attention at auto"
            )
    return {} if attention == "auto" else {"attn_implementation": attention}


def own_parts(model: "PreTrainedModel", head: Head) -> list[str]:
    """Names of a classifier's modules on top of its language model: the head, and the pooler."""
    if not head.on_top:
        return []
    body = model.base_model_prefix
    above = [name for name, _ in model.named_children() if name != body]
    modules = dict(model.named_modules())
    found = [name for name in (*above, f"{body}.pooler") if name in modules]
    return [name for name in found if any(True for _ in modules[name].parameters())]


def configuration(folder: Path, head: Head = CAUSAL) -> "PreTrainedConfig":
    """The configuration in a model's folder. Raises InputError if the library cannot read it."""
    from transformers import AutoConfig

    quieten()
    content = folders.config_json(folder)
    if content.get("quantization_config"):
        raise InputError(
            f"model.base {str(folder)!r}: its weights are quantised, and a fine-tune trains "
            "floating-point numbers; take the model that it was made from, or save it dequantised"
        )
    if content.get("auto_map") and content["model_type"] not in _known_types():
        raise InputError(
            f"model.base {str(folder)!r}: needs its own code ({content['model_type']!r:.60}), "
            "which evomix never runs; take a model of an architecture in transformers"
        )
    try:
        return AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **head.settings
        )
    except Exception as error:  # whatever odd content makes the library raise
        raise InputError(unusable(folder, "its config.json cannot be used", error)) from error


def _known_types() -> Collection[str]:
    from transformers import CONFIG_MAPPING

    return list(CONFIG_MAPPING.keys())


def unusable(folder: Path, what: str, error: Exception) -> str:
    """The error message for a base that the library cannot use, with its reason's first line."""
    reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300]
    return (
        f"model.base {str(folder)!r}: {what} ({type(error).__name__}: {reason}); copy the whole "
        "model folder anew, or take another base"
    )


def skeleton(folder: Path, head: Head, **how: Any) -> Any:
    """The model without weights, from its configuration alone; `how` as of `from_config`."""
    import torch

    config = configuration(folder, head)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return head.model_class.from_config(config, trust_remote_code=False, **how)
    except Exception as error:  # sizes that do not fit one another, in hundreds of architectures
        raise InputError(
            unusable(folder, "no model follows from its config.json", error)
        ) from error


def cuda_devices() -> list[int]:
    """Devices whose random state a fork must save besides the CPU's."""
    import torch

    return list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
