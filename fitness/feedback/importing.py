"""Judgements made elsewhere, read from the shapes that `conversion` and `argilla` write.

All of a file is read and checked before any of it is kept.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fitness.data.formats import json_records, reading, text_in
from fitness.data.labels import label_in
from fitness.errors import InputError
from fitness.feedback import argilla
from fitness.feedback.conversion import ALL_SHAPES
from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement, checked, named
from fitness.suggest import listed

RATED = {True: 5, False: 1}  # a rating of which only good or bad is known
COLUMNS = {  # what tells the shapes apart, the most particular first
    "argilla": ("fields",),
    "judgement": ("prompt", "drafts", "kind", "value"),
    "preference": ("prompt", "chosen", "rejected"),
    "critique": ("prompt", "draft", "critique"),
    "rating": ("prompt", "completion", "label"),
    "label": ("text", "label"),
    "completion": ("prompt", "completion"),
}


@dataclass(frozen=True)
class Found:
    """Content of an imported file: items that are not in the run yet, and judgements."""

    items: tuple[Item, ...]
    judgements: tuple[Judgement, ...]


def read_judgements(
    path: Path, known: Mapping[str, Item], *, annotator: str, annotators: Sequence[str] = ()
) -> Found:
    """Read the judgements in a file; `annotator` is that of records that name none.

    `annotators` are the names known here. Raises InputError with the file and line at fault.
    """
    new: dict[str, Item] = {}
    said: dict[tuple[str, str, str], Judgement] = {}
    for where, record in _records(path):
        item, judgements = _read(record, where, {**known, **new}, annotator, annotators)
        if item.id not in known:
            new.setdefault(item.id, item)
        for one in judgements:
            key = (one.item, one.annotator, one.kind)
            if one.kind == "labels" and key in said:
                one = replace(one, value=list(dict.fromkeys([*said[key].value, *one.value])))
            elif said.get(key, one) != one:
                raise InputError(
                    f"{where}: a second {one.kind} by {one.annotator!r} of item {one.item}, "
                    "unlike the one before; keep one of them"
                )
            said[key] = one
    if not said:
        raise InputError(f"{path}: holds no judgements; there is nothing to import")
    return Found(tuple(new.values()), tuple(said.values()))


def _records(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """The records of a JSONL file, or of the one JSON list that Argilla writes."""
    with reading(path), path.open("rb") as file:
        opening = file.read(64).lstrip()
    if not opening.startswith(b"["):
        for number, record in json_records(path):
            yield f"{path}:{number}", record
        return
    try:
        every = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: is not JSON ({error}); export it again") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error}); export it again") from None
    for number, record in enumerate(every, 1):
        if not isinstance(record, dict):
            raise InputError(f"{path}, record {number}: is no JSON object")
        yield f"{path}, record {number}", record


def _read(
    record: Mapping[str, Any],
    where: str,
    known: Mapping[str, Item],
    annotator: str,
    annotators: Sequence[str],
) -> tuple[Item, list[Judgement]]:
    shape = next((s for s, columns in COLUMNS.items() if {*columns} <= record.keys()), None)
    if shape is None:
        raise InputError(
            f"{where}: has the columns {listed(record)}, which are those of no shape among "
            f"{listed(ALL_SHAPES)}; see docs/how-to/judge.md"
        )
    try:
        if shape == "argilla":
            item = argilla.item_of(record, where)
            said = list(argilla.judgements_of(record, item, where, annotators))
        else:
            item, kind, value = _said(record, shape, where, known)
            said = [checked(item, named(record.get("annotator", annotator)), kind, value)]
    except InputError as error:
        told = str(error)
        raise InputError(told if told.startswith(where) else f"{where}: {told}") from None
    ours = known.get(item.id, item)
    turned = [draft.text for draft in ours.drafts] != [draft.text for draft in item.drafts]
    return ours, [_turned(one) for one in said] if turned else said


def _said(
    record: Mapping[str, Any], shape: str, where: str, known: Mapping[str, Item]
) -> tuple[Item, str, Any]:
    """The item of a record, with the kind and value of its judgement."""
    prompt = text_in(record, "prompt", where) if "prompt" in record else ""
    named = known.get(str(record.get("item")))
    if shape == "judgement":
        item = Item(prompt, tuple(map(Draft, _drafts(record, where))), "imported")
        kind, value = text_in(record, "kind", where), record["value"]
    elif shape == "preference":
        chosen, rejected = (text_in(record, name, where) for name in ("chosen", "rejected"))
        single = Item(prompt, (Draft(rejected),), "imported")
        if named is not None and named.id == single.id:
            return single, "correction", chosen
        if chosen == rejected:
            raise InputError("'chosen' and 'rejected' are equal; drop this record")
        item = Item(prompt, (Draft(chosen), Draft(rejected)), "imported")
        kind, value = "preference", "first"
    elif shape == "completion":
        if named is None or named.pair or named.prompt != prompt:
            raise InputError(
                "a completion is a correction of a draft, and no `item` that is known here with "
                "this prompt says of which; import it as preference {prompt, chosen, rejected}, or "
                "use the file as a source itself"
            )
        return named, "correction", text_in(record, "completion", where)
    else:
        column = {"critique": "draft", "rating": "completion", "label": "text"}[shape]
        item = Item(prompt, (Draft(text_in(record, column, where)),), "imported")
        kind, value = _value(record, shape, where)
        of_pair = named is not None and named.pair and item.drafts[0].text in named.texts
        if named is not None and of_pair and shape == "rating" and record["label"] is False:
            return named, "preference", "neither"  # of which each draft has a record
    if named is not None and named.id != item.id:
        raise InputError(
            f"its texts are not those of item {named.id}, which it names; drop `item` to have it "
            "as an item of its own"
        )
    return item, kind, value


def _drafts(record: Mapping[str, Any], where: str) -> list[str]:
    drafts = record["drafts"]
    if not isinstance(drafts, list) or len(drafts) not in (1, 2):
        raise InputError(f"'drafts' must be a list of one text or two, got {drafts!r:.40}")
    return [text_in({"drafts": text}, "drafts", where) for text in drafts]


def _value(record: Mapping[str, Any], shape: str, where: str) -> tuple[str, Any]:
    if shape == "critique":
        return "critique", text_in(record, "critique", where)
    if shape == "label":
        return "labels", [label_in(record, where)]
    label = record["label"]
    if not isinstance(label, bool):
        raise InputError(f"'label' must be true (good) or false, got {label!r:.40}")
    return "rating", record.get("rating", RATED[label])


def _turned(judgement: Judgement) -> Judgement:
    """A preference for two drafts in the other order."""
    sides = {"first": "second", "second": "first"}
    return replace(judgement, value=sides.get(judgement.value, judgement.value))
