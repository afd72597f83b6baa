"""Checks of the budget against the recipes, the sources and what is measured."""

from evo.config.checks.genomes import Problems, key_of
from evo.config.file import Key, Problem, unknown
from evo.config.genomes import default_genome, largest, method_of, mixed_sources, train_shares
from evo.config.rounds import ADDED
from evo.config.sections import SearchConfig
from fitness.methods import BY_TOKEN, use_of


def steps(config: SearchConfig) -> Problems:
    """A token budget below one step of the largest batch."""
    if not config.form.reads_recipe or config.parts:
        return
    batch, length = largest(config, "batch_size"), largest(config, "sequence_length")
    if config.budget.tokens < batch * length:
        yield Problem(
            ("budget", "tokens"),
            f"{config.budget.tokens} tokens are less than one step of the largest batch, "
            f"{batch:g} sequences of {length:g}; raise it to at least {batch * length:g}",
        )
        return
    tokens = round(config.budget.tokens * train_shares(config)[0])
    if tokens < batch * length:
        yield Problem(
            key_of(config, "train_share"),
            f"{tokens} tokens are less than one step of the largest batch, {batch:g} sequences of "
            f"{length:g}; raise it to at least {batch * length / config.budget.tokens:.3g}",
        )


def epochs(config: SearchConfig) -> Problems:
    """Passes over sources that are never there, or without a builtin trainer."""
    wanted = config.budget.epochs
    if wanted is None:
        return
    if not config.form.mixes:
        message = "counts passes over sources, which this evaluator reads itself; leave it out"
        yield Problem(("budget", "epochs"), message)
    there = [*config.sources, *(ADDED if config.rounds else ())]
    for name in wanted if isinstance(wanted, dict) else ():
        if name not in there:
            yield Problem(("budget", "epochs", name), unknown(name, there, "there are", "source"))


def learned_tokens(config: SearchConfig) -> Problems:
    """Learned tokens of sources that teach something else than their tokens."""
    key: Key = ("budget", "learned_tokens")
    if config.budget.learned_tokens is None:
        return
    if not config.form.mixes:
        message = "counts tokens of sources, which this evaluator reads itself; leave it out"
        yield Problem(key, message)
        return
    if config.parts:
        yield Problem(key, "parts are merged without training; leave it out")
        return
    if config.model.task == "masked":
        message = "a masked model learns a share of its tokens, mask_share; give budget.epochs"
        yield Problem(key, message)
    method = method_of(config, default_genome(config))
    for name in mixed_sources(config):
        kind, learned = config.sources[name].kind, config.sources[name].teaches(method)
        if learned and use_of(kind, method) not in BY_TOKEN:
            message = f"{name} has records of kind {kind}, of which {method} learns no tokens; "
            yield Problem(key, f"{message}give budget.epochs instead")


def patience(config: SearchConfig) -> Problems:
    """Early stopping by what no worker measures, or of fine-tunes that pause at rungs."""
    if config.budget.patience is None:
        return
    key, first = ("budget", "patience"), next(iter(config.objectives))
    if not config.form.trains:
        yield Problem(key, "only the builtin evaluator can stop early; leave it out")
    elif first in config.aggregates:
        message = f"stops on a measurement, and the first objective is the aggregate {first}; "
        yield Problem(key, f"{message}name a measurement first")
    elif config.search.rungs:
        yield Problem(
            key, "cannot be combined with search.rungs, which stop fine-tunes too; leave one out"
        )
