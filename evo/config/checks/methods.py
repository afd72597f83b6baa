"""Checks of the training methods that are possible in a search, against the sources."""

from collections.abc import Mapping

from evo.config.checks.genomes import Problems, key_of
from evo.config.file import Key, Problem
from evo.config.genomes import (
    default_genome,
    filled_genes,
    learned_shares,
    learners,
    mixed_sources,
    possible,
    unlearned,
)
from evo.config.rounds import GENERATED, JUDGED, PAIRS
from evo.config.sections import ONLY, SearchConfig
from fitness.errors import InputError
from fitness.methods import METHODS
from fitness.recipe import SHARE_TOLERANCE, Recipe
from fitness.training.rewards import check_reward
from population.space import Simplex


def methods(config: SearchConfig) -> Problems:
    """Methods that the search may use without a source of the kind they need; unknown rewards."""
    if not config.form.trains:
        return
    wanted = possible(config, "method")
    for method, uses in METHODS.items():
        kinds = {source.kind for source in config.sources.values() if source.teaches(method)}
        if config.rounds is not None and config.rounds.pairs:
            kinds.add(GENERATED[PAIRS])
        if config.rounds is not None and config.rounds.judgements:
            kinds |= set(JUDGED.values())
        if method in wanted and method != "supervised" and not kinds & uses.keys():
            yield Problem(
                key_of(config, "method"), f"{method} needs a source of kind {' or '.join(uses)}"
            )
    if "reinforce" in wanted:
        rewards = config.recipe.get("rewards", Recipe().rewards)
        for name in rewards if isinstance(rewards, Mapping) else ():
            try:
                check_reward(str(name))
            except InputError as error:
                yield Problem(("recipe", "rewards", str(name)), str(error).strip())


def of_sources(config: SearchConfig) -> Problems:
    """The `methods` of sources that no trainer reads, or that no method of the search is among."""
    for name, source in config.sources.items():
        key: Key = ("sources", name, "methods")
        if source.methods is not None and not config.form.trains:
            yield Problem(key, "only evomix's own trainer has methods; leave it out")
        elif not learners(config, name):
            wanted = " and ".join(possible(config, "method"))
            message = f"it would never be learned: the search has {wanted} alone; add one of them"
            yield Problem(key, f"{message}, or leave the source out")
    for name, domain in config.domains.items():
        for split, (source, half) in domain.splits().items():
            if source.methods is not None:
                inner = () if half else (split,)
                message = "a domain is scored under every method; leave it out"
                yield Problem(("domains", name, *inner, "methods"), message)


def learned(config: SearchConfig) -> Problems:
    """Methods without a source to learn from, and mixtures from which the default learns nothing.

    A pool that rounds add is learned under every method.
    """
    if not (config.form.trains and config.sources):
        return
    if config.rounds is None or config.rounds.first == "search":
        most = _largest_shares(config)
        for method in possible(config, "method"):
            mixed = [name for name, share in most.items() if share > SHARE_TOLERANCE]
            if not any(config.sources[name].teaches(method) for name in mixed):
                message = f"{method} learns from none of the sources that may have a share, "
                message += f"{', '.join(mixed)}, by their `methods`; add it to one of them"
                yield Problem(key_of(config, "method"), message)
    try:
        start = default_genome(config)
    except ValueError:  # of conditions that cannot be met, which have a check of their own
        return
    if "mixture" in start and not learned_shares(config, start):
        message = "the default method learns from none of its sources, by their `methods`; give "
        yield Problem(("recipe", "mixture"), f"{message}another one a share")
    absent = unlearned(config)
    for index, name in enumerate(config.baselines):
        if name.startswith(ONLY) and name.removeprefix(ONLY) in absent:
            message = "the default method does not learn from it, by its `methods`"
            yield Problem(("baselines", index), f"{message}; leave it out")
    if config.model.proxies and absent:
        message = f"mixtures would be searched under the default method alone, and {absent[0]} is "
        yield Problem(("model", "proxies"), f"{message}not learned under it; leave one out")


def _largest_shares(config: SearchConfig) -> dict[str, float]:
    """The largest share that each source can have in this search."""
    gene, given = filled_genes(config).get("mixture"), config.recipe.get("mixture")
    if isinstance(gene, Simplex):
        floor, cap = gene.bounds
        left = 1.0 - floor.sum()
        shares = [min(high, low + left) for low, high in zip(floor, cap, strict=True)]
        return dict(zip(gene.over, shares, strict=True))
    if isinstance(given, Mapping):
        return Recipe.model_validate({"mixture": given}).mixture
    return dict.fromkeys(mixed_sources(config), 1.0)
