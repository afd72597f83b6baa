"""Judgement of an item: one annotator's answer of one kind, checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fitness.errors import InputError
from fitness.feedback.items import Item
from fitness.filters import RATING, of_criterion
from fitness.suggest import listed

Kind = str  # one of KINDS, or a rating by a criterion, such as `rating/coherence`
KINDS: tuple[Kind, ...] = (RATING, "preference", "labels", "correction", "critique", "skip")
OF_PAIRS: tuple[Kind, ...] = ("preference", "skip")
CLOSING: tuple[Kind, ...] = ("preference", "skip")  # after these one goes on to the next item
RATINGS = range(1, 6)
# Of the item's drafts, whatever the order they were shown in; `neither`: both are bad.
SIDES = ("first", "second", "tie", "neither")
NO_CHOICE = ("tie", "neither")
LONGEST_NAME = 64
JUDGE = "judge:"  # what the name of a model begins with that judges beside people
LONGEST_TEXT = 500_000  # characters
LONGEST_GUIDELINE = 2_000
CRITERION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # a name as in a spec


@dataclass(frozen=True, slots=True)
class Judgement:
    """One annotator's judgement of an item.

    The value is 1 to 5 for a rating, overall or by a criterion, one of SIDES for a preference, a
    list of labels, the whole corrected text, what is wrong in words, or None for a skip.
    """

    item: str
    annotator: str
    kind: Kind
    value: Any


def checked(item: Item, annotator: str, kind: str, value: Any) -> Judgement:
    """Make a judgement of an item. Raises InputError if the value does not fit the kind or item."""
    if kind not in KINDS and not (of_criterion(kind) and CRITERION.fullmatch(criterion_of(kind))):
        raise InputError(
            f"kind of judgement {kind!r:.40}: there are {listed(KINDS)}, and {RATING}/CRITERION"
        )
    if item.pair and kind not in OF_PAIRS:
        raise InputError(f"a {kind} is of one draft, and item {item.id} shows two to choose from")
    if not item.pair and kind == "preference":
        raise InputError(f"a preference is between two drafts, and item {item.id} shows one")
    fault = _fault(item, kind, value)
    if fault:
        raise InputError(f"{kind} of item {item.id}: {fault}")
    if kind == "labels":
        value = list(dict.fromkeys(label.strip() for label in value))
    return Judgement(item.id, named(annotator), kind, value)


def is_rating(kind: str) -> bool:
    """True for an overall rating, and for one by a criterion, such as `rating/coherence`."""
    return kind == RATING or of_criterion(kind)


def criterion_of(kind: str) -> str:
    """Criterion of a rating, empty for an overall one."""
    return kind.removeprefix(RATING).removeprefix("/")


def guidelines(given: Any, where: str) -> dict[str, str]:
    """Check criteria with their guidelines. Raises InputError, beginning with `where`."""
    if not isinstance(given, Mapping) or not given:
        raise InputError(
            f"{where}: criteria are names with a guideline each, such as "
            "`coherence: Do the sentences follow from one another?`"
        )
    for name, text in given.items():
        if not isinstance(name, str) or not CRITERION.fullmatch(name):
            raise InputError(
                f"{where}: {name!r:.40} is no name of a criterion; letters, digits, `_`, `-` and "
                "`.` are"
            )
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_GUIDELINE:
            raise InputError(
                f"{where}: the guideline of {name} is {text!r:.40}; it must be a text of 1 to "
                f"{LONGEST_GUIDELINE} characters"
            )
    return {name: text.strip() for name, text in given.items()}


def named(annotator: Any) -> str:
    """Normalise an annotator's name. Raises InputError for an invalid one."""
    name = " ".join(annotator.split()) if isinstance(annotator, str) else ""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise InputError(
            f"the name of an annotator is 1 to {LONGEST_NAME} printable characters, "
            f"got {annotator!r:.80}"
        )
    return name


def judge_named(model: str) -> str:
    """Annotator name of a model as judge. Raises InputError for an invalid name."""
    return named(f"{JUDGE}{model}"[:LONGEST_NAME])


def by_judge(annotator: str) -> bool:
    """True if an annotator is a model, not a person."""
    return annotator.startswith(JUDGE)


def _fault(item: Item, kind: Kind, value: Any) -> str:
    if is_rating(kind):
        good = type(value) is int and value in RATINGS
        return "" if good else f"must be a whole number from 1 to 5, got {value!r:.40}"
    if kind == "preference":
        return "" if value in SIDES else f"must be one of {listed(SIDES)}, got {value!r:.40}"
    if kind == "skip":
        return "" if value is None else "a skip has no value"
    if kind == "labels":
        good = isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value)
        return "" if good else f"must be a list of names, got {value!r:.40}"
    return _fault_of_text(value) or (
        "is the draft as it stands; undo takes a correction back"
        if kind == "correction" and value == item.drafts[0].text
        else ""
    )


def _fault_of_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        return f"must be a text that is not blank, got {value!r:.40}"
    if len(value) > LONGEST_TEXT:
        return f"may have {LONGEST_TEXT} characters, got {len(value)}"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "holds half a surrogate pair, which is no text"
    return ""
