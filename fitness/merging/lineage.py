"""Warm start: a fine-tune starts from the checkpoints of its parents instead of the base.

A child starts from its parent's difference to the base, as far as the child's own adapter can hold
it. It is exact, to the bit, from all weights to all weights, and from an adapter to one of the same
or a larger rank over the same layers. Where the child's rank is smaller, or its parent trained all
weights, each matrix is the best approximation of that rank (truncated SVD). Changes outside the
child's layers are lost.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from fitness.errors import InputError
from fitness.evaluation import Ancestor, Evaluation, EvaluationSpec, Status, Task
from fitness.models import weights
from fitness.models.heads import CAUSAL, Head
from fitness.models.loading import load
from fitness.training.ranks import ALONE, Ranks
from fitness.training.supervised import Diverged

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

RETRAINED = "retrained-"  # begins the name of the folder for ancestors that are trained again
WRAPPED = "base_model.model."  # PEFT's prefix to the names of the base's modules
OWN = "default"  # PEFT's name of the adapter that a fine-tune trains


class Factors(NamedTuple):
    """An adapter's change of one matrix, `scale * b @ a`: b (out, r), a (r, in)."""

    b: "Tensor"
    a: "Tensor"
    scale: float


@dataclass(frozen=True)
class StartingWeights:
    """Weights to start from: all of them by name, or an adapter's factors by module."""

    all: Mapping[str, "Tensor"] = field(default_factory=dict)
    factors: Mapping[str, Factors] = field(default_factory=dict)


@contextmanager
def parents(
    spec: EvaluationSpec,
    task: Task,
    train: Callable[[EvaluationSpec, Task], Evaluation],
    ranks: Ranks = ALONE,
) -> Iterator[list[Path]]:
    """The folders with the checkpoints of the spec's parents.

    A missing checkpoint is trained again into a temporary folder, after those of its own parents
    if they are missing too. Training again gives the same weights on the same machine, so only the
    cost depends on what was missing. With several `ranks`, all of which train, only the first one
    has and reads the folders.
    """

    def checkpoint(individual: int) -> Path | None:
        folder = task.artifacts and weights.folder_of(task.artifacts, individual)
        there = bool(folder and folder.is_dir())
        return (folder or Path()) if ranks.first(there) else None

    folders = [checkpoint(parent) for parent in spec.parents]
    existing = [folder for folder in folders if folder is not None]
    if len(existing) == len(folders):
        yield existing
        return
    near = task.artifacts if task.artifacts and task.artifacts.is_dir() else None
    with TemporaryDirectory(prefix=RETRAINED, dir=near) as temporary:
        room = Path(temporary)
        for ancestor in needed(spec, checkpoint):
            folder = checkpoint(ancestor.individual)
            if folder is None:
                again = replace(unmeasured(task), artifacts=room)
                _train_again(ancestor, spec, again, train, ranks)
            elif ranks.leads:
                weights.folder_of(room, ancestor.individual).symlink_to(folder.resolve())
        yield [weights.folder_of(room, parent) for parent in spec.parents]


def unmeasured(task: Task) -> Task:
    """The task for training only; it has just what early stopping scores."""
    return task.only({task.stop_on.partition("/")[0]})


def added(seen: Mapping[str, int], drawn: Mapping[str, int]) -> dict[str, int]:
    """Sum of two counts of tokens, by source."""
    return {name: seen.get(name, 0) + drawn.get(name, 0) for name in sorted({*seen, *drawn})}


def needed(spec: EvaluationSpec, checkpoint: Callable[[int], Path | None]) -> list[Ancestor]:
    """Parents, and the ancestors of those whose checkpoint is missing, oldest first.

    `checkpoint` gives an individual's folder, None if missing. An ancestor is needed only where a
    needed descendant has to be trained again, so the walk ends at every existing checkpoint.
    """
    by_id = {ancestor.individual: ancestor for ancestor in spec.ancestors}
    required: set[int] = set()
    open_ids = list(spec.parents)
    while open_ids:
        ancestor_id = open_ids.pop()
        if ancestor_id not in required:
            required.add(ancestor_id)
            open_ids += () if checkpoint(ancestor_id) else by_id[ancestor_id].parents
    return [ancestor for ancestor in spec.ancestors if ancestor.individual in required]


def _train_again(
    ancestor: Ancestor,
    spec: EvaluationSpec,
    task: Task,
    train: Callable[[EvaluationSpec, Task], Evaluation],
    ranks: Ranks,
) -> None:
    again = replace(
        spec,
        individual=ancestor.individual,
        recipe=ancestor.recipe,
        seed=ancestor.seed,
        fidelity=ancestor.fidelity,
        split="selection",
        parents=ancestor.parents,
        seen=ancestor.seen,
        keep_weights=True,
    )
    status, why = Status.ERROR, ""
    try:
        evaluation = train(again, task)
        status, why = evaluation.status, evaluation.message
    except (Diverged, InputError) as error:
        why = str(error)
    assert task.artifacts is not None
    there = weights.folder_of(task.artifacts, again.individual).is_dir()
    if status is not Status.OK or (ranks.leads and not there):
        raise InputError(
            f"individual {spec.individual} starts from the checkpoint of its ancestor "
            f"{again.individual}, which is missing and could not be trained again "
            f"({why or 'no room for it on disk'})"
        )


def read(folder: Path, head: Head = CAUSAL) -> StartingWeights:
    """Read a checkpoint that `weights.keep` has saved in a folder."""
    from safetensors.torch import load_file

    if (folder / weights.ADAPTER).is_file():
        settings = json.loads((folder / weights.ADAPTER).read_text(encoding="utf-8"))
        if settings.get("use_dora"):
            raise InputError(f"{folder}: a DoRA adapter cannot be a warm start; use lora or none")
        rank = settings["r"]
        scale = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        tensors = load_file(folder / "adapter_model.safetensors")
        suffix = ".lora_A.weight"
        modules = [name.removesuffix(suffix) for name in tensors if name.endswith(suffix)]
        return StartingWeights(
            factors={
                module.removeprefix(WRAPPED): Factors(
                    tensors[f"{module}.lora_B.weight"], tensors[f"{module}{suffix}"], scale
                )
                for module in modules
            }
        )
    model = load(folder, "float32", head)
    return StartingWeights(all={name: weight.data for name, weight in model.named_parameters()})


def begin(model: "PreTrainedModel", inherited: StartingWeights) -> None:
    """Replace the initial weights of a prepared model by these."""
    import torch

    adapted = {
        name.removeprefix(WRAPPED): module
        for name, module in model.named_modules()
        if OWN in getattr(module, "lora_A", {})
    }
    with torch.no_grad():
        if adapted:
            for name, layer in adapted.items():
                if (factors := _change(layer, name, inherited)) is not None:
                    _place(factors, layer)
            return
        for name, weight in model.named_parameters():
            if name in inherited.all:
                weight.copy_(inherited.all[name])
        for name, factors in inherited.factors.items():
            module = model.get_submodule(name)
            module.weight.add_(product(factors, module).to(module.weight.device))


def product(factors: Factors, module: "Module") -> "Tensor":
    """`scale * b @ a` in the shape of the module's weight, float32."""
    from transformers.pytorch_utils import Conv1D

    change = factors.scale * (factors.b.float() @ factors.a.float())
    return change.T if isinstance(module, Conv1D) else change


def _change(layer: "LoraLayer", name: str, inherited: StartingWeights) -> Factors | None:
    """The change that an adapted layer starts from, in at most its own rank; None for no change."""
    import torch

    rank = layer.r[OWN]
    if name in inherited.factors:
        b, a, scale = inherited.factors[name]
        if b.shape[1] <= rank:
            return Factors(b, a, scale)
        # SVD of the product b @ a by QR of both factors and the SVD of an (r, r) matrix
        left, b_rest = torch.linalg.qr(b.float())
        right, a_rest = torch.linalg.qr(a.float().T)
        u, s, v = torch.linalg.svd(scale * (b_rest @ a_rest.T))
        return _balanced(left @ u, s, v @ right.T, rank)
    weight = inherited.all.get(f"{name}.weight")
    if weight is None:
        return None
    base = layer.base_layer.weight
    change = weight.to(base.device) - base.float()
    if layer.fan_in_fan_out:
        change = change.T
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    return _balanced(u, s, v, rank)


def _balanced(u: "Tensor", s: "Tensor", v: "Tensor", rank: int) -> Factors:
    """The leading part of an SVD, with the roots of its singular values in both factors."""
    root = s[:rank].sqrt()
    return Factors(u[:, :rank] * root, root[:, None] * v[:rank], 1.0)


def _place(factors: Factors, layer: "LoraLayer") -> None:
    """Write factors into an adapter of at least their rank; B is 0 in the further ranks."""
    rank = factors.b.shape[1]
    a, b = layer.lora_A[OWN].weight, layer.lora_B[OWN].weight
    b.zero_()
    a[:rank] = factors.a
    b[:, :rank] = factors.b * (factors.scale / layer.scaling[OWN])
