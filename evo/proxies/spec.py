"""The spec of a proxy's search: the run's spec on a smaller model, over mixtures alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evo.config import SearchConfig
from evo.config.genomes import default_genome
from evo.config.resolve import fitting_population

MIXTURE = "mixture"


def spec_of(config: SearchConfig, number: int) -> SearchConfig:
    """The spec of the proxy's search with this number, from 1, of a resolved spec.

    The other genes are fixed at the default genome's values: they do not transfer, and would add
    their own effect to what is learned of mixtures. The test split is left for the base model.
    """
    proxy = config.model.proxies[number - 1]
    same = {"dtype": proxy.dtype, "quantisation": proxy.quantisation}
    given = {"base": proxy.base, **same, "proxies": (), "server": None}  # it serves the base
    size = {"evaluations": proxy.evaluations, "tokens": proxy.tokens}
    fixed = {name: value for name, value in default_genome(config).items() if name != MIXTURE}
    update: dict[str, Any] = {
        "model": config.model.model_copy(update=given),
        "budget": config.budget.model_copy(update=size),
        "comparison": config.comparison.model_copy(update={"seeds": 0}),
        "genome": {MIXTURE: replace(config.genome[MIXTURE], when=None)},
        "recipe": {**config.recipe, **fixed},
        "known": _mixtures(config.known),
        "mirror": None,  # the run's has this search too
    }
    spec = config.model_copy(update=update)
    # How many mixtures are simulated depends on the budget, so that each search settles it anew.
    searched: dict[str, Any] = {} if config.search.simulate == "off" else {"simulate": "auto"}
    if spec.search.population > spec.budget.evaluations:
        searched["population"] = fitting_population(spec)
    return spec.model_copy(update={"search": spec.search.model_copy(update=searched)})


def _mixtures(known: tuple[Mapping[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Known genomes with their mixtures alone, each once."""
    found: list[dict[str, Any]] = []
    for genome in known:
        alone = {MIXTURE: genome[MIXTURE]} if MIXTURE in genome else None
        if alone is not None and alone not in found:
            found.append(alone)
    return tuple(found)
