"""Deterministic training on a GPU: equal to the bit under the same seed, as it is on a CPU."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORKSPACES = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes cuBLAS sum in a fixed order
FLASH = ("FLASH_ATTENTION_DETERMINISTIC", "1")  # of transformers, for FlashAttention's gradients
MISSING = "deterministic"  # in PyTorch's words for an operation that has no such algorithm
TOKENS = 8


def reserve_workspaces() -> None:
    """Make cuBLAS and FlashAttention sum in a fixed order.

    For cuBLAS it takes effect only before the first product on a GPU.
    """
    os.environ.setdefault(*WORKSPACES)
    os.environ.setdefault(*FLASH)


@contextmanager
def repeatable(model: "PreTrainedModel", trained: Sequence[Any], rows: int = 1) -> Iterator[None]:
    """Use deterministic algorithms on a GPU; a CPU is deterministic anyway.

    The backward passes of flash and memory-efficient attention sum with atomics, hence in any
    order, unless PyTorch is set to be strict (torch.use_deterministic_algorithms). Then an
    operation without a deterministic algorithm raises. So the gradients of the `trained` tensors
    are tried first on a few tokens, in `rows` rows, and a model with such an operation is trained
    without the guarantee, with a warning. Changes the random state.
    """
    import torch

    if trained[0].device.type == "cpu":
        yield
        return
    mode = torch.get_deterministic_debug_mode()
    settings: Any = torch.utils.deterministic  # whose class is put in its place at run time
    filling = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False  # which only serves to find bugs
    torch.set_deterministic_debug_mode("error")
    try:
        if why := _refused(model, trained, rows):
            torch.set_deterministic_debug_mode("warn")
            warnings.warn(
                f"{type(model).__name__}: its fine-tunes on this GPU are not equal to the bit "
                f"under the same seed ({why})",
                stacklevel=2,
            )
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        settings.fill_uninitialized_memory = filling


def _refused(model: "PreTrainedModel", trained: Sequence[Any], rows: int) -> str:
    """The reason why a forward or backward pass cannot be deterministic; empty where it can."""
    import torch

    tokens = torch.ones((rows, TOKENS), dtype=torch.int64, device=trained[0].device)
    try:
        model(input_ids=tokens).logits.float().sum().backward()
    except RuntimeError as error:
        if MISSING not in str(error):
            raise
        return str(error).split(". ")[0]
    finally:
        for tensor in trained:
            tensor.grad = None
    return ""
