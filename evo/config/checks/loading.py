"""Checks of how the base is loaded or served: what goes with quantisation, attention, a server."""

from evo.config.checks.genomes import Problems, key_of
from evo.config.file import Problem
from evo.config.genomes import possible
from evo.config.sections import SearchConfig

Key = tuple[str | int, ...]


def attention(config: SearchConfig) -> Problems:
    """FlashAttention without a GPU, or in float32, in which it does not compute."""
    asked, key = config.model.attention, ("model", "attention")
    if asked == "auto":
        return
    if not config.form.reads_recipe:
        message = "only evomix's own trainer and TRL choose how attention is computed; leave it out"
        yield Problem(key, message)
    if not asked.startswith("flash"):
        return
    if not config.resources.gpus:
        yield Problem(key, f"{asked} needs a GPU; set resources.gpus, or leave it at auto")
    elif config.model.dtype != "bfloat16":
        yield Problem(key, f"{asked} computes in bfloat16 alone; set model.dtype to bfloat16")
    elif "none" in possible(config, "adapter") and "float32" in possible(config, "precision"):
        message = f"{asked} computes in bfloat16 alone, and all weights are trained in float32"
        yield Problem(key, f"{message}; set recipe.precision to bfloat16, or leave this at auto")


def quantisation(config: SearchConfig) -> Problems:
    """A quantised base, or proxy, in a search that trains or merges all weights."""
    model = config.model
    given: dict[Key, str | None] = {("model", "quantisation"): model.quantisation}
    for place, proxy in enumerate(model.proxies):
        given["model", "proxies", place, "quantisation"] = proxy.quantisation
    key = next((key for key, value in given.items() if value not in (None, "none")), None)
    if key is None:
        return
    named = ".".join(map(str, key))
    if not config.form.reads_recipe:
        message = "only evomix's own trainer and TRL quantise a base; leave it out"
        yield Problem(key, message)
        return
    adapters = possible(config, "adapter")
    if "none" in adapters:
        message = f"none trains all weights, and {named} {given[key]} freezes them; take lora"
        yield Problem(key_of(config, "adapter"), f"{message}, or leave the quantisation out")
    elif config.parts and "dora" in adapters:
        message = f"parts merge to a plain adapter beside quantised weights ({named}); take lora"
        yield Problem(key_of(config, "adapter"), message)


def server(config: SearchConfig) -> Problems:
    """A server in a search that never generates with the base that it serves."""
    model, key = config.model, ("model", "server")
    if model.server is None:
        return
    if not config.form.trains:
        yield Problem(key, "only evomix's own trainer generates by a server; leave it out")
    elif model.task != "causal":
        yield Problem(key, f"a model whose task is {model.task} generates no text; leave it out")
    elif config.rounds is not None and config.rounds.begin == "best":
        message = "a server has one base, and rounds.begin best gives each round another"
        yield Problem(key, f"{message}; set rounds.begin to base, or leave the server out")
