"""Activations computed anew for the gradients, for models that leave no room to keep them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fitness.errors import InputError


@contextmanager
def checkpointed(model: Any) -> Iterator[None]:
    """Of each layer only the input is kept for the gradients; put back afterwards.

    Done by hand because the library's switch cannot be undone without a trace, and has gradients
    flow through the frozen layers below the lowest adapter, for nothing.
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
