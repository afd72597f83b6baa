"""How layers compute while a model trains: activations recomputed, or compiled kernels."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fitness.errors import InputError
from fitness.models.adapters import layers as layers_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

COMPILERS = ("c++", "g++", "clang++")  # one of which torch.compile runs


@contextmanager
def checkpointed(model: "PreTrainedModel") -> Iterator[None]:
    """Store only each layer's input for the gradients; the model is restored afterwards.

    Set by hand because the library's own switch cannot be undone completely, and makes gradients
    flow through the frozen layers below the lowest adapter, to no use.
    """
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise InputError(
            f"resources.checkpointing: {type(model).__name__} has no layers made for it; leave it "
            "out, and lower resources.micro_batch"
        )
    before = [(layer, dict(vars(layer))) for layer in layers]
    settings: dict[str, Any] = {
        "gradient_checkpointing": True,
        "_gradient_checkpointing_func": partial(checkpoint, use_reentrant=False),
    }
    for layer in layers:
        vars(layer).update(settings)
    try:
        yield
    finally:
        for layer, values in before:
            for name in settings:
                vars(layer).pop(name)
            vars(layer).update({name: values[name] for name in settings if name in values})


def check_compiler() -> None:
    """Raise InputError if this machine has no C++ compiler, without which every fine-tune fails."""
    if not any(map(shutil.which, COMPILERS)):
        raise InputError(
            f"resources.compile: needs a C++ compiler ({', '.join(COMPILERS)}) on PATH; install "
            "one, or leave it out"
        )


@contextmanager
def compiled(model: "nn.Module", *, wanted: bool) -> Iterator[None]:
    """Compile each layer at its first call within the context, if that is `wanted`.

    Scoring and generation, whose shapes vary, are outside of it.
    """
    found = layers_of(model) if wanted else []
    for layer in found:
        layer.compile()
    try:
        yield
    finally:
        for layer in found:
            layer._compiled_call_impl = None  # torch has no public way back
