"""Judgements as the records that a search, TRL or another trainer can use.

Every judgement becomes a record of its own: where two people disagree, both are there. `item` and
`annotator` stand beside the columns of a kind, so that records can be read back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fitness.feedback import argilla
from fitness.feedback.items import Item
from fitness.feedback.judgements import NO_CHOICE, Judgement

Record = dict[str, Any]
THRESHOLD = 4  # a rating of so much, or more, is good


def preferences(item: Item, judgement: Judgement, _: int) -> Iterator[Record]:
    """Preference pairs: chosen over rejected, corrections over their drafts; only of choices."""
    texts = [draft.text for draft in item.drafts]
    if judgement.kind == "correction":
        yield {"prompt": item.prompt, "chosen": judgement.value, "rejected": texts[0]}
    elif judgement.kind == "preference" and judgement.value not in NO_CHOICE:
        chosen, rejected = texts if judgement.value == "first" else reversed(texts)
        yield {"prompt": item.prompt, "chosen": chosen, "rejected": rejected}


def completions(item: Item, judgement: Judgement, _: int) -> Iterator[Record]:
    """The corrected texts."""
    if judgement.kind == "correction":
        yield {"prompt": item.prompt, "completion": judgement.value}


def ratings(item: Item, judgement: Judgement, threshold: int) -> Iterator[Record]:
    """The drafts with an overall rating: good from the threshold on; both of two are bad."""
    if (judgement.kind, judgement.value) == ("preference", "neither"):
        for draft in item.drafts:
            yield {"prompt": item.prompt, "completion": draft.text, "label": False}
    elif judgement.kind == "rating":
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


def judged(item: Item, judgement: Judgement, _: int) -> Iterator[Record]:
    """The judgements as they are, of every kind, with the drafts that they are of."""
    drafts = [draft.text for draft in item.drafts]
    head = {"prompt": item.prompt, "drafts": drafts, "kind": judgement.kind}
    yield {**head, "value": judgement.value}


SHAPES: dict[str, Callable[[Item, Judgement, int], Iterator[Record]]] = {
    "preference": preferences,
    "completion": completions,
    "rating": ratings,
    "label": labels,
    "critique": critiques,
    "judgement": judged,
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
