"""What goes with `model.task`, and what does not, each with its remedy."""

from collections.abc import Iterator

from evo.config.file import Problem
from evo.config.genomes import inherits, possible
from evo.config.sections import SearchConfig
from fitness.evaluators import BUILTIN
from fitness.models.heads import LEARNS


def tasks(config: SearchConfig) -> Iterator[Problem]:
    """One for each part of the spec that the task cannot have."""
    task = config.model.task
    if config.model.labels and task != "classification":
        message = f"only a classification has labels, model.task is {task}; leave them out"
        yield Problem(("model", "labels"), message)
    yield from _kinds(config)
    if task != "masked" and "mask_share" in config.genome:
        message = "decides nothing unless model.task is masked; leave it out"
        yield Problem(("genome", "mask_share"), message)
    if task == "causal":
        return
    if config.evaluator != BUILTIN:
        message = f"{task}, which only evomix's own trainer does; leave `evaluator` out"
        yield Problem(("model", "task"), message)
        return
    if config.prompts:
        message = f"nothing is written by a model whose task is {task}; leave them out"
        yield Problem(("prompts",), message)
    for section, name, value in _chosen(config, "method"):
        if value != "supervised":
            message = f"{value} judges what a model writes, model.task is {task}; take supervised"
            yield Problem((section, name), message)
    for section, name, value in _chosen(config, "isolate_documents"):
        if value:
            message = f"only a causal model can keep documents apart, model.task is {task}"
            yield Problem((section, name), f"{message}; leave it out")
    for section in ("genome", "recipe"):
        if getattr(config, section).get("infill_share"):
            message = f"only a causal model learns to fill in, model.task is {task}; leave it out"
            yield Problem((section, "infill_share"), message)
    if config.search.bucket != 1:
        message = f"buckets train causal models alone, model.task is {task}; leave it out"
        yield Problem(("search", "bucket"), message)
    if task == "classification":
        yield from _inheritance(config)


def _kinds(config: SearchConfig) -> Iterator[Problem]:
    """The task learns from every source, and is measured on every domain."""
    task, learned = config.model.task, LEARNS[config.model.task]
    every = [("sources", name, source.kind) for name, source in config.sources.items()]
    every += [("domains", name, domain.kind) for name, domain in config.domains.items()]
    for section, name, kind in every:
        if kind not in learned:
            fitting = [one for one, kinds in LEARNS.items() if kind in kinds]
            remedy = f"take kind {' or '.join(learned)}, or model.task {' or '.join(fitting)}"
            message = f"{task} cannot learn from kind {kind}; {remedy}"
            yield Problem((section, name, "kind"), message)


def _chosen(config: SearchConfig, field: str) -> Iterator[tuple[str, str, object]]:
    """Where the values of a field stand that the search may take, and these."""
    section = "genome" if field in config.genome else "recipe"
    for value in possible(config, field):
        yield section, field, value


def _inheritance(config: SearchConfig) -> Iterator[Problem]:
    """Heads of classifiers are neither merged nor taken over."""
    if config.parts:
        yield Problem(("parts",), "classifiers cannot be merged; leave them out, and name sources")
    elif inherits(config):
        section = "genome" if "start" in config.genome else "recipe"
        yield Problem((section, "start"), "a classifier cannot be inherited; leave it at scratch")
