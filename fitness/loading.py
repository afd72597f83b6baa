"""A folder's model with the head that a search asks for; a classifier's is drawn if it has none."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness.errors import InputError
from fitness.heads import Head
from fitness.sources import load_tokenizer
from fitness.tokens import separator

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HEAD_SEED = 0  # of a head that the base does not have


def load(folder: Path, dtype: str, head: Head) -> "PreTrainedModel":
    """A folder's model, on the CPU. A classifier's head that is not there is always drawn alike.

    Raises InputError for any other weights that are missing: the library would draw them at random.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    told = logging.get_verbosity()
    try:
        if head.labels:  # it would warn of what is done here on purpose
            logging.set_verbosity_error()
        with torch.random.fork_rng(devices=cuda_devices()):
            torch.manual_seed(HEAD_SEED)
            model, loading = head.model_class.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                trust_remote_code=False,
                output_loading_info=True,
                **head.settings,
            )
    finally:
        logging.set_verbosity(told)
    own = tuple(f"{part}." for part in own_parts(model, head))
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith(own))
    if missing:
        raise InputError(
            f"model.base {str(folder)!r}: {len(missing)} weights of {type(model).__name__} are not "
            f"in it, such as {missing[0]}; save the whole model there"
        )
    if head.labels:
        tokenizer, config = load_tokenizer(folder), model.config.get_text_config()
        if tokenizer.pad_token_id is not None:
            config.pad_token_id = tokenizer.pad_token_id
        elif config.pad_token_id is None:
            config.pad_token_id = separator(tokenizer)
        config.use_cache = False  # of keys and values, for tokens that will never come
    return model


def own_parts(model: Any, head: Head) -> list[str]:
    """Names of the modules that a classifier has on top of the model that reads the text."""
    if not head.labels:
        return []
    body = model.base_model_prefix
    above = [name for name, _ in model.named_children() if name != body]
    modules = dict(model.named_modules())
    found = [name for name in (*above, f"{body}.pooler") if name in modules]
    return [name for name in found if any(True for _ in modules[name].parameters())]


def skeleton(folder: Path, head: Head) -> Any:
    """The model without weights, from its configuration alone."""
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **head.settings)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return head.model_class.from_config(config, trust_remote_code=False)


def cuda_devices() -> list[int]:
    """Devices whose random state a fork must save besides the CPU's."""
    import torch

    return list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
