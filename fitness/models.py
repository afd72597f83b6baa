"""Base models: loaded once, reset between fine-tunes instead of being reloaded."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness import adapters
from fitness.errors import InputError
from fitness.heads import CAUSAL, Head
from fitness.loading import cuda_devices, load, own_parts, skeleton
from fitness.recipe import Recipe
from fitness.training.checkpointing import checkpointed
from fitness.training.repeatable import reserve_workspaces

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Base:
    """A base model on its device, with its tokenizer; `prepared` lends it to one fine-tune."""

    def __init__(self, folder: Path, dtype: str = "float32", head: Head = CAUSAL) -> None:
        """`dtype`, float32 or bfloat16, is how weights are kept while nothing trains them."""
        from transformers import AutoTokenizer

        self.folder = folder
        self.head = head
        self.device = _device()
        if self.device.type == "cuda":
            reserve_workspaces()
        self._check_precision("model.dtype", dtype)
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
        if head.task == "causal" and self.tokenizer.eos_token_id is None:
            raise InputError(
                f"model.base {str(folder)!r}: its tokenizer has no token that ends a text; set "
                "`eos_token` in its tokenizer_config.json, or `model.task` for an encoder"
            )
        self.model: PreTrainedModel = load(folder, dtype, head)
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
        whole = {name: self.model.get_submodule(name) for name in own_parts(self.model, self.head)}
        settings = adapters.settings(recipe, adapted, self.head.adapted, whole)
        try:
            with torch.random.fork_rng(devices=cuda_devices()), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # PEFT's use of transformers
                torch.manual_seed(seed)
                model = get_peft_model(self.model, settings)
            for name in whole:  # PEFT trains its copy in the precision that the base is kept in
                trained = self.model.get_submodule(name).modules_to_save["default"].float()
                trained.register_forward_pre_hook(_in_float32)
            self._untouched = model.disable_adapter
            yield model
        finally:  # put back by hand: PEFT cannot undo an adapter that it failed to finish
            for name, module in {**adapted, **whole}.items():
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


def _in_float32(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.float() for one in inputs)


def linear_modules(folder: Path, head: Head = CAUSAL) -> list[str]:
    """Names of the linear modules inside a model's layers, from its configuration alone."""
    return list(_linear_modules(skeleton(folder, head), 0))


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
