"""Judgements as the records that a search, TRL or another trainer can use.

Every judgement becomes a record of its own: where two people disagree, both are there. `item` and
`annotator` stand beside the columns of a kind, so that records can be read back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fitness.feedback import argilla
from fitness.feedback.items import Item
from fitness.feedback.judgements import Judgement

Record = dict[str, Any]
THRESHOLD = 4  # a rating of so much, or more, is good


def preferences(item: Item, judgement: Judgement, _: int) -> Iterator[Record]:
    """Preference pairs: chosen over rejected, corrections over their drafts; no ties."""
    texts = [draft.text for draft in item.drafts]
    if judgement.kind == "correction":
        yield {"prompt": item.prompt, "chosen": judgement.value, "rejected": texts[0]}
    elif judgement.kind == "preference" and judgement.value != "tie":
        chosen, rejected = texts if judgement.value == "first" else reversed(texts)
        yield {"prompt": item.prompt, "chosen": chosen, "rejected": rejected}


def completions(item: Item, judgement: Judgement, _: int) -> Iterator[Record]:
    """The corrected texts."""
    if judgement.kind == "correction":
        yield {"prompt": item.prompt, "completion": judgement.value}


def ratings(item: Item, judgement: Judgement, threshold: int) -> Iterator[Record]:
    """The rated drafts: good from the threshold on."""
    if judgement.kind == "rating":
        good, text = judgement.value >= threshold, item.drafts[0].text
        record = {"prompt": item.prompt, "completion": text, "label": good}
        yield {**record, "rating": judgement.value}


def labels(item: Item, judgement: Judgement, _: int) -> Iterator[Record]:
    """The drafts with labels, once for each label."""
    if judgement.kind == "labels":
        for label in judgement.value:
            yield {"text": item.drafts[0].text, "label": label, "prompt": item.prompt}


def critiques(item: Item, judgement: Judgement, _: int) -> Iterator[Record]:
    """The drafts with their critiques."""
    if judgement.kind == "critique":
        text = item.drafts[0].text
        yield {"prompt": item.prompt, "draft": text, "critique": judgement.value}


SHAPES: dict[str, Callable[[Item, Judgement, int], Iterator[Record]]] = {
    "preference": preferences,
    "completion": completions,
    "rating": ratings,
    "label": labels,
    "critique": critiques,
}
ALL_SHAPES = (*SHAPES, "argilla")


def records(
    items: Mapping[str, Item],
    judgements: Sequence[Judgement],
    shape: str,
    *,
    threshold: int = THRESHOLD,
) -> list[Record]:
    """The judgements as records of a shape, one of ALL_SHAPES."""
    if shape == "argilla":
        return argilla.records(items, judgements)
    return [
        {**record, "item": judgement.item, "annotator": judgement.annotator}
        for judgement in judgements
        for record in SHAPES[shape](items[judgement.item], judgement, threshold)
    ]
