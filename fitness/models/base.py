"""Base models: loaded once, reset between fine-tunes instead of being reloaded."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness.errors import InputError
from fitness.models import adapters
from fitness.models.gradient_checkpointing import checkpointed
from fitness.models.heads import CAUSAL, Head, find_last_head
from fitness.models.loading import cuda_devices, load, own_parts
from fitness.models.repeatable import reserve_workspaces
from fitness.quiet import quieten
from fitness.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fitness.models.packing import Probe


class Base:
    """A base model on its device, with its tokenizer; `prepared` lends it to one fine-tune."""

    def __init__(self, folder: Path, dtype: str = "float32", head: Head = CAUSAL) -> None:
        """`dtype`, float32 or bfloat16, is the precision of weights that are not being trained."""
        from transformers import AutoTokenizer

        self.folder = folder
        self.head = head
        self.device = _device()
        if self.device.type == "cuda":
            reserve_workspaces()
        self._check_precision("model.dtype", dtype)
        quieten()
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
        if head.task == "causal" and self.tokenizer.eos_token_id is None:
            raise InputError(
                f"model.base {str(folder)!r}: its tokenizer has no token that ends a text; set "
                "`eos_token` in its tokenizer_config.json, or `model.task` for an encoder"
            )
        self._dtype = dtype
        self._load()
        self._untouched: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.weights = sum(weight.numel() for weight in self.model.parameters())
        self.probe = self._probed()

    def _probed(self) -> "Probe":
        from fitness.models.packing import Probe, probed

        return probed(self.model, str(self.folder)) if self.head.task == "causal" else Probe()

    def _load(self) -> None:
        from fitness.models.restoring import Record

        self.model: PreTrainedModel = load(self.folder, self._dtype, self.head)
        broken = [n for n, w in self.model.named_parameters() if not w.isfinite().all()]
        if broken:
            raise InputError(
                f"model.base {str(self.folder)!r}: weights of {broken[0]} are not finite"
            )
        self.model.to(self.device)
        self.model.eval()
        if self.head.task == "causal":
            find_last_head(self.model)
        self._record = Record(self.model)

    @contextmanager
    def prepared(
        self, recipe: Recipe, *, seed: int, checkpointing: bool = False
    ) -> Iterator["PreTrainedModel"]:
        """Prepare the model for one fine-tune, and restore it afterwards.

        To train all weights, float32 copies replace the base's. With an adapter, the base stays
        frozen in its own precision; `seed` decides the adapter's initial weights. `checkpointing`
        recomputes activations for the gradients instead of storing them, to the same bits.
        """
        self._check_precision("precision", recipe.precision)
        with self.lent():
            prepare = self._full() if recipe.adapter == "none" else self._lora(recipe, seed)
            saving = checkpointed(self.model) if checkpointing else nullcontext()
            with prepare as model, dropout_rate(model, recipe.dropout), saving:
                yield model

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Allow any change to the model; afterwards restore it, to the bit.

        If it cannot be restored, because values were changed in place, it is loaded again.
        """
        try:
            yield
        finally:
            self._untouched = nullcontext
            if not self._record.restore(self.model):
                self._load()

    def _check_precision(self, key: str, precision: str) -> None:
        if precision == "bfloat16" and not _has_bfloat16(self.device):
            raise InputError(
                f"{key} bfloat16: this {self.device.type} device lacks it; use float32"
            )

    @contextmanager
    def untouched(self) -> Iterator["PreTrainedModel"]:
        """The base with its original weights and no dropout, during a fine-tune of it."""
        training = self.model.training
        with self._untouched():
            self.model.eval()
            try:
                yield self.model
            finally:
                self.model.train(training)

    @contextmanager
    def _full(self) -> Iterator["PreTrainedModel"]:
        import torch

        originals = {name: weight.data for name, weight in self.model.named_parameters()}
        for weight in self.model.parameters():
            weight.data = weight.data.to(torch.float32, copy=True)
        self._untouched = lambda: _with_weights(self.model, originals)
        yield self.model

    @contextmanager
    def _lora(self, recipe: Recipe, seed: int) -> Iterator["PreTrainedModel"]:
        import torch
        from peft import get_peft_model

        found = adaptable(self.model, recipe.lora_layers, self.probe.passed_by)
        adapted = {name: found[name] for name in adapters.targeted(found, recipe.lora_targets)}
        whole = {name: self.model.get_submodule(name) for name in own_parts(self.model, self.head)}
        settings = adapters.settings(recipe, adapted, self.head.adapted, whole)
        with torch.random.fork_rng(devices=cuda_devices()), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT's use of transformers
            torch.manual_seed(seed)
            model = get_peft_model(self.model, settings)
        adapters.check_wrapped(self.model, adapted)
        for name in whole:  # PEFT trains its copy in the precision that the base is kept in
            trained = self.model.get_submodule(name).modules_to_save["default"].float()
            trained.register_forward_pre_hook(_in_float32)
        self._untouched = model.disable_adapter
        model.eval()  # PEFT's new modules would drop out until a training turns that on
        yield model


@contextmanager
def _with_weights(model: "PreTrainedModel", weights: Mapping[str, Any]) -> Iterator[None]:
    """Replace the model's weights, by name, and restore its own afterwards."""
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


def adaptable(
    model: "PreTrainedModel", last: int, passed_by: Collection[str] = frozenset()
) -> dict[str, Any]:
    """The linear modules inside the last so many layers that can have an adapter.

    Modules of the roles `passed_by` are excluded: a forward pass does not call them.
    """
    found = linear_modules(model, last)
    refused = adapters.refused(model, found, passed_by)
    if len(refused) == len(found):
        raise InputError(
            f"adapter: none of the linear modules of {type(model).__name__} can have one "
            f"({next(iter(refused.values()))}); use a recipe with `adapter: none`"
        )
    return {name: module for name, module in found.items() if name not in refused}


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


@contextmanager
def dropout_rate(model: "PreTrainedModel", rate: float) -> Iterator[None]:
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
    """True where a device computes in bfloat16; a CPU always does, if slowly by emulation."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)
