"""Checks of `model.quantisation`: quantised weights are frozen, so only adapters can be trained."""

from evo.config.checks.genomes import Problems, key_of
from evo.config.file import Problem
from evo.config.genomes import possible
from evo.config.sections import SearchConfig

Key = tuple[str | int, ...]


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
