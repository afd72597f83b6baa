"""Base models: loaded once, reset between fine-tunes instead of being reloaded.

A base is a folder that `transformers` reads. Hub ids are resolved to a folder by `locate` in the
driver, once, so that workers never touch the network.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness import adapters
from fitness.errors import InputError
from fitness.gguf import converted, is_gguf
from fitness.recipe import Recipe
from fitness.training.checkpointing import checkpointed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEADER_BYTES = 100_000_000  # the longest table of contents that safetensors allows
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "vocab.txt")


def locate(base: str, *, seconds: float = 20.0) -> Path:
    """The local folder of a base model: `base` itself, or a Hub id fetched to the Hub's cache.

    Of a GGUF file, the folder in the cache that it was converted to.
    """
    if is_gguf(base):
        folder = converted(base)
        _check(folder)
        return folder
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
    """From the Hub if it answers within so many seconds, else what the Hub's cache has of it."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    commit = None
    try:
        try:  # asked first because the download itself would wait for the Hub without end
            commit = HfApi().model_info(base, timeout=seconds).sha
        except RepositoryNotFoundError:
            raise
        except (HTTPError, OSError):  # no network: what is in the cache will do
            pass
        folder = snapshot_download(
            base,
            revision=commit,
            allow_patterns=list(MODEL_FILES),
            etag_timeout=seconds,
            local_files_only=commit is None,
        )
    except LocalEntryNotFoundError:
        raise InputError(
            f"model.base {base!r}: no such folder, not in the Hub's cache, and the Hub cannot be "
            "reached; give the folder of a model you have, or connect and try again"
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"model.base {base!r}: no such folder and not to be had from the Hub "
            f"({str(error).strip().splitlines()[0]}); check the name, or give a model folder"
        ) from None
    _check(Path(folder))
    return Path(folder)


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"model.base {str(folder)!r}: a model folder needs a config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(
            f"model.base {str(folder)!r}: no *.safetensors in it; save the model with "
            "save_pretrained(folder), other weight formats may run code when loaded"
        )
    if not list(folder.glob("tokenizer*")):
        raise InputError(f"model.base {str(folder)!r}: no tokenizer files in it; save one there")
    for path in weights:
        _tensors(path)


def _tensors(path: Path) -> dict[str, Any]:
    """A safetensors file's table of contents; InputError unless the file is whole."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, HEADER_BYTES)))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        whole = path.stat().st_size == 8 + length + end
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(
            f"{path}: not a whole safetensors file; copy it anew (if it is a Git LFS pointer, "
            "`git lfs pull` fetches the weights)"
        )
    return tensors


def fingerprint(folder: Path) -> str:
    """sha256 over the configuration and the weights, hexadecimal."""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def architecture(folder: Path) -> dict[str, Any]:
    """The model's config.json: of its language model, where that is a part of it."""
    told: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return told.get("text_config", told)


def context(folder: Path) -> int | None:
    """Longest sequence of the model's position embeddings, tokens; None where none is told."""
    told = architecture(folder)
    return told.get("max_position_embeddings") or told.get("n_positions")


def tensors(folder: Path) -> dict[str, list[int]]:
    """The shape of every tensor by its name, read from the safetensors headers alone."""
    paths = sorted(folder.glob("*.safetensors"))
    return {name: told["shape"] for path in paths for name, told in _tensors(path).items()}


def shapes(folder: Path) -> list[list[int]]:
    """The shape of every tensor."""
    return list(tensors(folder).values())


def parameters(folder: Path) -> int:
    """Number of weights, read from the safetensors headers alone."""
    return sum(map(math.prod, shapes(folder)))


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
        self._check_precision("model.dtype", dtype)
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
        self.model: PreTrainedModel
        self.model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            output_loading_info=True,
        )
        missing = sorted(loading["missing_keys"])
        if missing:  # the library would draw them at random
            raise InputError(
                f"model.base {str(folder)!r}: {len(missing)} weights of the architecture in "
                f"config.json are not in it, such as {missing[0]}; save the whole model there"
            )
        broken = [n for n, w in self.model.named_parameters() if not w.isfinite().all()]
        if broken:
            raise InputError(f"model.base {str(folder)!r}: weights of {broken[0]} are not finite")
        self.model.to(self.device)
        self.model.eval()
        self._untouched: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.weights = sum(weight.numel() for weight in self.model.parameters())

    @contextmanager
    def prepared(self, recipe: Recipe, *, seed: int, checkpointing: bool = False) -> Iterator[Any]:
        """The model ready for one fine-tune, and as it was before afterwards.

        All weights: float32 copies are trained in place of the base's. An adapter: the base stays
        frozen as it is kept; `seed` decides the adapter's initial weights. `checkpointing` computes
        activations anew for the gradients instead of keeping them, to the same bits.
        """
        self._check_precision("precision", recipe.precision)
        prepare = self._full() if recipe.adapter == "none" else self._lora(recipe, seed)
        try:
            saving = checkpointed(self.model) if checkpointing else nullcontext()
            with prepare as model, dropout_rate(model, recipe.dropout), saving:
                yield model
        finally:
            self._untouched = nullcontext
            self.model.eval()

    def _check_precision(self, key: str, precision: str) -> None:
        if precision == "bfloat16" and not _has_bfloat16(self.device):
            raise InputError(
                f"{key} bfloat16: this {self.device.type} device lacks it; use float32"
            )

    @contextmanager
    def untouched(self) -> Iterator[Any]:
        """The base as it was, without dropout, while it is lent to a fine-tune."""
        training = self.model.training
        with self._untouched():
            self.model.eval()
            try:
                yield self.model
            finally:
                self.model.train(training)

    @contextmanager
    def _full(self) -> Iterator[Any]:
        import torch

        kept = {name: weight.data for name, weight in self.model.named_parameters()}
        try:
            for weight in self.model.parameters():
                weight.data = weight.data.to(torch.float32, copy=True)
            self._untouched = lambda: _holding(self.model, kept)
            yield self.model
        finally:
            self.model.zero_grad(set_to_none=True)
            for name, weight in self.model.named_parameters():
                weight.data = kept[name]

    @contextmanager
    def _lora(self, recipe: Recipe, seed: int) -> Iterator[Any]:
        import torch
        from peft import get_peft_model

        found = _linear_modules(self.model, recipe.lora_layers)
        adapted = {name: found[name] for name in adapters.targeted(found, recipe.lora_targets)}
        settings = adapters.settings(recipe, adapted)
        try:
            with torch.random.fork_rng(devices=cuda_devices()), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # PEFT's use of transformers
                torch.manual_seed(seed)
                model = get_peft_model(self.model, settings)
            self._untouched = model.disable_adapter
            yield model
        finally:  # put back by hand: PEFT cannot undo an adapter that it failed to finish
            for name, module in adapted.items():
                self.model.set_submodule(name, module)
            vars(self.model).pop("peft_config", None)
            for weight in self.model.parameters():
                weight.requires_grad_(True)


@contextmanager
def _holding(model: Any, weights: Mapping[str, Any]) -> Iterator[None]:
    """The model with other weights, by name, in place of its own."""
    own = {name: weight.data for name, weight in model.named_parameters()}
    for name, weight in model.named_parameters():
        weight.data = weights[name]
    try:
        yield
    finally:
        for name, weight in model.named_parameters():
            weight.data = own[name]


def linear_modules(folder: Path) -> list[str]:
    """Names of the linear modules inside a model's layers, from its configuration alone."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # without weights
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return list(_linear_modules(model, 0))


def _linear_modules(model: Any, last: int) -> dict[str, Any]:
    """The linear modules inside the last so many layers (0: all) by name, without the head."""
    import torch
    from transformers.pytorch_utils import Conv1D

    depth = model.config.get_text_config().num_hidden_layers
    lists = (m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth)
    inside = {id(module) for layer in next(lists, [])[-last:] for module in layer.modules()}
    found = {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside and isinstance(module, torch.nn.Linear | Conv1D)
    }
    if not found:
        raise InputError(
            f"adapter: {type(model).__name__} has no layers of linear modules to adapt; "
            "use a recipe with `adapter: none`"
        )
    return found


@contextmanager
def dropout_rate(model: Any, rate: float) -> Iterator[None]:
    """Every dropout rate that the architecture has, set to `rate` and put back afterwards.

    An adapter has a rate of its own.
    """
    import torch

    before: list[tuple[Any, str, float]] = []  # a module, its attribute, the attribute's value
    for path, module in model.named_modules():
        if "lora_dropout" in path:
            continue
        is_dropout = isinstance(module, torch.nn.modules.dropout._DropoutNd)
        for name, value in list(vars(module).items()):
            named = name == "p" if is_dropout else name.endswith(("dropout", "dropout_p"))
            if named and isinstance(value, float | int):
                before.append((module, name, value))
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


def _has_bfloat16(device: "torch.device") -> bool:
    """Whether a device computes in bfloat16 itself; a CPU always does, if slowly."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)


def cuda_devices() -> list[int]:
    """Devices whose random state a fork must save besides the CPU's."""
    import torch

    return list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
