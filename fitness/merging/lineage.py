"""Beginning with the weights of parents: what a fine-tune takes over instead of the base's.

What is inherited is the parent's difference to the base, and a child takes of it what its own kind
can hold. All of it, to the bit, from all weights to all weights and from an adapter to one of the
same or a larger rank over the same layers; the best approximation of each matrix where the child's
rank is smaller or its parent had trained all weights. What lies outside its layers is lost.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from fitness.errors import InputError
from fitness.evaluation import Ancestor, Evaluation, EvaluationSpec, Status, Task
from fitness.models import weights
from fitness.models.heads import CAUSAL, Head
from fitness.models.loading import load
from fitness.training.ranks import ALONE, Ranks
from fitness.training.supervised import Diverged

RETRAINED = "retrained-"  # begins the name of the folder for ancestors that are trained again
WRAPPED = "base_model.model."  # PEFT's prefix to the names of the base's modules
OWN = "default"  # PEFT's name of the adapter that a fine-tune trains


class Factors(NamedTuple):
    """An adapter's change of one matrix, `scale * b @ a`: b (out, r), a (r, in)."""

    b: Any
    a: Any
    scale: float


@dataclass(frozen=True)
class Inherited:
    """Weights to begin with: all of them by name, or an adapter's factors by module."""

    all: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, Factors] = field(default_factory=dict)


@contextmanager
def parents(
    spec: EvaluationSpec,
    task: Task,
    train: Callable[[EvaluationSpec, Task], Evaluation],
    ranks: Ranks = ALONE,
) -> Iterator[list[Path]]:
    """The folders with the weights of the spec's parents.

    Whose are gone is trained again for the time being, and so are its own parents if they are gone
    too: the same weights on the same machine, so that only the cost depends on what was there.
    Of several `ranks`, all of which train, the first one alone has and reads the folders.
    """

    def kept(individual: int) -> Path | None:
        folder = task.artifacts and weights.folder_of(task.artifacts, individual)
        there = bool(folder and folder.is_dir())
        return (folder or Path()) if ranks.first(there) else None

    found = [kept(parent) for parent in spec.parents]
    there = [folder for folder in found if folder is not None]
    if len(there) == len(found):
        yield there
        return
    near = task.artifacts if task.artifacts and task.artifacts.is_dir() else None
    with TemporaryDirectory(prefix=RETRAINED, dir=near) as temporary:
        room = Path(temporary)
        for ancestor in needed(spec, kept):
            folder = kept(ancestor.individual)
            if folder is None:
                again = replace(unmeasured(task), artifacts=room)
                _train_again(ancestor, spec, again, train, ranks)
            elif ranks.leads:
                weights.folder_of(room, ancestor.individual).symlink_to(folder.resolve())
        yield [weights.folder_of(room, parent) for parent in spec.parents]


def unmeasured(task: Task) -> Task:
    """The task for training alone; with the domain that tells a fine-tune when to stop."""
    domains = {name: splits for name, splits in task.domains.items() if name == task.stop_on}
    return replace(task, domains=domains, prompt_sets={}, prompts={})


def added(seen: Mapping[str, int], drawn: Mapping[str, int]) -> dict[str, int]:
    """Tokens by source, together."""
    return {name: seen.get(name, 0) + drawn.get(name, 0) for name in sorted({*seen, *drawn})}


def needed(spec: EvaluationSpec, kept: Callable[[int], Path | None]) -> list[Ancestor]:
    """Parents, and the ancestors of those that are gone, oldest first."""
    known = {ancestor.individual: ancestor for ancestor in spec.ancestors}
    found: set[int] = set()
    wave = list(spec.parents)
    while wave:
        one = wave.pop()
        if one not in found:
            found.add(one)
            wave += () if kept(one) else known[one].parents
    return [ancestor for ancestor in spec.ancestors if ancestor.individual in found]


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
        fidelity=1.0,
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
            f"individual {spec.individual} begins with the weights of its ancestor "
            f"{again.individual}, which are gone and could not be trained again "
            f"({why or 'no room for them on disk'})"
        )


def read(folder: Path, head: Head = CAUSAL) -> Inherited:
    """The weights that `weights.keep` has left in a folder."""
    from safetensors.torch import load_file

    if (folder / weights.ADAPTER).is_file():
        settings = json.loads((folder / weights.ADAPTER).read_text(encoding="utf-8"))
        if settings.get("use_dora"):
            raise InputError(f"{folder}: a DoRA adapter cannot be inherited; use lora or none")
        rank = settings["r"]
        scale = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        tensors = load_file(folder / "adapter_model.safetensors")
        suffix = ".lora_A.weight"
        modules = [name.removesuffix(suffix) for name in tensors if name.endswith(suffix)]
        return Inherited(
            factors={
                module.removeprefix(WRAPPED): Factors(
                    tensors[f"{module}.lora_B.weight"], tensors[f"{module}{suffix}"], scale
                )
                for module in modules
            }
        )
    model = load(folder, "float32", head)
    return Inherited(all={name: weight.data for name, weight in model.named_parameters()})


def begin(model: Any, inherited: Inherited) -> None:
    """Put the weights in place of those that a prepared model would begin with."""
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


def product(factors: Factors, module: Any) -> Any:
    """`scale * b @ a` in the shape of the module's weight, float32."""
    from transformers.pytorch_utils import Conv1D

    change = factors.scale * (factors.b.float() @ factors.a.float())
    return change.T if isinstance(module, Conv1D) else change


def _change(layer: Any, name: str, inherited: Inherited) -> Factors | None:
    """What an adapted layer can take over, in at most as many ranks as it has; None for nothing."""
    import torch

    rank = layer.r[OWN]
    if name in inherited.factors:
        b, a, scale = inherited.factors[name]
        if b.shape[1] <= rank:
            return Factors(b, a, scale)
        # the SVD of the product by that of a small matrix, (r, r)
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


def _balanced(u: Any, s: Any, v: Any, rank: int) -> Factors:
    """The leading part of an SVD, its roots in both factors alike."""
    root = s[:rank].sqrt()
    return Factors(u[:, :rank] * root, root[:, None] * v[:rank], 1.0)


def _place(factors: Factors, layer: Any) -> None:
    """Into an adapter that has as many ranks or more: those beyond change nothing yet."""
    held = factors.b.shape[1]
    a, b = layer.lora_A[OWN].weight, layer.lora_B[OWN].weight
    b.zero_()
    a[:held] = factors.a
    b[:, :held] = factors.b * (factors.scale / layer.scaling[OWN])
