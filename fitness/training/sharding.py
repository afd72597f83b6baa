"""Sharded training (FSDP2): each process holds a part of the weights, gradients and moments.

The weights of a layer are gathered from all processes for its forward and backward pass alone
(torch.distributed.fsdp.fully_shard; Zhao et al. 2023, arXiv 2304.11277). A twin of the model is
sharded and trained. The model itself stays whole, gets the twin's weights, and is scored.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from fitness.mixture.mixing import Batch
from fitness.models.adapters import layers
from fitness.models.heads import last_head, mark_last_head
from fitness.training.ranks import Ranks

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class ShardedRanks(Ranks):
    """Ranks that train one sharded model: each pass through a layer waits for all of them."""

    def parts(self, batch: Batch, rows: int | None) -> Iterator[tuple[Batch, float]]:
        """This process's parts of a batch, with their shares.

        Every process gets as many parts of each use, as a pass without a counterpart would wait
        for ever: where parts lack, the last one is computed again with a share of 0.
        """
        for _, alike in groupby(self.of_all(batch, rows), key=lambda part: _use(part[0])):
            group = list(alike)
            group += [(group[-1][0], 0.0)] * (-len(group) % self.size)
            yield from group[self.rank :: self.size]

    def add(self, loss: float, weights: object) -> float:
        """The summed loss of all processes, whose gradients are summed already."""
        return sum(self.all(loss))


def _use(part: Batch) -> str:
    return part.others[0].use if part.others else ""


def sharded(model: "PreTrainedModel", device: "torch.device", ranks: Ranks) -> "PreTrainedModel":
    """A twin of the model on the device, of whose weights each process holds a part.

    The model's own weights, on any device, are not changed by the training of the twin.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    own = {
        id(weight): torch.nn.Parameter(weight.data, requires_grad=weight.requires_grad)
        for weight in model.parameters()
    }
    twin = copy.deepcopy(model, own)  # with these weights in place of copies
    if last_head(model) is not None:
        mark_last_head(twin)
    mesh = init_device_mesh(device.type, (ranks.size,))
    for part in (*layers(twin), twin):
        fully_shard(part, mesh=mesh)
        part.set_force_sum_reduction_for_comms(True)
        part.set_gradient_divide_factor(1.0)  # a sum over the processes, and no mean
    return twin


def gather(twin: "PreTrainedModel", model: "PreTrainedModel") -> None:
    """Copy the trained weights of a sharded twin, from all processes, to the whole model."""
    for weight, part in zip(model.parameters(), twin.parameters(), strict=True):
        if weight.requires_grad:
            weight.data.copy_(whole(part.detach()))


AnyTensor = TypeVar("AnyTensor", bound="Tensor")


def whole(tensor: AnyTensor) -> AnyTensor:
    """The tensor of which every process holds a part, or the tensor itself if it is no such."""
    part: Any = tensor
    return part.full_tensor() if _is_sharded(tensor) else tensor


def own_part(tensor: AnyTensor) -> AnyTensor:
    """This process's part of a sharded tensor, with the same storage; else the tensor itself."""
    part: Any = tensor
    return part.to_local() if _is_sharded(tensor) else tensor


def as_part_of(weight: "Tensor", values: "Tensor") -> "Tensor":
    """A copy of a state of the optimiser, sharded as its weight is; a scalar is whole."""
    placed = values.to(weight.device, copy=True)
    if not _is_sharded(weight) or not values.ndim:
        return placed
    like: Any = weight
    return type(like).from_local(
        placed, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )


def _is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor, whose import takes half a second
