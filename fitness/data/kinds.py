"""The kinds of records, the columns that each needs, and the kind recognised from columns."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Literal

from fitness.errors import InputError
from fitness.suggest import LONGEST_NAME, listed, shortened

Kind = Literal[
    "text", "completion", "preference", "comparison", "rating", "prompt", "label", "tags", "sample"
]
ALONE: tuple[Kind, ...] = ("label", "tags", "comparison")  # whose records are never packed
PAIRED: tuple[Kind, ...] = ("preference", "comparison")  # two answers to a prompt

# (columns, description, kind): a record is of the first kind whose columns it has.
RECOGNISED: tuple[tuple[frozenset[str], str, Kind], ...] = (
    (frozenset({"prompt", "completion", "individual", "seed"}), "samples of a pool", "sample"),
    (frozenset({"prompt", "chosen", "rejected"}), "preferences", "preference"),
    (frozenset({"prompt", "completion", "label"}), "rated answers", "rating"),
    (frozenset({"prompt", "completion"}), "prompts with completions", "completion"),
    (frozenset({"messages"}), "chats", "completion"),
    (frozenset({"conversations"}), "chats", "completion"),
    (frozenset({"prompt", "reference"}), "prompts with references", "prompt"),
    (frozenset({"text", "label"}), "texts with labels", "label"),
    (frozenset({"tokens", "tags"}), "words with tags", "tags"),
    (frozenset({"text"}), "texts", "text"),
    (frozenset({"prompt"}), "prompts", "prompt"),
)

# Required columns by kind, with alternatives; the column of kind `text` may have any name.
NEEDED: Mapping[Kind, tuple[tuple[str, ...], ...]] = {
    "completion": (("prompt", "completion"), ("messages",), ("conversations",)),
    **dict.fromkeys(PAIRED, (("prompt", "chosen", "rejected"),)),
    "rating": (("prompt", "completion", "label"),),
    "prompt": (("prompt",),),
    "tags": (("tokens", "tags"),),
    "sample": (("prompt", "completion", "individual", "seed"),),
}
LIKE_TEXT = ("text", "content", "body", "document", "article", "sentence", "review", "comment")


def check_columns(where: str, columns: Iterable[str], kind: Kind, text: str) -> None:
    """Raise InputError, once for a whole table, if it lacks the columns that a kind needs.

    `text` is the name of the text column.
    """
    has = list(columns)
    choices = NEEDED.get(kind, ((text, "label"),) if kind == "label" else ((text,),))
    if any(set(needed) <= set(has) for needed in choices):
        return
    missing = [name for name in choices[0] if name not in has]
    if missing[0] == text and kind in ("text", "label"):
        raise InputError(no_column(where, text, has, kind))
    named = f"columns {listed(missing)}" if len(missing) > 1 else f"column {listed(missing)}"
    other = other_kind(has, kind)
    remedy = f"records of kind {kind} need {listed(choices[0])}: name its columns so"
    unless = f", unless {other}" if other else ""
    raise InputError(f"{where}: no {named}, it has {listed(has)}; {remedy}{unless}")


def no_column(where: str, column: str, existing: Iterable[str], kind: Kind | None) -> str:
    """The error message for a column that is missing from a record or a table."""
    names = list(existing)
    has = f"it has {listed(names)}" if names else "it is empty"
    message = f"{where}: no column {shortened(column)}, {has}"
    if kind is not None and (other := other_kind(names, kind)):
        return f"{message}; {other}"
    meant = _meant(column, names)
    if kind is not None and kind not in ("text", "label"):
        question = f"; did you mean {shortened(meant)}?" if meant else ";"
        return f"{message}{question} a record of kind {kind} needs it"
    if kind is None:
        return f"{message}; name it so"
    texts = [name for name in names if name.casefold() in LIKE_TEXT]
    meant = meant or (names[0] if len(names) == 1 else texts[0] if texts else "")
    if not meant:
        return f"{message}; name the one to read with `text`"
    return f"{message}; did you mean {shortened(meant)}? name it with `text: {meant:.60}`"


def _meant(column: str, names: list[str]) -> str:
    """The existing name closest to a column's; empty if none is close."""
    if len(column) > LONGEST_NAME:
        return ""
    return next(iter(get_close_matches(column, sorted(names), n=1)), "")


def other_kind(columns: Iterable[str], kind: Kind) -> str:
    """A hint that the columns are those of another kind, and how to set it; else empty."""
    names = set(columns)
    for needed, words, other in RECOGNISED:
        if needed <= names:
            setting = "leave `kind` out" if other == "text" else f"set `kind: {other}`"
            return "" if other == kind else f"these are {words}: {setting}"
    return ""
