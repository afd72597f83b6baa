"""Record a loaded model, so that any change by a fine-tune can be undone, and the undoing checked.

The record is of the state before, not of the changes: every module's class, attributes, children
and hooks, and the configurations, are restored, so it does not matter which modules PEFT wrapped,
replaced, reordered or left half finished. It takes only the memory of the references.

Values can change in place behind the same references, and torch's version counters miss changes by
way of `.data`. So the bits of all weights and buffers are summed as integers: any change of a
single value changes the sum, and several would have to cancel one another to the bit. It reads each
weight once, as one forward pass does; a fine-tune does hundreds of those.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from fitness.models.quantisation import stored

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes a value


@dataclass(frozen=True, slots=True)
class _Noted:
    """A module or configuration: its class, attributes, and the content of its containers."""

    subject: object
    kind: type
    attributes: dict[str, Any]
    contents: dict[str, dict[Any, Any] | set[Any] | list[Any]]


@dataclass(frozen=True, slots=True)
class _Weight:
    """A parameter, its storage, and whether it is trained."""

    parameter: Any
    data: Any
    trained: bool


class Record:
    """A snapshot of a model: structure, references, and a checksum of its values."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self._noted = [_noted(subject) for subject in _subjects(model)]
        self._weights = [_Weight(w, w.data, w.requires_grad) for w in model.parameters()]
        self._sum = checksum(model)

    def restore(self, model: "PreTrainedModel") -> bool:
        """Undo all changes to the model; true where its values are unchanged, to the bit.

        Where they are not, it has to be loaded again.
        """
        for noted in self._noted:
            noted.subject.__class__ = noted.kind
            for name, content in noted.contents.items():
                held = noted.attributes[name]
                held.clear()
                (held.extend if isinstance(held, list) else held.update)(content)
            own = vars(noted.subject)
            own.clear()
            own.update(noted.attributes)
        for weight in self._weights:
            weight.parameter.data = weight.data
            weight.parameter.grad = None
            weight.parameter.requires_grad_(weight.trained)
        return checksum(model) == self._sum


def checksum(model: "PreTrainedModel") -> int:
    """The sum of all values of a model, their bits read as integers; 64 bits, wrapping."""
    total = 0
    with torch.no_grad():
        for tensor in stored((*model.parameters(), *model.buffers())):
            values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            bits = values.detach().view(INTEGERS[values.element_size()])
            total += int(bits.sum(dtype=torch.int64))
    return total % 2**64


def _subjects(model: "PreTrainedModel") -> Iterator[object]:
    yield from model.modules()
    own = getattr(model, "generation_config", None)  # a classifier has none
    found = [model.config, model.config.get_text_config(), own]
    yield from {id(one): one for one in found if one is not None}.values()


def _noted(subject: object) -> _Noted:
    attributes = dict(vars(subject))
    holding = {n: held for n, held in attributes.items() if isinstance(held, dict | set | list)}
    contents = {name: copy(held) for name, held in holding.items()}
    return _Noted(subject, type(subject), attributes, contents)
