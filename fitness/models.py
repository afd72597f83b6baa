"""Base models: loaded once, reset between fine-tunes instead of being reloaded.

A base is a folder that `transformers` reads. Hub ids are resolved to a folder by `locate` in the
driver, once, so that workers never touch the network.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness.errors import InputError
from fitness.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "vocab.txt")


def locate(base: str, *, seconds: float = 20.0) -> Path:
    """The local folder of a base model: `base` itself, or a Hub id fetched to the Hub's cache."""
    folder = Path(base).expanduser()
    if folder.is_dir():
        _check(folder)
        return folder.resolve()
    if folder.is_absolute() or base.startswith((".", "~")) or base.count("/") > 1:
        near = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())[:8]
        beside = f"; beside it are {', '.join(near)}" if near else ""
        raise InputError(f"model.base {base!r}: there is no such folder{beside}")
    return _fetch(base, seconds)


def _fetch(base: str, seconds: float) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(base, allow_patterns=list(MODEL_FILES), etag_timeout=seconds)
    except LocalEntryNotFoundError:
        raise InputError(
            f"model.base {base!r}: no such folder, not in the Hub's cache, and the Hub cannot be "
            "reached; give the folder of a model you have, or connect and try again"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"model.base {base!r}: no such folder and not to be had from the Hub "
            f"({str(error).strip().splitlines()[0]}); check the name, or give a model folder"
        ) from None
    _check(Path(folder))
    return Path(folder)


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"model.base {str(folder)!r}: a model folder needs a config.json")
    if not list(folder.glob("*.safetensors")):
        raise InputError(
            f"model.base {str(folder)!r}: no *.safetensors in it; save the model with "
            "save_pretrained(folder), other weight formats may run code when loaded"
        )
    if not list(folder.glob("tokenizer*")):
        raise InputError(f"model.base {str(folder)!r}: no tokenizer files in it; save one there")


def fingerprint(folder: Path) -> str:
    """sha256 over the configuration and the weights, hexadecimal."""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def parameters(folder: Path) -> int:
    """Number of weights, read from the safetensors headers alone."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            count = 1
            for size in tensor["shape"]:
                count *= size
            total += count
    return total


def training_flops(weights: int, tokens: int, *, adapter: bool) -> float:
    """Floating-point operations of a fine-tune: 6 N T, or 4 N T where the base is frozen.

    Kaplan et al. 2020, table 1: 2 N a token forward and 4 N backward, half of which are the
    gradients of the weights that an adapter spares.
    """
    return (4.0 if adapter else 6.0) * weights * tokens


class Base:
    """A base model on its device, with its tokenizer; `prepared` lends it to one fine-tune."""

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        """`dtype`, float32 or bfloat16, is how weights are kept while nothing trains them."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.folder = folder
        self.device = _device()
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype)
        )
        broken = [n for n, w in self.model.named_parameters() if not w.isfinite().all()]
        if broken:
            raise InputError(f"model.base {str(folder)!r}: weights of {broken[0]} are not finite")
        self.model.to(self.device)
        self.model.eval()
        self.weights = sum(weight.numel() for weight in self.model.parameters())

    @contextmanager
    def prepared(self, recipe: Recipe, *, seed: int) -> Iterator[Any]:
        """The model ready for one fine-tune, and as it was before afterwards.

        All weights: float32 copies are trained in place of the base's. An adapter: the base stays
        frozen as it is kept; `seed` decides the adapter's initial weights.
        """
        prepare = self._full() if recipe.adapter == "none" else self._lora(recipe, seed)
        with prepare as model, _dropout(model, recipe.dropout):
            yield model

    @contextmanager
    def _full(self) -> Iterator[Any]:
        kept = {name: weight.data for name, weight in self.model.named_parameters()}
        try:
            for weight in self.model.parameters():
                weight.data = weight.data.float().clone()
            yield self.model
        finally:
            self.model.zero_grad(set_to_none=True)
            for name, weight in self.model.named_parameters():
                weight.data = kept[name]

    @contextmanager
    def _lora(self, recipe: Recipe, seed: int) -> Iterator[Any]:
        import torch
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=recipe.lora_rank,
            lora_alpha=recipe.lora_alpha,
            lora_dropout=recipe.dropout,
            target_modules=_linear_modules(self.model, recipe.lora_layers),
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=cuda_devices()):
            torch.manual_seed(seed)
            model = get_peft_model(self.model, settings)
        try:
            yield model
        finally:
            model.unload()
            for weight in self.model.parameters():
                weight.requires_grad_(True)


def _linear_modules(model: Any, last: int) -> list[str]:
    """Names of the linear modules inside the last so many layers (0: all), without the head."""
    import torch

    layers = max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    adapted = {id(module) for layer in layers[-last:] for module in layer.modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) in adapted and isinstance(module, torch.nn.Linear)
    ]


@contextmanager
def _dropout(model: Any, rate: float) -> Iterator[None]:
    """Every dropout rate that the architecture has, set to `rate` and put back afterwards."""
    import torch

    before: list[tuple[Any, str, float]] = []
    for module in model.modules():
        names = ["p"] if isinstance(module, torch.nn.Dropout) else ["attention_dropout"]
        for name in names:
            value = getattr(module, name, None)
            if isinstance(value, float | int):
                before.append((module, name, float(value)))
                setattr(module, name, rate)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _device() -> "torch.device":
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def cuda_devices() -> list[int]:
    """Devices whose random state a fork must save besides the CPU's."""
    import torch

    return list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
