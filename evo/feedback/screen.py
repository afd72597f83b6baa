"""What an annotator sees, and what the page's buttons do."""

from collections.abc import Callable
from typing import Any

from fitness.errors import InputError
from fitness.feedback.judgements import named
from fitness.feedback.store import Store

Asked = dict[str, Any]
SIDES = {"a": ("first", "second"), "b": ("second", "first"), "tie": ("tie", "tie")}


def screen(store: Store, asked: Asked) -> Asked:
    """The item in the annotator's hands, with what they have said of it, and how far things are.

    It does not tell who wrote a draft: people judge blind.
    """
    annotator = named(asked.get("annotator"))
    item = store.current(annotator)
    shown: Asked = {
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


def _judge(store: Store, asked: Asked) -> None:
    annotator, id = _who(asked)
    kind, value = str(asked.get("kind")), asked.get("value")
    if kind == "preference":
        if value not in ("a", "b", "tie"):
            raise InputError(f"a preference is a, b or tie, got {value!r:.40}")
        item = store.items.get(id)
        value = SIDES[value][item is not None and store.swapped(item, annotator)]
    store.judge(id, annotator, kind, value)


def _next(store: Store, asked: Asked) -> None:
    annotator, item = _who(asked)
    store.go_on(item, annotator)


def _undo(store: Store, asked: Asked) -> None:
    store.undo(named(asked.get("annotator")))


def _who(asked: Asked) -> tuple[str, str]:
    return named(asked.get("annotator")), str(asked.get("item"))


ACTIONS: dict[str, Callable[[Store, Asked], None]] = {
    "look": lambda store, asked: None,
    "judge": _judge,
    "next": _next,
    "undo": _undo,
}
