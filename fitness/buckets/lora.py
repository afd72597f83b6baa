"""Many LoRA adapters on one frozen base: a forward pass serves every member of a bucket.

The members are batched row by row. A linear module of the base is computed once for all rows; the
adapters are two batched matrix products, members x (rows, width) x (width, rank). No row meets
another member's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import dropout, pad

from fitness.errors import InputError
from fitness.models.base import Base, dropout_rate
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "default"  # PEFT's name for the only one
Adapter = Mapping[
    str, tuple[torch.Tensor, torch.Tensor]
]  # by module: A, (rank, in), and B, (out, rank)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a bucket: its recipe, and the seed of its initial weights and dropout."""

    recipe: Recipe
    seed: int


class BucketLoRA:
    """The adapters of a bucket's active members on their shared base.

    `weights` and `gradients` are (members, n): a row holds one member's A and B of all modules.
    Ranks below the largest are padded with zeros, which stay zero: the gradient of either factor's
    padding is a multiple of the other's padding.
    """

    def __init__(self, base: Base, members: Sequence[Member]) -> None:
        """The initial weights are PEFT's own, drawn by PEFT from each member's recipe and seed."""
        self.base = base
        self.members = list(members)
        self.present = list(range(len(members)))  # numbers of the members still in the batch
        self.rank = max(member.recipe.lora_rank for member in members)
        self._rows = 0  # of the current batch, all members together
        drawn = [_initial(base, member) for member in members]
        self.modules = {name: base.model.get_submodule(name) for name in drawn[0][0]}
        self.dropout = max(member.recipe.dropout for member in members)
        self._scales = torch.tensor([s for _, s in drawn], device=base.device)
        self._shapes = [
            (name, a.shape[1], b.shape[0]) for name, (a, b) in drawn[0][0].items()
        ]  # module, in, out
        rows = [[_padded(pair, self.rank) for pair in one.values()] for one, _ in drawn]
        self._hold(torch.stack([torch.cat([flat for f in row for flat in f]) for row in rows]))

    def _hold(self, weights: torch.Tensor) -> None:
        """Store weights and gradients contiguously, with views for the layers and the optimiser."""
        self.weights, self.gradients = weights, torch.zeros_like(weights)
        self.factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._places: list[
            torch.Tensor
        ] = []  # of each factor's gradient, in the order of the factors
        count, begin = len(weights), 0
        for name, width, out in self._shapes:
            down = (begin, begin + self.rank * width, (count, self.rank, width))
            begin = down[1]
            up = (begin, begin + self.rank * out, (count, out, self.rank))
            begin = up[1]
            self.factors[name] = (self._leaf(*down), self._leaf(*up))
        self.scale = self._scales[self.present].view(-1, 1, 1)

    def _leaf(self, begin: int, end: int, shape: tuple[int, ...]) -> torch.Tensor:
        self._places.append(self.gradients[:, begin:end].view(shape))
        return self.weights[:, begin:end].view(shape).detach().requires_grad_()

    def derive(self, loss: torch.Tensor) -> None:
        """Fill `gradients` with the gradient of the sum of the members' losses."""
        leaves = [factor for pair in self.factors.values() for factor in pair]
        torch._foreach_copy_(self._places, torch.autograd.grad(loss, leaves))

    def begin(
        self, model: "PreTrainedModel", positional: object, given: Mapping[str, torch.Tensor]
    ) -> None:
        """Forward hook: note the batch's number of rows, which must divide among the members."""
        self._rows = len(given["input_ids"])
        if self._rows % len(self.present):
            raise InputError(
                f"a batch of {self._rows} rows does not divide among {len(self.present)} members"
            )

    def update(
        self, name: str, x: torch.Tensor, result: torch.Tensor, *, training: bool
    ) -> torch.Tensor:
        """Add each member's LoRA update on its own rows of `x` to the module's output `result`."""
        if x.ndim < 3 or len(x) != self._rows:
            raise InputError(
                f"module {name}: gets {tuple(x.shape)} in a batch of {self._rows} rows, which "
                "cannot be assigned to members; train such a model without buckets"
            )
        a, b = self.factors[name]
        own = x.to(a.dtype)
        if self.dropout:  # `Streams` applies each member's own rate
            own = dropout(own, self.dropout, training)
        low = torch.bmm(own.reshape(len(a), -1, x.shape[-1]), a.mT) * self.scale
        return (result + torch.bmm(low, b.mT).view(result.shape)).to(result.dtype)

    def row(self, place: int) -> torch.Tensor:
        """One member's weights as a parameter for an optimiser; `place` is that in the batch."""
        row = self.weights[place].detach().requires_grad_()
        row.grad = self.gradients[place]
        return row

    def keep(self, places: Sequence[int]) -> None:
        """Continue with the members at these places of the batch; drop the others."""
        self.present = [self.present[place] for place in places]
        gradients = self.gradients[list(places)]
        self._hold(self.weights[list(places)])
        self.gradients.copy_(gradients)

    def adapter(self, place: int) -> Adapter:
        """A copy of one member's weights, without padding; `place` is that in the batch."""
        rank = self.members[self.present[place]].recipe.lora_rank
        return {
            name: (a[place, :rank].detach().clone(), b[place, :, :rank].detach().clone())
            for name, (a, b) in self.factors.items()
        }


def _initial(base: Base, member: Member) -> tuple[Adapter, float]:
    """A member's initial weights, and the scale of its update, by PEFT itself."""
    with base.prepared(member.recipe, seed=member.seed) as model:
        found = {
            name: module
            for name, module in model.base_model.model.named_modules()
            if _is_lora(module)
        }
        scale = next(iter(found.values())).scaling[ADAPTER]
        return {
            name: (m.lora_A[ADAPTER].weight.detach(), m.lora_B[ADAPTER].weight.detach())
            for name, m in found.items()
        }, scale


def _is_lora(module: object) -> bool:
    return hasattr(module, "lora_A") and ADAPTER in module.lora_A


def _padded(
    pair: tuple[torch.Tensor, torch.Tensor], rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = pair
    missing = rank - len(a)
    return pad(a, (0, 0, 0, missing)).flatten(), pad(b, (0, missing)).flatten()


def load(model: "PreTrainedModel", adapter: Adapter) -> None:
    """Put a member's weights into a model that `Base.prepared` lends for its recipe."""
    with torch.no_grad():
        for name, (a, b) in adapter.items():
            module = model.base_model.model.get_submodule(name)
            module.lora_A[ADAPTER].weight.copy_(a)
            module.lora_B[ADAPTER].weight.copy_(b)


class _Layer(torch.nn.Module):
    """A linear module of the base, computed once, plus each member's update on its own rows."""

    def __init__(self, inner: torch.nn.Module, name: str, bucket: BucketLoRA) -> None:
        super().__init__()
        self.inner = inner
        self._name = name
        self._bucket = bucket

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._bucket.update(self._name, x, self.inner(x), training=self.training)


@contextmanager
def lent(base: Base, members: Sequence[Member]) -> Iterator[BucketLoRA]:
    """Put every member's adapter on the base, and restore the base afterwards.

    A batch has equally many rows for each active member, member after member.
    """
    bucket = BucketLoRA(base, members)
    model = base.model
    with base.lent():
        model.register_forward_pre_hook(bucket.begin, with_kwargs=True)
        model.requires_grad_(False)
        for name, module in bucket.modules.items():
            model.set_submodule(name, _Layer(module, name, bucket))
        with dropout_rate(model, bucket.dropout):
            yield bucket
