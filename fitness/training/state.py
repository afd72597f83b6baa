"""Paused fine-tunes: saved training states from which to resume, to the bit.

One safetensors file for an individual and a seed: weights, the optimiser's moments and the random
states as tensors, the rest as JSON in its header. Nothing in it is unpickled.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness.files import appearing, remove_partial
from fitness.training.optimisers import trained_by
from fitness.training.sharding import as_part_of, own_part

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.optim import Optimizer

STATE = "state"  # the header's key
Curve = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Optimiser steps taken, tokens seen, the learning curve so far, and tensors by name.

    The tensors are `PLACE.weight`, `PLACE.exp_avg` and so on for each weight by its place in the
    optimiser, and `random.DEVICE`, uint8; none before the first step.
    """

    step: int = 0
    tokens: int = 0
    learning_curve: Curve = field(default_factory=list)
    tensors: Mapping[str, "Tensor"] = field(default_factory=dict, repr=False)


NOT_BEGUN = TrainingState()


def capture(
    optimisers: "Sequence[Optimizer]", *, step: int, tokens: int, learning_curve: Curve
) -> TrainingState:
    """The state of optimisers, of their weights and of the random generators; copies no tensor."""
    import torch

    weights = trained_by(*optimisers)
    tensors = {f"{place}.weight": own_part(weight.detach()) for place, weight in enumerate(weights)}
    first = 0
    for one in optimisers:
        for place, moments in one.state_dict()["state"].items():
            for name, value in _flat(moments):  # some count their steps in a plain number
                tensors[f"{first + place}.{name}"] = own_part(torch.as_tensor(value))
        first += len(trained_by(one))
    for device, generators in _generators(weights[0].device).items():
        tensors[f"random.{device}"] = generators.get_rng_state()
    return TrainingState(step, tokens, list(learning_curve), tensors)


def restore(state: TrainingState, optimisers: "Sequence[Optimizer]") -> None:
    """Bring fresh optimisers, their weights and the random generators to where the state was."""
    import torch

    weights = trained_by(*optimisers)
    moments: dict[int, dict[str, Any]] = {}
    with torch.no_grad():
        for name, tensor in state.tensors.items():
            place, _, kind = name.partition(".")
            if place == "random":
                continue
            weight = weights[int(place)]
            if kind == "weight":
                own_part(weight).copy_(tensor)
                continue
            outer, _, inner = kind.rpartition(".")
            held = moments.setdefault(int(place), {})
            held = held.setdefault(outer, {}) if outer else held
            counted = tensor.ndim == 0 and not tensor.is_floating_point()
            held[inner] = int(tensor) if counted else as_part_of(weight, tensor)
    first = 0
    for one in optimisers:
        own = range(first, first + len(trained_by(one)))
        mine = {place - first: moments[place] for place in own if place in moments}
        one.load_state_dict({**one.state_dict(), "state": mine})
        first = own.stop
    for device, generators in _generators(weights[0].device).items():
        generators.set_rng_state(state.tensors[f"random.{device}"])


def _flat(moments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by name; of a mapping within, such as bitsandbytes has, by both names."""
    for name, value in moments.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", one) for inner, one in value.items())
        else:
            yield name, value


def _generators(device: "torch.device") -> dict[str, Any]:
    """The holders of random states, by type of device: the CPU's and the model's own."""
    import torch

    own = {} if device.type == "cpu" else {device.type: torch.get_device_module(device)}
    return {"cpu": torch.random, **own}


def file_of(artifacts: Path, individual: int, seed: int, rank: int = 0) -> Path:
    """The file with the state of an individual's fine-tune under a seed; one for each rank."""
    of_rank = f"-{rank}" if rank else ""
    return artifacts / f"state-{individual}-{seed}{of_rank}.safetensors"


def keep(state: TrainingState, file: Path) -> None:
    """Save a state, whole or not at all. A full disk costs the state, not the evaluation."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from torch import Tensor

    remove_partial(file)  # of a worker that died
    header = {
        "step": state.step,
        "tokens": state.tokens,
        "learning_curve": state.learning_curve,
    }
    tensors, seen = dict[str, Tensor](), set[int]()
    for name, tensor in state.tensors.items():  # a file has no place for shared ones
        whole = tensor.contiguous()
        tensors[name] = whole.clone() if whole.data_ptr() in seen else whole
        seen.add(whole.data_ptr())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with appearing(file) as partial:
            save_file(tensors, partial, {STATE: json.dumps(header)})
    except (OSError, SafetensorError):
        pass


def load(file: Path) -> TrainingState | None:
    """The state saved in `file`; None if it is missing or incomplete."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as content:
            header = json.loads(content.metadata()[STATE])
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    curve = [(tokens, loss) for tokens, loss in header["learning_curve"]]
    return TrainingState(header["step"], header["tokens"], curve, tensors)


def forget(artifacts: Path, individual: int) -> None:
    """Delete the saved states of an individual that will not be resumed any more."""
    for file in artifacts.glob(f"state-{individual}-*"):
        file.unlink(missing_ok=True)
