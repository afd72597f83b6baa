"""Quantised bases: linear weights stored in 4 or 8 bits, frozen beside an adapter (QLoRA).

Quantised are the linear modules that could have an adapter; embeddings, norms, heads, routers and
experts that are stored as one weight stay as they are. `nf4` with quantised constants, 4.13 bits a
weight, is Dettmers et al. 2023, by bitsandbytes. `int8` has a scale for each row of weights, by
torchao. Not LLM.int8() of bitsandbytes: that quantises the activations too, and looks for outliers
in a whole batch, so that a token's loss would depend on what else is in its batch.
"""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fitness.errors import InputError
from fitness.models.heads import Head

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Quantisation = Literal["none", "nf4", "int8"]
BITS = {"nf4": 4.127, "int8": 8.0}  # of a weight; nf4 with 8 bits of scale for each 64
PACKAGES: dict[str, tuple[str, ...]] = {
    "none": (),
    "nf4": ("bitsandbytes", "accelerate"),
    "int8": ("torchao", "accelerate"),
    "adamw_8bit": ("bitsandbytes",),
}


def check_installed(key: str, value: str) -> None:
    """Raise InputError if a package that this value of a key needs is missing."""
    missing = []
    for package in PACKAGES[value]:
        try:
            version(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        raise InputError(
            f"{key} {value}: needs {' and '.join(missing)}; install what is missing with "
            "pip install 'evomix[quantised]'"
        )


def load_quantised(
    folder: Path,
    dtype: str,
    head: Head,
    quantisation: str,
    device: "torch.device | str" = "cpu",
    **how: Any,
) -> "PreTrainedModel":
    """Load a folder's model to a device, and quantise each weight on the way.

    `dtype` is that of the products, and of the weights that are not quantised. Modules that the
    model reads without calling them, as Mamba does, are not. `how` as in `loading.load`.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    from fitness.models import soundness
    from fitness.models.loading import load, skeleton

    check_installed("model.quantisation", quantisation)
    wanted = soundness.check(folder, head).adaptable
    # A pattern matches from the start of a name. Given any, the library adds none for the head.
    plain = [
        re.escape(name)
        for name, module in skeleton(folder, head).named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and name not in wanted
    ]
    config = _nf4(getattr(torch, dtype), plain) if quantisation == "nf4" else _int8(plain)
    how |= {"quantization_config": config, "device_map": {"": device}}
    if quantisation == "int8":
        return load(folder, dtype, head, **how)
    _decode_as_one_row()
    model = load(folder, dtype, head, **how)
    _keep_as_loaded(model)
    return model


@cache
def _decode_as_one_row() -> "torch.library.Library":
    """Have bitsandbytes decode 4 bits on a CPU whatever the length of a row.

    Its kernel for AVX-512 (version 0.50.2) begins a block of 64 with each row, but blocks run on
    from row to row: other weights than were stored, unless a row is a multiple of 64.
    """
    import bitsandbytes  # noqa: F401 - registers the kernel
    import torch

    name = "bitsandbytes::dequantize_4bit"
    kernel = torch.library.get_kernel(name, "CPU")

    def decode(
        keys: Any,
        packed: torch.Tensor,
        scales: torch.Tensor,
        block: int,
        kind: str,
        shape: Sequence[int],
        dtype: torch.dtype,
    ) -> torch.Tensor:
        flat = [1, math.prod(shape)] if shape[-1] % block else shape
        decoded: torch.Tensor = kernel.call_boxed(keys, packed, scales, block, kind, flat, dtype)
        return decoded.reshape(list(shape))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*[Oo]verrid")
        library = torch.library.Library("bitsandbytes", "IMPL")
        library.impl("dequantize_4bit", decode, "CPU", with_keyset=True, allow_override=True)
    return library  # which undoes it when nobody keeps it


def _keep_as_loaded(model: "PreTrainedModel") -> None:
    """Keep bitsandbytes from packing weights anew, in place, at the first call outside training.

    It does so where a processor has AVX512-BF16: for products in bfloat16, with no gradient for
    what comes before, and with rows of a multiple of 64 weights alone.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _nf4(dtype: "torch.dtype", plain: list[str]) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=plain,  # in 4 bits too
    )


def _int8(plain: list[str]) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=plain)


def stored(weights: Iterable["torch.Tensor"]) -> "Iterator[torch.Tensor]":
    """The tensors that weights are stored in; of a tensor subclass, those inside it."""
    for weight in weights:
        if (flatten := getattr(weight, "__tensor_flatten__", None)) is not None:
            inner = [getattr(weight, name) for name in flatten()[0]]
            yield from stored(one for one in inner if one is not None)
            continue
        yield weight
        if (state := getattr(weight, "quant_state", None)) is not None:
            yield state.absmax
            yield state.offset  # not finite if a weight was not


def dequantise(plain: "PreTrainedModel", quantised: "PreTrainedModel") -> None:
    """Replace weights of a plain model, in place, by what the same model computes with, quantised.

    The values are those of the quantised modules in every product; merging an adapter into the
    original weights instead would add it to others than it was trained beside.
    """
    from transformers.pytorch_utils import Conv1D

    for name, module in quantised.named_modules():
        weight: Any = getattr(module, "weight", None)
        if hasattr(weight, "quant_state"):
            from bitsandbytes.functional import dequantize_4bit

            values = dequantize_4bit(weight.data, weight.quant_state)
        elif hasattr(weight, "dequantize") and hasattr(weight, "qdata"):
            values = weight.dequantize()
        else:
            continue
        own = plain.get_submodule(name)
        turned = values.T if isinstance(own, Conv1D) else values  # which stores (in, out)
        own.weight.data = turned.to(own.weight.device, own.weight.dtype).contiguous()
