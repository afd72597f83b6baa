"""The screen of an annotator, as JSON, and the actions of the page's buttons."""

from collections.abc import Callable

from fitness.errors import InputError
from fitness.feedback.judgements import named
from fitness.feedback.store import Store

Request = dict[str, object]
SIDES = {"a": ("first", "second"), "b": ("second", "first"), "tie": ("tie", "tie")}


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
        "progress": store.progress(annotator),
        "can_undo": bool(store.standing.steps.get(annotator)),
    }
    if item is not None:
        swapped = store.swapped(item, annotator)
        texts = [draft.text for draft in item.drafts]
        said = {kind: j.value for kind, j in store.standing.of(item.id, annotator).items()}
        if "preference" in said:
            said["preference"] = next(
                side for side, meant in SIDES.items() if meant[swapped] == said["preference"]
            )
        shown["item"] = {
            "id": item.id,
            "prompt": item.prompt,
            "drafts": texts[::-1] if swapped else texts,
            "said": said,
        }
    return shown


def _judge(store: Store, request: Request) -> None:
    annotator, id = _who(request)
    kind, value = str(request.get("kind")), request.get("value")
    if kind == "preference":
        if value not in ("a", "b", "tie"):
            raise InputError(f"a preference is a, b or tie, got {value!r:.40}")
        item = store.items.get(id)
        value = SIDES[value][item is not None and store.swapped(item, annotator)]
    store.judge(id, annotator, kind, value)


def _next(store: Store, request: Request) -> None:
    annotator, item = _who(request)
    store.finish(item, annotator)


def _undo(store: Store, request: Request) -> None:
    store.undo(named(request.get("annotator")))


def _who(request: Request) -> tuple[str, str]:
    return named(request.get("annotator")), str(request.get("item"))


ACTIONS: dict[str, Callable[[Store, Request], None]] = {
    "look": lambda store, request: None,
    "judge": _judge,
    "next": _next,
    "undo": _undo,
}
