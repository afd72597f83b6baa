"""Whether a base has the head that a search asks for, and of a classifier which labels."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fitness import folders
from fitness.documents import Source, records
from fitness.errors import InputError
from fitness.heads import CLASSES, Head, ModelTask
from fitness.labels import label_in
from fitness.suggest import listed

SHOWN = 30  # labels of the data in a remedy


def check(folder: Path, task: ModelTask) -> None:
    """Raises InputError unless the architecture in a folder has a head for the task."""
    named = folders.told(folder).get("architectures") or ["a model"]
    if task == "causal":  # asked without `transformers`: it would let an encoder see what it learns
        if named[0].endswith(("ForMaskedLM", "ForPreTraining")):
            raise InputError(
                f"model.base {str(folder)!r}: {named[0]} is an encoder, which sees what comes "
                "after a token; set `model.task` to masked, or to classification"
            )
        return
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if type(config) not in Head(task).model_class._model_mapping:
        remedy = "an encoder such as BERT has one" if task == "masked" else "take another base"
        raise InputError(
            f"model.task {task}: the architecture {config.model_type} of {str(folder)!r} has no "
            f"head for it in transformers ({CLASSES[task]}); {remedy}"
        )


def own_labels(folder: Path) -> tuple[str, ...]:
    """The labels of a base that is a classifier already; none of any other base."""
    named = folders.told(folder).get("architectures") or []
    if not any(name.endswith("ForSequenceClassification") for name in named):
        return ()
    from transformers import AutoConfig

    told = AutoConfig.from_pretrained(folder, trust_remote_code=False).id2label
    return tuple(str(told[number]) for number in sorted(told))


def labels_of(
    given: Sequence[str], folder: Path, sources: Iterable[Source], here: Path
) -> tuple[str, ...]:
    """The labels of a search, in the order of the head's outputs: as given, or the base's own.

    A head that the base has is kept, so other labels than its own are refused, unless these are
    the names that `transformers` makes up. Raises InputError if nobody tells them.
    """
    own = own_labels(folder)
    if not given and own:
        return own
    if not given:
        found = {label_in(record, at) for one in sources for at, record in records(one, here)}
        names = sorted(found, key=lambda name: (len(name), name) if name.isdecimal() else (0, name))
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
