"""Checks of the strategy, and of what runs and trains together, against the other sections."""

from evo.config.checks.genomes import Problems, key_of
from evo.config.file import Problem, unknown
from evo.config.genomes import baseline_names, largest, possible, train_shares, warm_starts
from evo.config.sections import SearchConfig
from fitness.evaluators import Command
from population.strategies import BREEDING, STRATEGIES, least_population
from population.strategies import check as check_strategy


def bucket(config: SearchConfig) -> Problems:
    """Settings that a bucket does not support."""
    if config.search.bucket == 1:
        return
    against = {
        "parts": bool(config.parts),
        "budget.patience": config.budget.patience is not None,
        "resources.micro_batch": config.resources.micro_batch is not None,
        "resources.checkpointing": config.resources.checkpointing,
        "resources.compile": config.resources.compile,
    }
    for name in (name for name, there in against.items() if there):
        yield Problem(("search", "bucket"), f"cannot be combined with {name}; leave one out")


def processes(config: SearchConfig) -> Problems:
    """Settings that several processes for each individual do not support."""
    if config.resources.processes == 1:
        return
    command = isinstance(config.evaluator, Command)
    against = {
        "a command, which gets all its GPUs by resources.gpus": command,
        "an evaluator other than builtin": not config.form.trains and not command,
        "parts": bool(config.parts),
        "search.bucket": config.search.bucket != 1,
        "resources.micro_batch auto": config.resources.micro_batch == "auto",
    }
    for name in (name for name, there in against.items() if there):
        message = f"cannot be combined with {name}; leave one out"
        yield Problem(("resources", "processes"), message)


def sharding(config: SearchConfig) -> Problems:
    """Settings that do not go with weights of which each process holds a part."""
    if config.resources.sharding == "none":
        return
    key = ("resources", "sharding")
    if config.resources.processes == 1:
        yield Problem(key, "one process holds everything; set resources.processes, or leave it out")
    against = {
        "model.quantisation": config.model.quantisation != "none",
        "resources.compile": config.resources.compile,
    }
    for name in (name for name, there in against.items() if there):
        yield Problem(key, f"cannot be combined with {name}; leave one out")
    if "reinforce" in possible(config, "method"):
        message = "reinforce generates answers with the whole weights; take another method"
        yield Problem(key_of(config, "method"), f"{message}, or leave resources.sharding out")
    for name in sorted({"adafactor", "adamw_8bit"} & set(possible(config, "optimizer"))):
        message = f"{name} has no sharded states; take adamw or muon"
        yield Problem(key_of(config, "optimizer"), f"{message}, or leave resources.sharding out")
    adapted = set(possible(config, "adapter")) != {"none"}
    if adapted and "muon" in possible(config, "optimizer"):
        message = "muon needs more rows than an adapter's matrices may have for each process"
        message += "; take adamw, or leave resources.sharding out"
        yield Problem(key_of(config, "optimizer"), message)


def strategy(config: SearchConfig) -> Problems:
    """An unknown strategy."""
    if config.search.strategy not in STRATEGIES:
        message = unknown(config.search.strategy, STRATEGIES, "there are", "strategy")
        yield Problem(("search", "strategy"), message)


def population(config: SearchConfig) -> Problems:
    """A population or budget too small for the baselines or for the strategy."""
    if config.search.strategy not in STRATEGIES:
        return
    anchors = len(baseline_names(config)) + len(config.known)
    population, evaluations = config.search.population, config.budget.evaluations
    sizes = {"objectives": len(config.objectives), "anchors": anchors}
    least = 1
    try:
        least = least_population(config.search.strategy, **sizes)
        check_strategy(config.search.strategy, population=population, **sizes)
    except ValueError as error:
        yield Problem(("search", "population"), str(error))
    key = ("budget", "evaluations")
    if evaluations < max(population, least):
        lower = f", or lower search.population to {evaluations}" if least <= evaluations else ""
        message = f"{evaluations} is less than one population of {population}; raise it{lower}"
        yield Problem(key, message)
    elif evaluations < anchors:
        yield Problem(
            key, f"{evaluations} does not cover the {anchors} baselines and known genomes; raise it"
        )


def inheritance(config: SearchConfig) -> Problems:
    """Warm starts that cannot work: without parents or their checkpoints, or without a step."""
    if config.parts or not warm_starts(config):
        return
    strategy = config.search.strategy
    if strategy in STRATEGIES and strategy not in BREEDING:
        yield Problem(
            ("search", "strategy"),
            f"{strategy} has no parents to start from: choose one of {', '.join(BREEDING)}, or "
            "leave `start` at scratch",
        )
    if config.search.rungs:
        yield Problem(
            ("search", "rungs"),
            "a parent whose fine-tune has paused has no checkpoint to start from: leave the rungs "
            "out, or `start` at scratch",
        )
    if "dora" in possible(config, "adapter"):
        message = "no warm start from a DoRA adapter; take lora or none, or `start` at scratch"
        yield Problem(key_of(config, "adapter"), message)
    batch, length = largest(config, "batch_size"), largest(config, "sequence_length")
    scratch = config.budget.tokens * train_shares(config)[0]
    tokens = round(scratch * config.budget.inherit_share)
    if round(scratch) >= batch * length > tokens:
        yield Problem(
            ("budget", "inherit_share"),
            f"{tokens} tokens of a child are less than one step of the largest batch, {batch:g} "
            f"sequences of {length:g}; raise it",
        )
