"""Consequences of the base model's architecture that a user should know before a launch."""

from evo.config import SearchConfig, possible
from evo.prepare.task import Prepared
from fitness.data.kinds import ALONE
from fitness.files import size
from fitness.models import folders
from fitness.models.quantisation import BITS

MOST = 0.95  # share of the layers' weights; an adapter on fewer of them gives a warning
BYTES = {"float32": 4, "bfloat16": 2}
SHOWN = 3  # kinds of modules without an adapter


def packing_notes(config: SearchConfig, prepared: Prepared) -> list[str]:
    """Note that records are not packed, if the base cannot isolate packed documents."""
    files = [*prepared.task.sources.values()]
    files += [file for splits in prepared.task.domains.values() for file in splits.values()]
    packed = any(file.kind not in ("text", *ALONE) for file in files)
    if prepared.soundness.packs or not (packed or True in possible(config, "isolate_documents")):
        return []
    return [
        "this base cannot keep documents that share a row from attending to one another: records "
        "and isolated documents get one row each instead of being packed, with the same result"
    ]


def padding_warnings(config: SearchConfig, prepared: Prepared) -> list[str]:
    """Warning that generated text depends on the padding of a batch of prompts."""
    tasks = (one for of in prepared.task.benchmark_tasks.values() for one in of.values())
    generates = config.prompts or config.rounds or "reinforce" in possible(config, "method")
    generates = generates or any(one.generates for one in tasks)
    if prepared.soundness.pads or not generates:
        return []
    return [
        "this base ignores the attention mask, so that what it generates depends on how much its "
        "prompts are padded in a batch; give prompts of equal length, or take another base"
    ]


def quantisation_notes(config: SearchConfig, prepared: Prepared) -> list[str]:
    """Note on how many of the base's weights are quantised, and what memory they take in all."""
    kind, folder = config.model.quantisation, prepared.task.model
    if kind == "none" or folder is None:
        return []
    quantised = sum(prepared.soundness.adaptable.values())
    every = folders.parameters(folder)
    whole = every * BYTES[config.model.dtype]
    bits = quantised * BITS[kind] / 8
    stored = bits + (every - quantised) * BYTES[config.model.dtype]
    return [
        f"model.quantisation: {kind} stores {quantised / every:.0%} of the base's weights in "
        f"{BITS[kind]:g} bits each: {size(round(stored))} in place of {size(whole)}"
    ]


def adapter_warnings(config: SearchConfig, prepared: Prepared) -> list[str]:
    """Warning that the adapter does not cover many of the layers' weights."""
    sound = prepared.soundness
    if set(possible(config, "adapter")) == {"none"} or not sound.adaptable:
        return []
    share = sound.share("all")
    if "all" not in possible(config, "lora_targets") or share >= MOST:
        return []
    left = [f"{role}: {why}" for role, why in sound.without.items()]
    more = f"; and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    return [
        f"an adapter with lora_targets all covers {share:.0%} of the layers' weights; the "
        f"others stay as they are ({'; '.join(left[:SHOWN])}{more}). Set `adapter: none` to train "
        "all weights, or keep the adapter if that share is enough"
    ]
