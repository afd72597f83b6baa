"""Argilla's records (2.x), as `rg.Record.to_dict` gives and `dataset.records.from_json` reads.

A record is {id, fields, metadata, suggestions, responses, vectors, _server_id}; responses are, by
the name of the question, lists of {value, user_id}. Users have UUIDs there: a name is turned into
one that always follows from it, and turned back if the name is known here.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fitness.data.formats import text_in
from fitness.errors import InputError
from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import KINDS, Judgement, checked
from fitness.filters import RATING, of_criterion
from fitness.suggest import did_you_mean, listed

NAMES = uuid.UUID("5d1f3f0a-9a39-5b8e-8d0e-3f6f1f0e6b11")  # the namespace of annotators' UUIDs
SIDES = {"first": "A", "second": "B", "tie": "tie", "neither": "neither"}
QUESTIONS = tuple(kind for kind in KINDS if kind != "skip")
BY = "-by-"  # before a criterion in the name of a question, which cannot have a slash


def user_id(annotator: str) -> str:
    """UUID that follows from a name; a UUID stays itself, so Argilla's users stay."""
    try:
        return str(uuid.UUID(annotator))
    except ValueError:
        return str(uuid.uuid5(NAMES, annotator))


def records(items: Mapping[str, Item], judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """A record for each judged item, with all annotators' responses; skips are left out."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for judgement in judgements:
        if judgement.kind == "skip":
            continue
        value = SIDES[judgement.value] if judgement.kind == "preference" else judgement.value
        question = judgement.kind.replace("/", BY, 1)
        responses = found.setdefault(judgement.item, {}).setdefault(question, [])
        responses.append({"value": value, "user_id": user_id(judgement.annotator)})
    return [
        {
            "id": id,
            "fields": _fields(items[id]),
            "metadata": {"origin": items[id].origin},
            "suggestions": {},
            "responses": responses,
            "vectors": {},
            "_server_id": None,
        }
        for id, responses in found.items()
    ]


def _fields(item: Item) -> dict[str, str]:
    if item.pair:
        first, second = (draft.text for draft in item.drafts)
        return {"prompt": item.prompt, "draft_a": first, "draft_b": second}
    return {"prompt": item.prompt, "draft": item.drafts[0].text}


def item_of(record: Mapping[str, Any], where: str) -> Item:
    """The item that a record shows; InputError if its fields are not those of one."""
    fields = record.get("fields")
    if not isinstance(fields, Mapping):
        raise InputError(f"{where}: a record of Argilla has an object `fields`")
    pair = "draft_a" in fields
    names = ("draft_a", "draft_b") if pair else ("draft",)
    drafts = tuple(Draft(text_in(fields, name, where)) for name in names)
    return Item(text_in(fields, "prompt", where), drafts, origin="argilla")


def judgements_of(
    record: Mapping[str, Any], item: Item, where: str, known: Iterable[str]
) -> Iterator[Judgement]:
    """The responses of a record; those that were discarded or not submitted are left out."""
    names = {user_id(name): name for name in known}
    sides = {shown: side for side, shown in SIDES.items()}
    responses = record.get("responses") or {}
    if not isinstance(responses, Mapping):
        raise InputError(f"{where}: `responses` must be an object of lists by question")
    for question, answers in responses.items():
        kind = question.replace(f"{RATING}{BY}", f"{RATING}/", 1)
        if kind not in QUESTIONS and not of_criterion(kind):
            raise InputError(
                f"{where}: no question {question!r} is known here, which are {listed(QUESTIONS)}"
                f"{did_you_mean(question, QUESTIONS) or '; rename or drop it'}"
            )
        for answer in answers if isinstance(answers, list) else [answers]:
            if not isinstance(answer, Mapping) or "value" not in answer:
                raise InputError(f"{where}: a response of {question!r} lacks its `value`")
            if answer.get("status") in ("draft", "discarded"):
                continue
            value, user = answer["value"], str(answer.get("user_id"))
            if question == "preference":
                value = sides.get(value, value) if isinstance(value, str) else value
            yield checked(item, names.get(user, user), kind, value)
