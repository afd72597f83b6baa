"""Texts with class labels, `{text, label}`, as rows of tokens."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fitness.data.formats import text_in
from fitness.data.records import Encode, Row
from fitness.errors import InputError
from fitness.suggest import did_you_mean, listed, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def label_in(record: Mapping[str, Any], where: str) -> str:
    """The name of a record's class; a whole number becomes its decimal text."""
    label = record.get("label")
    if isinstance(label, str) or (isinstance(label, int) and not isinstance(label, bool)):
        return str(label)
    got = shortened(label, 40) if "label" in record else f"none among {listed(record)}"
    raise InputError(f"{where}: 'label' must be a name or a whole number, got {got}")


def labelled(
    record: Mapping[str, Any],
    where: str,
    column: str,
    labels: Sequence[str],
    encode: Encode,
    around: tuple[list[int], list[int]],
) -> Row:
    """The row of a text with its special tokens `around` it, labelled by its class's number.

    Raises InputError, beginning with `where`, for a label that is not in the set.
    """
    text, label = text_in(record, column, where, "label"), label_in(record, where)
    if not text.strip():
        raise InputError(f"{where}: {shortened(column)} is blank; drop this record")
    if label not in labels:
        raise InputError(
            f"{where}: label {shortened(label)} is not among model.labels {listed(labels)}"
            f"{did_you_mean(label, labels) or '; add it there, or drop this record'}"
        )
    before, after = around
    return Row(before + encode(text), after, labels.index(label))


def tokens_around(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer adds before and after a text, such as [CLS] and [SEP]."""
    whole = tokenizer("a", verbose=False)["input_ids"]
    inside = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"]
    for first in range(len(whole) - len(inside) + 1):
        if whole[first : first + len(inside)] == inside:
            return whole[:first], whole[first + len(inside) :]
    raise InputError(
        f"model.base: its tokenizer ({type(tokenizer).__name__}) changes a text where it adds "
        "special tokens; take another base for classification"
    )
