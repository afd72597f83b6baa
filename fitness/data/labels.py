"""Texts with class labels, `{text, label}`, and sentences with tags, as rows of tokens.

A sentence is `{tokens, tags}`: words, and for each a tag in BIO form: O outside of every entity,
B-TYPE at the first word of one, I-TYPE inside it (Ramshaw and Marcus, "Text chunking using
transformation-based learning", 1995). Words are joined by spaces, as in the text that the base was
trained on, and the first token of each word has its tag.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from fitness.data.formats import text_in, whole_characters
from fitness.data.kinds import no_column
from fitness.data.records import UNTAGGED, Encode, Row
from fitness.errors import InputError
from fitness.suggest import did_you_mean, listed, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OUTSIDE = "O"


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


def is_bio(tag: str) -> bool:
    """True for O, and for B- or I- with a type behind it."""
    return tag == OUTSIDE or (tag[:2] in ("B-", "I-") and bool(tag[2:].strip()))


def all_tags(found: Collection[str]) -> list[str]:
    """O, then B- and I- of each type among the tags, in order of the types."""
    types = sorted({tag[2:] for tag in found if tag != OUTSIDE})
    return [OUTSIDE, *(f"{place}-{one}" for one in types for place in "BI")]


def tagged_words(record: Mapping[str, Any], where: str) -> tuple[list[str], list[str]]:
    """The words of a record and their tags. Raises InputError, beginning with `where`."""
    words, tags = _texts(record, "tokens", where), _texts(record, "tags", where)
    if len(words) != len(tags):
        raise InputError(
            f"{where}: has {len(words)} tokens and {len(tags)} tags; give each token one tag"
        )
    if not words:
        raise InputError(f"{where}: 'tokens' is an empty list; drop this record")
    for place, (word, tag) in enumerate(zip(words, tags, strict=True), start=1):
        if not word.strip():
            raise InputError(f"{where}: token {place} is blank; drop it and its tag")
        if not is_bio(tag):
            raise InputError(
                f"{where}: tag {place} is {shortened(tag)}, which is not BIO; write O outside of "
                "an entity, B-TYPE at its first token and I-TYPE at those after it"
            )
    return words, tags


def _texts(record: Mapping[str, Any], column: str, where: str) -> list[str]:
    """A column that is a list of texts."""
    if column not in record:
        raise InputError(no_column(where, column, record, "tags"))
    texts = record[column]
    if not isinstance(texts, list):
        raise InputError(f"{where}: {column!r} must be a list of texts, got {shortened(texts, 40)}")
    for place, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            remedy = "give tags by name, such as B-PER" if column == "tags" else "make it text"
            raise InputError(
                f"{where}: {column!r} must be a list of texts, number {place} is "
                f"{shortened(text, 40)}; {remedy}"
            )
        whole_characters(text, f"{where}: {column!r}, number {place},")
    return texts


def tagged(
    record: Mapping[str, Any],
    where: str,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    around: tuple[list[int], list[int]],
) -> Row:
    """The row of a sentence, its special tokens `around` it, with the number of each token's tag.

    Tokens within a word have none, nor has a word that the tokenizer drops or that begins within
    the token of the word before. Raises InputError for a tag that is not among `labels`.
    """
    words, tags = tagged_words(record, where)
    for tag in tags:
        if tag not in labels:
            raise InputError(
                f"{where}: tag {shortened(tag)} is not among model.labels {listed(labels)}"
                f"{did_you_mean(tag, labels) or '; add it there, or drop this record'}"
            )
    encoding = tokenizer(" ".join(words), add_special_tokens=False, verbose=False)
    inside = encoding["input_ids"]
    numbers = [UNTAGGED] * len(inside)
    for token, tag in zip(_first_tokens(encoding, words), tags, strict=True):
        if token is not None and numbers[token] == UNTAGGED:
            numbers[token] = labels.index(tag)
    if set(numbers) <= {UNTAGGED}:
        raise InputError(f"{where}: the base's tokenizer has no token for its words; drop it")
    before, after = around
    ends = ([UNTAGGED] * len(one) for one in around)
    opening, closing = ends
    return Row(before + inside, after, tags=[*opening, *numbers, *closing])


def _first_tokens(encoding: Any, words: Iterable[str]) -> list[int | None]:
    """The number of the token in which each word begins, of words joined by spaces."""
    widths = [len(word) + 1 for word in words]
    begins = accumulate(widths[:-1], initial=0)
    return [encoding.char_to_token(place) for place in begins]


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise InputError for a tokenizer that does not tell which characters a token covers."""
    if not tokenizer.is_fast:
        raise InputError(
            f"model.base: its tokenizer ({type(tokenizer).__name__}) does not tell where a word's "
            "tokens begin; take a base with a tokenizer.json for token_classification"
        )
