"""Compilation of a model's layers by torch.compile, while it trains."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fitness.errors import InputError
from fitness.models.adapters import layers

if TYPE_CHECKING:
    from torch import nn

COMPILERS = ("c++", "g++", "clang++")  # one of which torch.compile runs


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
    found = layers(model) if wanted else []
    for layer in found:
        layer.compile()
    try:
        yield
    finally:
        for layer in found:
            layer._compiled_call_impl = None  # torch has no public way back
