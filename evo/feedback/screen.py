"""The screen of an annotator, as JSON, and the actions of the page's buttons."""

from collections.abc import Callable
from typing import Any

from fitness.errors import InputError
from fitness.facts import as_lines
from fitness.feedback.conversion import records
from fitness.feedback.items import Item
from fitness.feedback.judgements import named
from fitness.feedback.store import Store

Request = dict[str, object]
EXCERPT = 200  # characters of a text in the list of what was judged
SIDES = {
    "a": ("first", "second"),
    "b": ("second", "first"),
    "tie": ("tie",) * 2,
    "neither": ("neither",) * 2,
}


def screen(store: Store, request: Request) -> Request:
    """The annotator's current item with their judgements of it, and the progress so far.

    It does not show which model generated a draft: people judge blind.
    """
    annotator = named(request.get("annotator"))
    item = store.current(annotator)
    shown: Request = {
        "annotator": annotator,
        "item": None,
        "labels": list(store.standing.settings.labels),
        "criteria": [
            {"name": name, "guideline": text}
            for name, text in store.standing.settings.criteria.items()
        ],
        "progress": store.progress(annotator),
        "can_undo": bool(store.standing.steps.get(annotator)),
    }
    if item is not None:
        shown["item"] = _shown(store, item, annotator)
    return shown


def _shown(store: Store, item: Item, annotator: str) -> Request:
    """An item with the annotator's judgements of it, in the order in which they see its drafts."""
    swapped = store.swapped(item, annotator)
    said = {kind: j.value for kind, j in store.standing.of(item.id, annotator).items()}
    if "preference" in said:
        said["preference"] = next(
            side for side, meant in SIDES.items() if meant[swapped] == said["preference"]
        )
    drafts = item.texts[::-1] if swapped else item.texts
    return {"id": item.id, "prompt": item.prompt, "drafts": drafts, "said": said}


def exported(store: Store) -> bytes:
    """All judgements in force as JSONL, as `evo feedback export --as judgement` writes them."""
    return as_lines(records(store.items, store.judgements(), "judgement"))


def _judge(store: Store, request: Request) -> None:
    annotator, id = _who(request)
    kind, value = str(request.get("kind")), request.get("value")
    if kind == "preference":
        if not isinstance(value, str) or value not in SIDES:
            raise InputError(f"a preference is a, b, tie or neither, got {value!r:.40}")
        item = store.items.get(id)
        value = SIDES[value][item is not None and store.swapped(item, annotator)]
    store.judge(id, annotator, kind, value)


def _next(store: Store, request: Request) -> None:
    annotator, item = _who(request)
    store.finish(item, annotator)


def _undo(store: Store, request: Request) -> None:
    store.undo(named(request.get("annotator")))


def _review(store: Store, request: Request) -> Request:
    """The annotator's judged items with their judgements, in excerpts."""
    annotator = named(request.get("annotator"))
    return {"judged": [_cut(_shown(store, one, annotator)) for one in store.judged_by(annotator)]}


def _cut(value: Any) -> Any:
    """JSON values with texts cut to EXCERPT characters."""
    if isinstance(value, dict):
        return {name: _cut(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_cut(one) for one in value]
    long = isinstance(value, str) and len(value) > EXCERPT
    return f"{value[:EXCERPT]}…" if long else value


def _reopen(store: Store, request: Request) -> None:
    annotator, item = _who(request)
    store.reopen(item, annotator)


def _who(request: Request) -> tuple[str, str]:
    return named(request.get("annotator")), str(request.get("item"))


# What an action returns is added to the screen.
ACTIONS: dict[str, Callable[[Store, Request], Request | None]] = {
    "look": lambda store, request: None,
    "judge": _judge,
    "next": _next,
    "undo": _undo,
    "review": _review,
    "reopen": _reopen,
}
