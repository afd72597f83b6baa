"""What no single key can tell: whether the parts of a spec fit each other."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evo.config import genome_checks
from evo.config.file import Key, Problem, nearest, unknown
from evo.config.genome_checks import Found
from evo.config.genomes import Constraint, baseline_names, inherits, largest
from evo.config.sections import BUILTIN, SearchConfig
from fitness.errors import InputError
from fitness.metrics import load_function, measured_names, resolve
from population.strategies import BREEDING, STRATEGIES
from population.strategies import check as check_strategy


def check(config: SearchConfig, sound: Iterable[str], folder: Path) -> list[Problem]:
    """Everything that does not fit.

    A check is made where all the sections it reads are in `sound` (the others had errors of their
    own), and the later ones where the earlier found nothing there. `folder` is the spec's.
    """
    usable, found = set(sound), dict[Key, Problem]()
    with _importing_from(folder / config.import_from):
        for checks in (CHECKS, LATER_CHECKS):
            for sections, examine in checks:
                if usable.issuperset(sections.split()):
                    for problem in examine(config):
                        found.setdefault(problem.key, problem)  # one for a key is enough
            usable -= {str(key[0]) for key in found}
    return list(found.values())


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = [str(Path.cwd()), str(folder)]
    try:
        yield
    finally:
        sys.path[:] = before


def _complete(config: SearchConfig) -> Found:
    """What the builtin evaluator needs and a function of your own may not."""
    if config.evaluator != BUILTIN:
        return
    if not config.model.base:
        yield Problem(("model", "base"), "missing; name `quickstart`, a model folder or a Hub id")
    if not config.sources and not config.parts:
        yield Problem(("sources",), "missing; name at least one data set to train on")
    if not config.domains:
        yield Problem(
            ("domains",), "missing; name held-out text, e.g. target: {path: held_out.txt}"
        )


def _parts(config: SearchConfig) -> Found:
    """A merge trains nothing, and everything else does."""
    if config.evaluator != BUILTIN:
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
    if inherits(config):
        message = "every merge begins with the parts; leave `start` out"
        yield Problem(("genome" if "start" in config.genome else "recipe", "start"), message)
    if config.search.rungs:
        yield Problem(("search", "rungs"), "a merge cannot pause; leave the rungs out")


def _evaluator(config: SearchConfig) -> Found:
    if config.evaluator == BUILTIN:
        return
    if ":" not in config.evaluator:
        close = nearest(config.evaluator, [BUILTIN])
        hint = f"; did you mean {close}?" if close else ""
        message = f"must be {BUILTIN} or module:function, got {config.evaluator!r}{hint}"
        yield Problem(("evaluator",), message)
        return
    try:
        load_function(config.evaluator, subject="")
    except InputError as error:
        yield Problem(("evaluator",), str(error).strip())


def _metrics(config: SearchConfig) -> Found:
    for name, prompt_set in config.prompts.items():
        for index, metric in enumerate(prompt_set.metrics):
            try:
                resolve(metric)
            except InputError as error:
                message = str(error).removeprefix("metric ")
                yield Problem(("prompts", name, "metrics", index), message)


def _measured(config: SearchConfig) -> Found:
    """Somebody measures every objective and constraint."""
    used: list[tuple[Key, str]] = [(("objectives", name), name) for name in config.objectives]
    for index, text in enumerate(config.constraints):
        key: Key = ("constraints", index)
        try:
            used.append((key, Constraint.parse(text).name))
        except ValueError as error:
            yield Problem(key, str(error))
    if config.evaluator != BUILTIN:
        return
    try:
        known = measured_names(config.domains, config.prompts)
    except InputError as error:
        yield Problem(("prompts",), str(error))
        return
    for key, name in used:
        if name not in known:
            close = nearest(name, known)
            remedy = f"did you mean {close}?" if close else f"measured are {', '.join(known)}"
            yield Problem(key, f"nobody measures {name}; {remedy}")


def _strategy(config: SearchConfig) -> Found:
    if config.search.strategy not in STRATEGIES:
        message = unknown(config.search.strategy, STRATEGIES, "there are", "strategy")
        yield Problem(("search", "strategy"), message)


def _population(config: SearchConfig) -> Found:
    """Room for the baselines and for what the strategy needs, in population and budget."""
    if config.search.strategy not in STRATEGIES:
        return
    anchors = len(baseline_names(config))
    population, evaluations = config.search.population, config.budget.evaluations
    try:
        check_strategy(
            config.search.strategy,
            population=population,
            objectives=len(config.objectives),
            anchors=anchors,
            islands=config.search.islands,
        )
    except ValueError as error:
        yield Problem(("search", "population"), str(error))
    key = ("budget", "evaluations")
    if evaluations < population:
        remedy = "raise it, or lower search.population"
        yield Problem(key, f"{evaluations} is less than one population of {population}; {remedy}")
    elif evaluations < anchors:
        yield Problem(key, f"{evaluations} does not cover the {anchors} baselines; raise it")


def _inheritance(config: SearchConfig) -> Found:
    """Children have parents to begin with, and a share of the budget for one step at least."""
    if config.parts or not inherits(config):
        return
    strategy = config.search.strategy
    if strategy in STRATEGIES and strategy not in BREEDING:
        yield Problem(
            ("search", "strategy"),
            f"nobody begins with weights of parents under {strategy}: choose one of "
            f"{', '.join(BREEDING)}, or leave `start` at scratch",
        )
    if config.search.rungs:
        yield Problem(
            ("search", "rungs"),
            "a parent whose fine-tune has paused has no weights to begin with: leave the rungs "
            "out, or `start` at scratch",
        )
    batch, length = largest(config, "batch_size"), largest(config, "sequence_length")
    tokens = round(config.budget.tokens * config.budget.inherit_share)
    if config.budget.tokens >= batch * length > tokens:
        yield Problem(
            ("budget", "inherit_share"),
            f"{tokens} tokens of a child are less than one step of the largest batch, {batch:g} "
            f"sequences of {length:g}; raise it",
        )


def _steps(config: SearchConfig) -> Found:
    """The token budget covers at least one step of the largest batch."""
    if config.evaluator != BUILTIN or config.parts:
        return
    batch, length = largest(config, "batch_size"), largest(config, "sequence_length")
    if config.budget.tokens < batch * length:
        yield Problem(
            ("budget", "tokens"),
            f"{config.budget.tokens} tokens are less than one step of the largest batch, "
            f"{batch:g} sequences of {length:g}; raise it to at least {batch * length:g}",
        )


Checks = tuple[tuple[str, Callable[[SearchConfig], Found]], ...]

CHECKS: Checks = (
    ("evaluator model sources parts domains", _complete),
    ("evaluator sources parts budget genome recipe search", _parts),
    ("evaluator genome", genome_checks.genes),
    ("evaluator genome sources parts", genome_checks.mixtures),
    ("evaluator recipe", genome_checks.recipe),
    ("evaluator genome recipe sources parts", genome_checks.fixed_mixture),
    ("genome recipe sources parts", genome_checks.starts),
    ("baselines genome sources parts", genome_checks.baselines),
    ("evaluator", _evaluator),
    ("prompts", _metrics),
    ("search", _strategy),
    ("search budget baselines objectives genome recipe sources parts", _population),
)
LATER_CHECKS: Checks = (
    ("genome sources parts", genome_checks.conditions),
    ("evaluator domains prompts objectives constraints", _measured),
    ("evaluator budget genome recipe parts", _steps),
    ("evaluator search budget genome recipe parts", _inheritance),
)
