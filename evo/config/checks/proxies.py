"""Checks of `model.proxies` against the rest of the spec."""

from evo.config.checks.genomes import Problems
from evo.config.checks.search import kind_of
from evo.config.file import Key, Problem
from evo.config.genomes import baseline_names, largest, mixed_sources, train_shares
from evo.config.sections import SearchConfig
from population.space import Simplex
from population.strategies import guidable, least_population

PROXIES: Key = ("model", "proxies")


def proxies(config: SearchConfig) -> Problems:
    """Settings that proxies do not support, models named twice, and budgets that are too small."""
    if not config.model.proxies:
        return
    strategy, kind = config.search.strategy, kind_of(config)
    against = {
        "rounds, whose searches start from one base": config.rounds is not None,
        "an evaluator of its own, of whose model nothing is known": not config.form.trains,
        "parts, which are fine-tunes of one base": bool(config.parts),
        f"search.strategy {strategy}, which takes no guides (`surrogate` does)": (
            kind is not None and not guidable(kind)
        ),
    }
    for name in (name for name, there in against.items() if there):
        yield Problem(PROXIES, f"cannot be combined with {name}; leave one out")
    if not isinstance(config.genome.get("mixture"), Simplex) or len(mixed_sources(config)) < 2:
        message = "only mixtures transfer from a proxy, and the genome has none of two sources or "
        yield Problem(
            PROXIES, f"{message}more; add `mixture: {{type: simplex}}`, or leave them out"
        )
    bases = [config.model.base]
    for index, proxy in enumerate(config.model.proxies):
        if proxy.base in bases:
            again = "the base model itself" if proxy.base == bases[0] else "named twice"
            message = f"{proxy.base} is {again}; name a smaller model, or leave this one out"
            yield Problem((*PROXIES, index, "base"), message)
        bases.append(proxy.base)
        least = fewest_evaluations(config)
        if proxy.evaluations is not None and proxy.evaluations < least:
            message = f"{proxy.evaluations}; the strategy and the baselines need at least {least}"
            yield Problem((*PROXIES, index, "evaluations"), message)


def fewest_evaluations(config: SearchConfig) -> int:
    """Fewest evaluations that the search on a proxy works with; 1 if there is no such strategy."""
    anchors = len(baseline_names(config)) + len(config.known)
    if kind_of(config) is None:
        return 1
    sizes = {"objectives": len(config.objectives), "anchors": anchors}
    return max(anchors, least_population(config.search.strategy, **sizes))


def steps(config: SearchConfig) -> Problems:
    """Tokens of a proxy below one step of the largest batch."""
    if not config.form.reads_recipe or config.parts:
        return
    batch, length = largest(config, "batch_size"), largest(config, "sequence_length")
    share = train_shares(config)[0]
    for index, proxy in enumerate(config.model.proxies):
        tokens = proxy.tokens and round(proxy.tokens * share)
        if tokens is not None and tokens < batch * length:
            message = f"{tokens} tokens are less than one step of the largest batch, {batch:g} "
            message += f"sequences of {length:g}; raise it to at least {batch * length / share:g}"
            yield Problem((*PROXIES, index, "tokens"), message)
