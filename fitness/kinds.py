"""The kinds of records, and which of them a record's columns tell."""

from collections.abc import Iterable
from typing import Literal

Kind = Literal["text", "completion", "preference", "rating", "prompt", "label", "sample"]

# The first of these whose columns a record has is its kind, in words and by name.
TOLD: tuple[tuple[frozenset[str], str, Kind], ...] = (
    (frozenset({"prompt", "completion", "individual", "seed"}), "samples of a pool", "sample"),
    (frozenset({"prompt", "chosen", "rejected"}), "preferences", "preference"),
    (frozenset({"prompt", "completion", "label"}), "rated answers", "rating"),
    (frozenset({"prompt", "completion"}), "prompts with completions", "completion"),
    (frozenset({"messages"}), "chats", "completion"),
    (frozenset({"conversations"}), "chats", "completion"),
    (frozenset({"prompt", "reference"}), "prompts with references", "prompt"),
    (frozenset({"text", "label"}), "texts with labels", "label"),
    (frozenset({"text"}), "texts", "text"),
    (frozenset({"prompt"}), "prompts", "prompt"),
)


def other_kind(columns: Iterable[str], kind: Kind) -> str:
    """Says that columns tell another kind than the given one, and how to set it; empty if not."""
    names = set(columns)
    for needed, words, other in TOLD:
        if needed <= names:
            setting = "leave `kind` out" if other == "text" else f"set `kind: {other}`"
            return "" if other == kind else f"these are {words}: {setting}"
    return ""
