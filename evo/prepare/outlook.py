"""Errors, warnings and an estimate of the work of a launch, before anything runs.

`evo launch` and its `--dry-run` both use it, so that they say the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from evo.cluster.machine import available_cpus, fitting, logical_cpus
from evo.config import SearchConfig, possible
from evo.config.genomes import (
    decode,
    learned_shares,
    learning_genome,
    mixed_sources,
    train_shares,
)
from evo.config.resolve import fitting_population
from evo.config.search import Search
from evo.planning import experts
from evo.prepare.architecture import (
    adapter_warnings,
    packing_notes,
    padding_warnings,
    quantisation_notes,
)
from evo.prepare.lengths import cut_records
from evo.prepare.memory import memory_note, memory_warnings, needed
from evo.prepare.overlap import overlap_warnings
from evo.prepare.passes import epoch_tokens, passes_note, with_budget
from evo.prepare.task import Prepared
from fitness import hardware
from fitness.cost import cost_of, scoring_parts
from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.recipe import APPLIES, Recipe
from population.space import Float, Int
from population.strategies import find
from population.strategies.optuna import Optuna

MOST_EPOCHS = 40  # Muennighoff et al. 2023: what is repeated more often teaches nothing any more
LEAST_ITEMS = 100  # held-out items, below which a score is too noisy
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Estimate:
    """The work of the longest evaluation of the default recipe, in floating-point operations."""

    training: float
    scoring: float
    rate: float = math.nan  # operations a second of a worker; NaN if unknown

    @property
    def total(self) -> float:
        return self.training + self.scoring

    @property
    def seconds(self) -> float:
        """Rough estimate of the duration in seconds; NaN on a GPU or on other machines."""
        return self.total / self.rate


@dataclass(frozen=True, slots=True)
class Outlook:
    """Predictions for a launch: the config with `auto` resolved, warnings, notes, an estimate.

    Notes say what a user should know of data, base and search; warnings what may be wrong.

    `estimate`, the work of one evaluation, is None where the user's own evaluator trains.
    """

    config: SearchConfig
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    estimate: Estimate | None = None


def outlook(config: SearchConfig, prepared: Prepared, *, memory: bool = False) -> Outlook:
    """Predict problems and work of a launch. Raises InputError if this machine cannot run it.

    With `memory`, notes and warnings say what a worker takes; it is always predicted for a GPU
    here, which may be too small.
    """
    given, config = config.budget.tokens, with_budget(config, prepared.task)
    _check_machine(config)
    check_server(config)
    here = config.resources.address == "local" and not config.resources.gpus
    rounded = config.form.reads_recipe and (rounds(config) or _open(config))
    cost = hardware.bfloat16_cost() if here and rounded else math.nan
    slow = slow_bfloat16(config, cost)
    warnings = [slow] if slow else []
    if _open(config) and not math.isnan(cost):
        config = settled(config, cost)
    estimate = _estimate(config, prepared.task, cost)
    notes = [*passes_note(config, prepared.task, given), *_population(config), *_idle(config)]
    notes += _unused_priors(config)
    settled_config = experts.settled(config, cost_of(prepared.task))
    notes += _simulation(config, settled_config)
    config = settled_config
    warnings += adapter_warnings(config, prepared)
    warnings += padding_warnings(config, prepared)
    warnings += _sources(config, prepared.task)
    warnings += cut_records(config, prepared.task)
    warnings += overlap_warnings(config, prepared.task)
    if estimate is not None:
        warnings += _scoring(prepared.task, estimate)
        warnings += _limit(config, estimate)
    notes += quantisation_notes(config, prepared)
    if config.model.server:
        notes.append(
            f"model.server: {config.model.server} generates the samples of LoRA and of the "
            "untouched base, workers those of others; they do not follow from the seed alone"
        )
    notes += [*packing_notes(config, prepared), *prepared.notes]
    if memory or (config.resources.address == "local" and config.resources.gpus):
        try:
            largest = needed(config, prepared.task)
        except InputError as error:
            largest = None
            notes.append(f"memory of a worker: not predicted for this model, as {error}")
        if largest is not None:
            workers = workers_here(config)
            notes.append(memory_note(config, largest, workers))
            warnings += memory_warnings(config, largest, workers)
    return Outlook(config, tuple(warnings), tuple(notes), estimate)


def _idle(config: SearchConfig) -> Iterator[str]:
    """Notes on genes and fixed fields that have no effect under any value of another field."""
    if not config.form.reads_recipe or config.parts:  # of which every individual is a merge
        return
    plain = Recipe()
    for section, fields in (("genome", config.genome), ("recipe", config.recipe)):
        for name in fields:
            where = APPLIES[name].where if name in APPLIES else None
            if where is None or where[0] not in Recipe.model_fields:
                continue  # of sources and model tasks: an error of the spec
            default = section == "recipe" and fields[name] == getattr(plain, name)
            if not default and not set(possible(config, where[0])) & set(where[1]):
                needed = " or ".join(where[1])
                yield f"{section}.{name} has no effect: {where[0]} is never {needed}"


def _unused_priors(config: SearchConfig) -> Iterator[str]:
    """Notes on priors under a strategy that draws by itself."""
    strategy = config.search.strategy
    if not issubclass(find(strategy) or object, Optuna):
        return
    for name, gene in config.genome.items():
        if isinstance(gene, Float | Int) and gene.prior is not None:
            yield f"genome.{name}.prior has no effect: {strategy} draws by itself"


def settled(config: SearchConfig, cost: float) -> SearchConfig:
    """The config with `auto` precision resolved; bfloat16 takes `cost` times as long as float32."""
    if not _open(config):
        return config
    precision = "bfloat16" if cost <= hardware.WORTH else "float32"
    return config.model_copy(update={"recipe": {**config.recipe, "precision": precision}})


def slow_bfloat16(config: SearchConfig, cost: float) -> str:
    """Warning that the search uses bfloat16 on a device that emulates it; else empty."""
    if not (rounds(config) and cost >= hardware.EMULATED):
        return ""
    named = {
        "model.dtype": config.model.dtype,
        "precision": next((one for one in possible(config, "precision") if one == "bfloat16"), ""),
    }
    keys = " and ".join(name for name, value in named.items() if value == "bfloat16")
    return (
        f"{keys} bfloat16: this CPU has no instructions for it and takes {cost:.0f} times as long "
        "as in float32, as measured by one product; set recipe.precision to float32 or auto, and "
        "model.dtype to float32"
    )


def epochs(config: SearchConfig, task: Task) -> dict[str, tuple[float, float]]:
    """Epochs of each source per fine-tune: at its share of the default genome, and if alone.

    Of the longest fine-tune, where individuals train on different shares of the tokens.
    """
    found = {}
    for name, file in task.sources.items():
        tokens = train_shares(config)[1] * config.budget.tokens
        alone = tokens / max(1, epoch_tokens(config, name, file))
        share = learned_shares(config, {**config.recipe, **learning_genome(config, name)})
        found[name] = (share.get(name, 0.0) * alone, alone)
    return found


def duration(seconds: float) -> str:
    """`under a second`, `40 s`, `7 min`, `3 h` or `12 days`."""
    if seconds < 1:
        return "under a second"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def check_server(config: SearchConfig) -> None:
    """Raise InputError if the server that is to generate does not answer, or has several models."""
    if config.model.server:
        from fitness.inference.server import Server

        Server(config.model.server)


def _check_machine(config: SearchConfig) -> None:
    """Raise InputError if workers are to run on this machine and one does not fit it."""
    resources = config.resources
    if resources.address != "local":
        return
    there = float(hardware.gpus()) if resources.gpus else 0.0
    if not there and not config.form.reads_recipe:
        there = math.inf if hardware.driver() else 0.0
    if resources.gpus and not there:
        raise InputError(
            f"resources.gpus {resources.gpus:g}: this machine has no GPU that PyTorch can use; set "
            "resources.gpus to 0, or resources.address to a cluster that has some"
        )
    if math.isinf(there):  # a trainer of one's own may count what PyTorch cannot use; Ray does
        there = max(1.0, resources.gpus) * (resources.workers or 1)
    fitting(resources, [{"CPU": logical_cpus(resources), "GPU": there}])


def _open(config: SearchConfig) -> bool:
    return config.recipe.get("precision") == AUTO


def rounds(config: SearchConfig) -> bool:
    """True if anything may be computed in bfloat16."""
    return "bfloat16" in (config.model.dtype, *possible(config, "precision"))


def _estimate(config: SearchConfig, task: Task, bfloat16: float) -> Estimate | None:
    """Estimate of the work of the default recipe at the largest share of the budget."""
    if task.model is None or not task.form.reads_recipe:
        return None
    cost = cost_of(task)
    recipe = decode(config, {})
    scoring = cost(recipe, 0.0)
    resources = config.resources
    known = resources.address == "local" and not resources.gpus
    cores = resources.cpus * resources.processes
    rate = hardware.core_flops() * cores if known else math.nan
    if known and "bfloat16" in (config.model.dtype, config.recipe.get("precision")):
        rate /= max(1.0, bfloat16)
    return Estimate(cost(recipe, train_shares(config)[1]) - scoring, scoring, rate)


def _population(config: SearchConfig) -> Iterator[str]:
    """Note that the population is smaller than the default, to fit the budget."""
    usual = Search.model_fields["population"].default
    evaluations, population = config.budget.evaluations, config.search.population
    if evaluations < usual and population == fitting_population(config):
        yield (
            f"search.population: {population}, since the usual {usual} do not fit a budget of "
            f"{evaluations} evaluations; so small a search finds little, 40 and more are usual"
        )


def _simulation(config: SearchConfig, found: SearchConfig) -> Iterator[str]:
    """Note how many mixtures are simulated in the config `found`, or why none, if left to us."""
    if first := experts.experts(found):
        share = experts.expert_share(len(first))
        yield (
            f"search.simulate: {len(first)} experts, one for each source, train on {share:g} of "
            f"the tokens first; {found.search.simulate} sums of them are scored without training"
        )
    elif "mixture" in config.genome and config.search.simulate == "auto":
        yield f"search.simulate: mixtures are not simulated ({experts.why_not(config)})"


def _sources(config: SearchConfig, task: Task) -> Iterator[str]:
    """Warnings of sources that are repeated too often, and of a mixture that cannot vary."""
    over = mixed_sources(config)
    alone = config.sources[over[0]].kind == "sample" if len(over) == 1 else False
    if "mixture" in config.genome and len(over) == 1 and config.rounds is None and not alone:
        yield (
            f"genome.mixture: is over one source, {over[0]}, whose share is always 1; "
            "leave the gene out, or name a second source"
        )
    often = {name: times for name, (times, _) in epochs(config, task).items()}
    worn = sorted((name for name in often if often[name] > MOST_EPOCHS), key=lambda n: -often[n])
    if worn:
        others = f", and {len(worn) - 1} more sources too often" if len(worn) > 1 else ""
        yield (
            f"sources.{worn[0]}: its {task.sources[worn[0]].documents:,} documents are read "
            f"{often[worn[0]]:,.0f} times in a fine-tune at its share of the mixture{others}; from "
            f"some {MOST_EPOCHS} times on repeating teaches nothing: add text, lower the share, or "
            f"lower budget.tokens from {config.budget.tokens:,}"
        )


def _scoring(task: Task, estimate: Estimate) -> Iterator[str]:
    """Warning that scoring takes most of the work, with the `limit` that would reduce it."""
    if estimate.scoring <= estimate.training or not estimate.training:
        return
    parts = scoring_parts(task)
    key, (flops, items) = max(parts.items(), key=lambda part: part[1][0])
    wanted = flops - (estimate.scoring - estimate.training)
    fewer = max(LEAST_ITEMS, int(items * max(0.0, wanted) / flops))
    if fewer < items:
        yield (
            f"{key}: scoring takes {estimate.scoring / estimate.total:.0%} of the work of an "
            f"evaluation, most of it on these {items:,} items; set their `limit`, for example to "
            f"{fewer:,}"
        )


def _limit(config: SearchConfig, estimate: Estimate) -> Iterator[str]:
    limit = config.resources.timeout
    if estimate.seconds > limit:
        yield (
            f"resources.timeout: {limit:g} s, and an evaluation is estimated, very roughly, at "
            f"{estimate.seconds:,.0f} s ({estimate.training / estimate.rate:,.0f} s of training, "
            f"{estimate.scoring / estimate.rate:,.0f} s of scoring); raise it to some "
            f"{float(f'{2 * estimate.seconds:.1g}'):,.0f}, or lower budget.tokens"
        )


def workers_here(config: SearchConfig) -> int | None:
    """Evaluations that run at the same time, if known before Ray starts; else None."""
    resources = config.resources
    if resources.address == "local" and not resources.gpus:
        each = resources.cpus * resources.processes
        return resources.workers or max(1, available_cpus() // each)
    return resources.workers
