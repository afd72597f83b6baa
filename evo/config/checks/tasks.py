"""Checks of `model.task` against the rest of the spec."""

from collections.abc import Iterator

from evo.config.checks.genomes import key_of
from evo.config.file import Problem
from evo.config.genomes import possible, warm_starts
from evo.config.sections import SearchConfig
from fitness.data.labels import OUTSIDE, is_bio
from fitness.models.heads import LABELLED, LEARNS, NEW_HEAD


def tasks(config: SearchConfig) -> Iterator[Problem]:
    """Parts of the spec that the model task does not support."""
    task = config.model.task
    if config.model.labels and task not in LABELLED:
        message = f"only {' and '.join(LABELLED)} have labels, model.task is {task}; leave them out"
        yield Problem(("model", "labels"), message)
    if config.model.labels and task == "token_classification":
        yield from _tags(config)
    yield from _kinds(config)
    if task != "masked" and "mask_share" in config.genome:
        message = "has no effect unless model.task is masked; leave it out"
        yield Problem(("genome", "mask_share"), message)
    if task == "causal":
        return
    if not config.form.trains:
        message = f"{task} is supported only by evomix's own trainer; leave `evaluator` out"
        yield Problem(("model", "task"), message)
        return
    if config.prompts:
        message = f"a model whose task is {task} generates no text; leave them out"
        yield Problem(("prompts",), message)
    for section, name, value in _chosen(config, "method"):
        if value != "supervised":
            message = f"{value} needs generated text, model.task is {task}; take supervised"
            yield Problem((section, name), message)
    for section, name, value in _chosen(config, "isolate_documents"):
        if value:
            message = f"only a causal model can keep documents apart, model.task is {task}"
            yield Problem((section, name), f"{message}; leave it out")
    for section in ("genome", "recipe"):
        if getattr(config, section).get("infill_share"):
            message = f"only a causal model learns to infill, model.task is {task}; leave it out"
            yield Problem((section, "infill_share"), message)
    if config.search.bucket != 1:
        message = f"buckets train only causal models, model.task is {task}; leave it out"
        yield Problem(("search", "bucket"), message)
    if task in NEW_HEAD:
        yield from _inheritance(config)


def _tags(config: SearchConfig) -> Iterator[Problem]:
    """Labels of a tagger that are not BIO, or without the one for words outside of entities."""
    labels = [str(label) for label in config.model.labels]
    if wrong := [label for label in labels if not is_bio(label)]:
        message = f"{wrong[0]!r:.40} is not BIO; a label is {OUTSIDE}, B-TYPE or I-TYPE"
        yield Problem(("model", "labels"), message)
    elif OUTSIDE not in labels:
        message = f"has no {OUTSIDE}, the tag of words outside of entities; add it"
        yield Problem(("model", "labels"), message)


def _kinds(config: SearchConfig) -> Iterator[Problem]:
    """Sources that the task cannot train on, and domains that it cannot be measured on."""
    task, learned = config.model.task, LEARNS[config.model.task]
    every = [("sources", name, source.kind) for name, source in config.sources.items()]
    every += [("domains", name, domain.kind) for name, domain in config.domains.items()]
    for section, name, kind in every:
        if kind not in learned:
            fitting = [other for other, kinds in LEARNS.items() if kind in kinds]
            own = ["preference" if one == "comparison" else one for one in learned]
            remedy = f"take kind {' or '.join(own)}, or model.task {' or '.join(fitting)}"
            message = f"{task} cannot learn from kind {kind}; {remedy}"
            yield Problem((section, name, "kind"), message)


def _chosen(config: SearchConfig, field: str) -> Iterator[tuple[str, str, object]]:
    """Values of a field that are possible in the search, each as (section, field, value)."""
    section = "genome" if field in config.genome else "recipe"
    for value in possible(config, field):
        yield section, field, value


def _inheritance(config: SearchConfig) -> Iterator[Problem]:
    """Merges and warm starts of models with a head of their own, which support neither."""
    task = config.model.task
    if config.parts:
        message = f"models of task {task} cannot be merged; leave them out, and name sources"
        yield Problem(("parts",), message)
    elif warm_starts(config):
        yield Problem(
            key_of(config, "start"), f"no warm start with task {task}; leave it at scratch"
        )
