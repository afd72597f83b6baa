"""Checks across the sections of a spec: whether its parts fit each other."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from evo.config.aggregates import meaning, measurable
from evo.config.checks import aggregates, budget, genomes, methods, proxies, rounds
from evo.config.checks.cleaning import cleaning
from evo.config.checks.genomes import Problems
from evo.config.checks.tasks import tasks
from evo.config.evaluator import evaluator_problems
from evo.config.file import Key, Problem, nearest, unknown
from evo.config.genomes import (
    Constraint,
    baseline_names,
    largest,
    possible,
    train_shares,
    warm_starts,
)
from evo.config.sections import SearchConfig
from fitness.errors import InputError
from fitness.evaluators import Command
from fitness.metrics import HELD_OUT, resolve
from fitness.mixture.thresholds import score_of_field
from fitness.recipe import Recipe
from population.strategies import BREEDING, STRATEGIES, least_population
from population.strategies import check as check_strategy


def check(config: SearchConfig, sound: Iterable[str], folder: Path) -> list[Problem]:
    """Problems between the sections of a spec, at most one for each key.

    A check runs only if all sections that it reads are in `sound` (the others have errors of
    their own); a later check only if the earlier ones found nothing in these sections. `folder` is
    the folder of the spec.
    """
    usable, problems = set(sound), dict[Key, Problem]()
    checks_of_spec: Checks = (("evaluator model", partial(_evaluator, folder=folder)), *CHECKS)
    with importing_from(folder / config.import_from):
        for checks in (checks_of_spec, LATER_CHECKS):
            for sections, examine in checks:
                if usable.issuperset(sections.split()):
                    for problem in examine(config):
                        problems.setdefault(problem.key, problem)  # one for a key is enough
            usable -= {str(key[0]) for key in problems}
    return list(problems.values())


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Search for modules in the working directory and a folder, within the context."""
    before = list(sys.path)
    sys.path[:0] = [str(Path.cwd()), str(folder)]
    try:
        yield
    finally:
        sys.path[:] = before


def _complete(config: SearchConfig) -> Problems:
    """Missing sections that only an evaluator of one's own can do without."""
    if not config.form.mixes:
        return
    if not config.model.base:
        yield Problem(("model", "base"), "missing; name `quickstart`, a model folder or a Hub id")
    generated = config.rounds is not None and config.rounds.first == "generate"
    if not config.sources and not config.parts and not generated:
        yield Problem(("sources",), "missing; name at least one data set to train on")
    if not config.domains and not config.prompts and config.form.reads_recipe:
        message = "missing; name held-out text, e.g. target: {path: held_out.txt}, or prompts"
        yield Problem(("domains",), message)


def _evaluator(config: SearchConfig, *, folder: Path) -> Problems:
    return evaluator_problems(config.evaluator, folder, model=bool(config.model.base))


def _parts(config: SearchConfig) -> Problems:
    """Consistency of `parts`: a merge trains nothing; without parts there is a token budget."""
    if not config.form.trains:
        return
    if not config.parts:
        if config.budget.tokens < 1:
            yield Problem(("budget", "tokens"), "0; give at least one, or parts to merge")
        return
    if config.sources:
        yield Problem(("sources",), "parts are merged without training; leave the sources out")
    if config.budget.tokens:
        message = f"{config.budget.tokens}, but parts are merged without training; give 0"
        yield Problem(("budget", "tokens"), message)
    if warm_starts(config):
        message = "a merge always starts from the parts; leave `start` out"
        yield Problem(("genome" if "start" in config.genome else "recipe", "start"), message)
    if config.search.rungs:
        yield Problem(("search", "rungs"), "a merge cannot pause; leave the rungs out")


def _metrics(config: SearchConfig) -> Problems:
    """Metrics of prompt sets that are unknown or cannot be imported."""
    for name, prompt_set in config.prompts.items():
        for index, metric in enumerate(prompt_set.metrics):
            try:
                resolve(metric)
            except InputError as error:
                message = str(error).removeprefix("metric ")
                yield Problem(("prompts", name, "metrics", index), message)


def _constraints(config: SearchConfig) -> Problems:
    """Constraints that cannot be parsed, or that no model can meet together."""
    read: list[Constraint] = []
    for index, text in enumerate(config.constraints):
        key: Key = ("constraints", index)
        try:
            constraint = Constraint.parse(text)
        except ValueError as error:
            yield Problem(key, str(error))
            continue
        for other in read:
            if _exclude(constraint, other):
                yield Problem(key, f"{text!r} leaves nothing that meets `{other}`; change one")
        read.append(constraint)


def _towards_worse(config: SearchConfig) -> Problems:
    """Constraints relative to the base that only values worse than a limit would meet."""
    for index, text in enumerate(config.constraints):
        with suppress(ValueError):
            constraint = Constraint.parse(text)
            worse = -meaning(config, constraint.name).sign
            if constraint.factor is not None and constraint.sign == worse:
                turned = f"{text.replace('<=', '>=') if worse > 0 else text.replace('>=', '<=')}"
                message = f"{text!r} forbids values better than the limit; write `{turned}`"
                yield Problem(("constraints", index), message)


def _exclude(first: Constraint, second: Constraint) -> bool:
    """True where no value of a measurement meets both constraints."""
    if first.name != second.name or first.sign == second.sign:
        return False
    if (first.factor is None) != (second.factor is None):
        return False  # depends on the value of the base
    upper, lower = (first, second) if first.sign > 0 else (second, first)
    if upper.factor is not None and lower.factor is not None:
        return upper.factor < lower.factor
    return upper.limit < lower.limit


def _measured(config: SearchConfig) -> Problems:
    """Objectives and constraints that neither domains and prompts measure nor aggregates make."""
    used: list[tuple[Key, str]] = [(("objectives", name), name) for name in config.objectives]
    for index, text in enumerate(config.constraints):
        with suppress(ValueError):
            used.append((("constraints", index), Constraint.parse(text).name))
    if not config.form.reads_recipe:
        return
    try:
        measured = [*measurable(config), *config.aggregates]
    except InputError as error:
        yield Problem(("prompts",), str(error))
        return
    for key, name in used:
        if name not in measured:
            close = nearest(name, measured)
            remedy = f"did you mean {close}?" if close else f"there are {', '.join(measured)}"
            yield Problem(key, f"unknown measurement {name}; {remedy}")


def _domain_kinds(config: SearchConfig) -> Problems:
    """Domains of a kind that cannot be held out, or whose splits are of different kinds."""
    for name, domain in config.domains.items():
        kinds = {source.kind for source, _ in domain.splits().values()}
        if len(kinds) > 1:
            message = f"its splits are of kinds {' and '.join(sorted(kinds))}; use one kind"
            yield Problem(("domains", name), message)
        elif not kinds <= HELD_OUT.keys():
            message = f"a domain is of kind {', '.join(HELD_OUT)}, got {kinds.pop()}"
            yield Problem(("domains", name, "kind"), message)


def _key_of(config: SearchConfig, field: str) -> Key:
    """Key of a recipe's field: in the genome if it is a gene, else in the recipe."""
    return ("genome" if field in config.genome else "recipe", field)


def _kinds(config: SearchConfig) -> Problems:
    """Sources of records with a trainer that reads only windows of text (TRL, a command)."""
    if config.form.trains or not config.form.mixes:
        return
    for name, source in config.sources.items():
        if source.kind != "text":
            message = f"only evomix's own trainer reads records, got kind {source.kind}"
            yield Problem(("sources", name, "kind"), f"{message}; leave it out, or set `evaluator`")


def _thresholds(config: SearchConfig) -> Problems:
    """Thresholds for samples (`keep_` fields) in a spec without a source of samples."""
    kinds = {source.kind for source in config.sources.values()}
    if not config.form.reads_recipe or "sample" in kinds or config.rounds:
        return
    fields = {name: field for name, field in Recipe.model_fields.items() if score_of_field(name)}
    active = [name for name in fields if config.recipe.get(name, 1) != fields[name].default]
    for section, names in (("genome", fields), ("recipe", active)):
        for name in (name for name in names if name in getattr(config, section)):
            message = "is a threshold for samples, and no source is of kind sample; leave it out"
            yield Problem((section, name), message)


def _infilling(config: SearchConfig) -> Problems:
    """An `infill_share` without a source of text, whose documents it would rearrange."""
    if not config.form.mixes or not largest(config, "infill_share"):
        return
    if not any(source.kind == "text" for source in config.sources.values()):
        message = "applies to documents of text, and no source is of kind text; leave it out"
        yield Problem(_key_of(config, "infill_share"), message)


def _bucket(config: SearchConfig) -> Problems:
    """Settings that a bucket does not support."""
    if config.search.bucket == 1:
        return
    against = {
        "parts": bool(config.parts),
        "budget.patience": config.budget.patience is not None,
        "resources.micro_batch": config.resources.micro_batch is not None,
        "resources.checkpointing": config.resources.checkpointing,
    }
    for name in (name for name, there in against.items() if there):
        yield Problem(("search", "bucket"), f"cannot be combined with {name}; leave one out")


def _processes(config: SearchConfig) -> Problems:
    """Settings that several processes for each individual do not support."""
    if config.resources.processes == 1:
        return
    command = isinstance(config.evaluator, Command)
    against = {
        "a command, which gets all its GPUs by resources.gpus": command,
        "an evaluator other than builtin": not config.form.trains and not command,
        "parts": bool(config.parts),
        "search.bucket": config.search.bucket != 1,
    }
    for name in (name for name, there in against.items() if there):
        message = f"cannot be combined with {name}; leave one out"
        yield Problem(("resources", "processes"), message)


def _strategy(config: SearchConfig) -> Problems:
    if config.search.strategy not in STRATEGIES:
        message = unknown(config.search.strategy, STRATEGIES, "there are", "strategy")
        yield Problem(("search", "strategy"), message)


def _population(config: SearchConfig) -> Problems:
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


def _inheritance(config: SearchConfig) -> Problems:
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
        section = "genome" if "adapter" in config.genome else "recipe"
        message = "no warm start from a DoRA adapter; take lora or none, or `start` at scratch"
        yield Problem((section, "adapter"), message)
    batch, length = largest(config, "batch_size"), largest(config, "sequence_length")
    scratch = config.budget.tokens * train_shares(config)[0]
    tokens = round(scratch * config.budget.inherit_share)
    if round(scratch) >= batch * length > tokens:
        yield Problem(
            ("budget", "inherit_share"),
            f"{tokens} tokens of a child are less than one step of the largest batch, {batch:g} "
            f"sequences of {length:g}; raise it",
        )


Checks = tuple[tuple[str, Callable[[SearchConfig], Problems]], ...]

CHECKS: Checks = (
    ("evaluator model sources parts domains prompts rounds", _complete),
    ("evaluator sources parts budget genome recipe search", _parts),
    ("evaluator genome", genomes.genes),
    ("evaluator genome sources parts", genomes.mixtures),
    ("evaluator recipe", genomes.recipe),
    ("evaluator genome recipe sources parts", genomes.fixed_mixture),
    ("genome recipe known sources parts", genomes.starts),
    ("baselines genome sources parts", genomes.baselines),
    ("prompts", _metrics),
    ("domains", _domain_kinds),
    ("evaluator domains prompts aggregates", aggregates.aggregates),
    ("evaluator sources", _kinds),
    ("model evaluator sources parts domains prompts genome recipe search", tasks),
    ("evaluator genome recipe sources rounds", methods.methods),
    ("evaluator genome recipe sources rounds", _thresholds),
    ("rounds evaluator parts model search resources genome recipe sources", rounds.rounds),
    ("rounds genome recipe", rounds.filters),
    ("rounds", rounds.judging),
    ("search", _strategy),
    ("search budget baselines known objectives genome recipe sources parts", _population),
)
LATER_CHECKS: Checks = (
    ("genome sources parts", genomes.conditions),
    ("genome sources parts rounds", genomes.varied),
    ("baselines evaluator genome model sources parts", genomes.counted),
    ("constraints aggregates domains prompts", _towards_worse),
    ("constraints", _constraints),
    ("evaluator domains prompts aggregates objectives constraints", _measured),
    ("evaluator genome recipe sources domains", methods.of_sources),
    ("model evaluator genome recipe sources parts rounds baselines", methods.learned),
    ("evaluator genome recipe sources", _infilling),
    ("evaluator budget genome recipe parts", budget.steps),
    ("evaluator sources budget rounds", budget.epochs),
    ("evaluator model sources budget genome recipe", budget.learned_tokens),
    ("evaluator sources parts cleaning", cleaning),
    ("evaluator budget aggregates objectives search", budget.patience),
    ("search parts budget resources", _bucket),
    ("evaluator parts resources search", _processes),
    ("evaluator search budget genome recipe parts", _inheritance),
    ("rounds domains prompts aggregates", rounds.ends),
    (
        "model rounds evaluator parts search genome recipe sources baselines known objectives",
        proxies.proxies,
    ),
    ("model evaluator genome recipe parts", proxies.steps),
)
