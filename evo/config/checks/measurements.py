"""Checks of what is measured: domains, metrics, objectives and constraints."""

from contextlib import suppress

from evo.config.aggregates import meaning, measurable
from evo.config.checks.genomes import Problems
from evo.config.file import Key, Problem, nearest
from evo.config.genomes import Constraint
from evo.config.sections import SearchConfig
from fitness.benchmarks import catalogue
from fitness.errors import InputError
from fitness.metrics import HELD_OUT, resolve


def metrics(config: SearchConfig) -> Problems:
    """Metrics of prompt sets that are unknown or cannot be imported."""
    for name, prompt_set in config.prompts.items():
        for index, metric in enumerate(prompt_set.metrics):
            try:
                resolve(metric)
            except InputError as error:
                message = str(error).removeprefix("metric ")
                yield Problem(("prompts", name, "metrics", index), message)


def benchmarks(config: SearchConfig) -> Problems:
    """Benchmarks that cannot be measured, whose tasks are unknown, or whose names are taken."""
    for name, benchmark in config.benchmarks.items():
        key: Key = ("benchmarks", name)
        if name in config.domains or name in config.prompts:
            yield Problem(key, "is the name of a domain or a prompt set too; rename one")
        elif not config.form.reads_recipe:
            message = "are measured by the builtin evaluator or TRL alone; leave them out"
            yield Problem(("benchmarks",), message)
        elif config.model.task != "causal":
            message = f"needs a model that predicts text, model.task is {config.model.task}"
            yield Problem(key, f"{message}; leave it out")
        else:
            try:
                catalogue.measured_names({name: benchmark})
            except InputError as error:
                yield Problem(key, str(error))


def constraints(config: SearchConfig) -> Problems:
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


def towards_worse(config: SearchConfig) -> Problems:
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


def measured(config: SearchConfig) -> Problems:
    """Objectives and constraints that nothing measures and no aggregate makes."""
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


def domain_kinds(config: SearchConfig) -> Problems:
    """Domains of a kind that cannot be held out, or whose splits are of different kinds."""
    for name, domain in config.domains.items():
        kinds = {source.kind for source, _ in domain.splits().values()}
        if len(kinds) > 1:
            message = f"its splits are of kinds {' and '.join(sorted(kinds))}; use one kind"
            yield Problem(("domains", name), message)
        elif not kinds <= HELD_OUT.keys():
            message = f"a domain is of kind {', '.join(HELD_OUT)}, got {kinds.pop()}"
            yield Problem(("domains", name, "kind"), message)
