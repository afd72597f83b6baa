"""Base models: loaded once, reset between fine-tunes instead of being reloaded."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fitness.errors import InputError
from fitness.models import adapters
from fitness.models.heads import CAUSAL, Head, find_last_head
from fitness.models.layers import checkpointed
from fitness.models.loading import attention_settings, cuda_devices, load, own_parts
from fitness.models.quantisation import load_quantised, stored
from fitness.models.repeatable import reserve_workspaces
from fitness.quiet import quieten
from fitness.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fitness.evaluation import Task
    from fitness.models.packing import Probe


class Base:
    """A base model on its device, with its tokenizer; `prepared` lends it to one fine-tune."""

    def __init__(
        self,
        folder: Path,
        dtype: str = "float32",
        head: Head = CAUSAL,
        *,
        quantisation: str = "none",
        attention: str = "auto",
        offloaded: bool = False,
    ) -> None:
        """`dtype`, float32 or bfloat16, is the precision of weights that are not being trained.

        With `quantisation`, the linear weights are stored in fewer bits, and only adapters train.
        `attention` is the implementation of attention, `auto` that which transformers chooses.
        `offloaded` keeps the weights in main memory; `on_device` lends them to the device.
        """
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
        self._quantisation = quantisation
        self._attention = attention
        self._offloaded = offloaded
        self._load()
        self._untouched: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.probe = self._probed()

    @classmethod
    def of(cls, task: "Task") -> Self:
        """The base of an evaluation context."""
        assert task.model is not None
        return cls(
            task.model,
            task.dtype,
            task.head,
            quantisation=task.quantisation,
            attention=task.attention,
            offloaded=task.sharding == "full",
        )

    def packs(self, length: int) -> bool:
        """True where the documents of rows of so many tokens are told apart by a mask.

        Else each gets a row of its own, with the same result: where attention crosses documents
        in any case, and where the mask, which is quadratic in the length, would cost more.
        """
        from fitness.models.packing import MASKED

        return self.probe.packs and length <= MASKED

    def _probed(self) -> "Probe":
        from fitness.models.packing import Probe, probed

        return probed(self.model, str(self.folder)) if self.head.task == "causal" else Probe()

    def _load(self) -> None:
        from fitness.models.restoring import Record

        how = (self.folder, self._dtype, self.head)
        attention = attention_settings(self._attention)
        self.model: PreTrainedModel = (
            load(*how, **attention).to("cpu" if self._offloaded else self.device)
            if self._quantisation == "none"
            else load_quantised(*how, self._quantisation, self.device, **attention)
        )
        broken = [
            name
            for name, weight in self.model.named_parameters()
            if not all(one.isfinite().all() for one in stored([weight]))
        ]
        if broken:
            raise InputError(
                f"model.base {str(self.folder)!r}: weights of {broken[0]} are not finite"
            )
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
        if recipe.adapter == "none" and self._quantisation != "none":
            raise InputError(
                f"model.quantisation {self._quantisation}: quantised weights cannot be trained; "
                "take a recipe with an adapter, or leave the quantisation out"
            )
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
        with self._untouched(), self.on_device():
            self.model.eval()
            try:
                yield self.model
            finally:
                self.model.train(training)

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Have the weights on the device; those that are offloaded are back unchanged afterwards.

        For passes that do not change them.
        """
        if not self._offloaded:
            yield
            return
        tensors = [*self.model.parameters(), *self.model.buffers()]
        own = [tensor.data for tensor in tensors]
        for tensor in tensors:
            tensor.data = tensor.data.to(self.device)
        try:
            yield
        finally:
            for tensor, data in zip(tensors, own, strict=True):
                tensor.data = data

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

        found = adapters.adaptable(self.model, recipe.lora_layers, self.probe.passed_by)
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
