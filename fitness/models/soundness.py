"""Check that a model folder can be loaded and trained, without reading its weights.

transformers itself loads the folder, with the shapes in the headers of its files only, so that its
own rules decide which weights are missing or do not fit. The probe of `fitness.models.packing`
runs on the architecture with random weights, each matrix a view of one short vector, so that memory
is that of the largest layer. The result is cached under a key of everything that decides it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness.data.tokenizer import fingerprint_of_tokenizer, load_tokenizer
from fitness.errors import InputError
from fitness.files import cache_folder, write_whole
from fitness.models import adapters, folders, head_checks
from fitness.models.heads import Head, find_last_head, last_head
from fitness.models.loading import configuration, own_parts, unusable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FORMAT = 3  # of the cached result
DTYPES = {  # of safetensors, as torch names them
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}


@dataclass(frozen=True, slots=True)
class Soundness:
    """Result of the check: `packs` as in `packing.Probe`, `pads` as there, and adapters' reach.

    `layers` is the number of weights inside the layers, `adaptable` that of each linear module that
    can have an adapter; `without` has the reason, by role, for modules that cannot. `last_head` is
    true where logits are the output of a linear head, as `heads.find_last_head` tells, and
    `passed_by` are the roles of modules that a forward pass does not call.
    """

    packs: bool = True
    layers: int = 0
    adaptable: Mapping[str, int] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    pads: bool = True
    last_head: bool = False
    passed_by: Collection[str] = ()

    def share(self, targets: str) -> float:
        """The share of the layers' weights in the modules that these targets adapt.

        Raises InputError if no module can have an adapter.
        """
        if not self.adaptable:
            why = next(iter(self.without.values()), "it has no layers of linear modules")
            raise InputError(
                f"adapter: the base model has no module that can have one ({why}); use "
                "`adapter: none`"
            )
        beside = adapters.targeted(self.adaptable, targets)
        return sum(self.adaptable[name] for name in beside) / max(1, self.layers)


def check(folder: Path, head: Head) -> Soundness:
    """Raise InputError if the model in a folder cannot be loaded with this head, or computed."""
    kept = cache_folder() / f"model-{_key(folder, head)}.json"
    try:
        return Soundness(**json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    found = _checked(folder, head)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps(asdict(found)))
    return found


def _key(folder: Path, head: Head) -> str:
    """SHA-256, in hex, over everything that decides the result."""
    packages = [version(name) for name in ("torch", "transformers", "peft")]
    headers = {name: [one["dtype"], one["shape"]] for name, one in folders.entries(folder).items()}
    settings = [FORMAT, packages, asdict(head), folders.config_json(folder), headers]
    content = json.dumps([*settings, fingerprint_of_tokenizer(folder)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _checked(folder: Path, head: Head) -> Soundness:
    from fitness.models.packing import Probe, pads, probed

    head_checks.check_class(folder, head.task)
    model = shaped(folder, head)
    _check_tokenizer(folder, model)
    if head.task != "causal":
        return _reach(model, Probe())
    drawn = _drawn(model).eval()
    probe = probed(drawn, str(folder))
    find_last_head(drawn)
    return replace(
        _reach(model, probe),
        pads=pads(drawn),
        last_head=last_head(drawn) is not None,
        passed_by=sorted(probe.passed_by),
    )


def shaped(folder: Path, head: Head) -> Any:
    """The model as transformers loads it, with shapes only (on the meta device)."""
    import torch

    config = configuration(folder, head)
    state = {
        name: torch.empty(one["shape"], dtype=_dtype(folder, one["dtype"]), device="meta")
        for name, one in folders.entries(folder).items()
    }
    try:
        model, loading = _model_class(config, head).from_pretrained(
            None,
            config=config,
            state_dict=state,
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,  # they are told below
            output_loading_info=True,
        )
    except Exception as error:  # whatever hundreds of architectures raise at odd sizes
        what = "no model follows from its config.json"
        raise InputError(unusable(folder, what, error)) from error
    own = tuple(f"{part}." for part in own_parts(model, head))
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith(own))
    unlike = sorted(str(one[0]) for one in loading["mismatched_keys"])
    if missing or unlike:
        what = f"are not in it, such as {missing[0]}" if missing else f"differ, such as {unlike[0]}"
        raise InputError(
            f"model.base {str(folder)!r}: {len(missing or unlike)} weights that its config.json "
            f"tells of {what}; save the whole model there"
        )
    return model


def _dtype(folder: Path, name: str) -> Any:
    import torch

    if name not in DTYPES:
        raise InputError(
            f"model.base {str(folder)!r}: holds weights of type {name!r:.20}, which cannot be "
            "trained; save it in float32 or bfloat16"
        )
    return getattr(torch, DTYPES[name])


def _model_class(config: Any, head: Head) -> Any:
    """The architecture's own class with the head."""
    found = head.model_class._model_mapping[type(config)]
    return found[0] if isinstance(found, tuple) else found


def _check_tokenizer(folder: Path, model: "PreTrainedModel") -> None:
    tokenizer = load_tokenizer(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max([*tokenizer.get_vocab().values(), *tokenizer.all_special_ids])
    if largest >= rows:
        raise InputError(
            f"model.base {str(folder)!r}: its tokenizer has tokens up to number {largest}, "
            f"{tokenizer.convert_ids_to_tokens(largest)!r:.60}, and the model embeddings for "
            f"{rows} only; take the tokenizer that belongs to it, or resize_token_embeddings"
            f"({largest + 1}) and train them before"
        )


def _drawn(shapes: Any) -> Any:
    """The model with random weights, each matrix a view of a vector: M[i, j] = v[i + j]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    state: dict[str, Any] = {}
    for name, weight in shapes.named_parameters():
        if weight.ndim < 2:
            state[name] = torch.empty(weight.shape).uniform_(0.5, 1.5, generator=generator)
            continue
        numbers = torch.randn(sum(weight.shape[-2:]), generator=generator) / weight.shape[-1] ** 0.5
        strides = [0] * (weight.ndim - 2) + [1, 1]  # experts are alike
        state[name] = numbers.as_strided(weight.shape, strides)
    return type(shapes).from_pretrained(
        None,
        config=shapes.config,
        state_dict=state,
        dtype=torch.float32,
        experts_implementation="eager",  # others want each expert's weights in one piece
    )


def _reach(model: "PreTrainedModel", probe: Any) -> Soundness:
    """Count the layers' weights that adapters can reach, and those they cannot, largest first."""
    total, weights = 0, dict[str, int]()
    for layer in adapters.layers(model):
        for weight in layer.parameters():
            total += weight.numel() if weight.ndim > 1 else 0
    try:
        found = adapters.linear_modules(model)
    except InputError:
        return Soundness(probe.packs, total)
    refused = adapters.refused(model, found, probe.passed_by)
    beside = {name: module.weight.numel() for name, module in found.items() if name not in refused}
    reasons = {adapters.role(name): why for name, why in refused.items()}
    linear = {id(module.weight) for module in found.values()}
    inside = {id(w) for layer in adapters.layers(model) for w in layer.parameters()}
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and id(weight) in inside - linear:
            reasons[adapters.role(name)] = "no linear module"
            weights[adapters.role(name)] = weights.get(adapters.role(name), 0) + weight.numel()
    for name in refused:
        role = adapters.role(name)
        weights[role] = weights.get(role, 0) + found[name].weight.numel()
    largest = sorted(weights, key=lambda role: -weights[role])
    return Soundness(probe.packs, total, beside, {role: reasons[role] for role in largest})
