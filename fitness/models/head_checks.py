"""Checks that a base has a head for the model task, and the labels of a classifier."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fitness.data.documents import Source, records
from fitness.data.labels import all_tags, label_in, tagged_words
from fitness.errors import InputError
from fitness.models import folders
from fitness.models.heads import CLASSES, Head, ModelTask
from fitness.models.loading import configuration
from fitness.suggest import listed

SHOWN = 30  # labels of the data in a remedy


def check(folder: Path, task: ModelTask) -> None:
    """Raise InputError unless the architecture in a folder has a head for the model task."""
    named = (folders.architectures(folder) or ["a model"])[0]
    if task == "causal" and named.endswith(("ForMaskedLM", "ForPreTraining")):
        raise InputError(
            f"model.base {str(folder)!r}: {named} is an encoder, which sees what comes after a "
            "token; set `model.task` to masked, classification or token_classification"
        )
    if task == "causal" and folders.config_json(folder).get("is_encoder_decoder"):
        raise InputError(_two_parts(folder, named))
    if task != "causal":  # `soundness` checks causal ones, once: importing the library is slow
        check_class(folder, task)


def check_class(folder: Path, task: ModelTask) -> None:
    """Raise InputError unless transformers has the task's head for the folder's architecture."""
    config = configuration(folder)
    if task == "causal" and config.is_encoder_decoder:
        raise InputError(_two_parts(folder, type(config).__name__))
    if type(config) not in Head(task).model_class._model_mapping:
        remedy = {
            "causal": "take a causal language model, or set `model.task` for an encoder",
            "masked": "an encoder such as BERT has one",
        }.get(task, "take another base")
        raise InputError(
            f"model.task {task}: the architecture {config.model_type} of {str(folder)!r} has no "
            f"head for it in transformers ({CLASSES[task]}); {remedy}"
        )


def _two_parts(folder: Path, named: str) -> str:
    return (
        f"model.base {str(folder)!r}: {named} is an encoder-decoder model; evomix trains "
        "decoder-only models, such as Llama or Qwen"
    )


def own_labels(folder: Path, task: ModelTask = "classification") -> tuple[str, ...]:
    """The labels of a base that already has the head of the task; empty for any other base."""
    head = CLASSES[task].removeprefix("AutoModel")
    if not any(name.endswith(head) for name in folders.architectures(folder)):
        return ()
    told = configuration(folder).id2label
    return tuple(str(told[number]) for number in sorted(told))


def labels_of(
    given: Sequence[str],
    folder: Path,
    sources: Iterable[Source],
    here: Path,
    task: ModelTask = "classification",
) -> tuple[str, ...]:
    """The labels of a search, in the order of the head's outputs: as given, or the base's own.

    A base's own head is used, so labels other than its own are refused, unless its own are the
    placeholders of `transformers`. Raises InputError where neither the spec nor the base has any.
    """
    own = own_labels(folder, task)
    if not given and own:
        return own
    if not given:
        every = ((at, record) for one in sources for at, record in records(one, here))
        names = _tags_in(every) if task == "token_classification" else _labels_in(every)
        rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise InputError(
            f"model.labels: missing, and the base {str(folder)!r} classifies nothing yet; the data "
            f"have {len(names)}: labels: [{', '.join(names[:SHOWN])}]{rest}"
        )
    made_up = tuple(f"LABEL_{number}" for number in range(len(given)))
    if own and own not in (tuple(given), made_up):
        raise InputError(
            f"model.labels {listed(given)}: the base {str(folder)!r} classifies into {listed(own)} "
            "already, in this order; leave `labels` out, or take a base without a classifier's head"
        )
    return tuple(given)


def _labels_in(every: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    found = {label_in(record, where) for where, record in every}
    return sorted(found, key=lambda name: (len(name), name) if name.isdecimal() else (0, name))


def _tags_in(every: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    return all_tags({tag for where, record in every for tag in tagged_words(record, where)[1]})
