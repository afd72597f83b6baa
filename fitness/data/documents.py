"""Named data sets as streams of documents and records.

A line of JSONL, a row of CSV, TSV or Parquet is a document; so is a whole text file. Everything
streams: memory holds one record at a time, or one piece of a text file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from fitness.data import hub, templates
from fitness.data.files import files, is_on_hub
from fitness.data.formats import text_chunks, text_in, without_nulls_within
from fitness.data.kinds import check_columns
from fitness.data.readers import FORMATS
from fitness.data.spec import Half, Source
from fitness.errors import InputError, Refuse, at_once
from fitness.text import strings_in

PIECE_CHARACTERS = (2**14, 2**16)  # a longer document is read in pieces between these sizes


class Piece(NamedTuple):
    """A stretch of a document; nearly every document is one piece."""

    text: str
    first: bool
    last: bool


def documents(
    source: Source, base: Path, *, half: Half | None = None, refuse: Refuse = at_once
) -> Iterator[str]:
    """Stream the documents of a source, its path relative to `base`; blank ones are left out.

    With `half`, only the documents that `half_of` assigns to that half. Raises InputError, naming
    the file and line, when the faulty document is reached, or passes the error to `refuse`.
    """
    parts: list[str] = []
    for piece in pieces(source, base, half=half, refuse=refuse):
        parts.append(piece.text)
        if piece.last:
            yield "".join(parts)
            parts.clear()


def pieces(
    source: Source, base: Path, *, half: Half | None = None, refuse: Refuse = at_once
) -> Iterator[Piece]:
    """Stream documents as `documents`, in pieces of at most PIECE_CHARACTERS[1] characters."""
    read = kept = 0
    for parts in _read(source, base, refuse):
        begun: list[str] = []  # the parts up to the first that is not blank
        for part in parts:
            begun.append(part)
            if part.strip():
                break
        else:
            continue
        read += 1
        if half is None or half_of(begun[-1]) == half:
            kept += 1
            waiting, first = begun[0], True
            for part in chain(begun[1:], parts):
                yield Piece(waiting, first, last=False)
                waiting, first = part, False
            yield Piece(waiting, first, last=True)
        if read == source.limit:
            break
    _check_some(source, read, kept, half)


def records(
    source: Source, base: Path, *, half: Half | None = None, refuse: Refuse = at_once
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stream the records of a source, each with its place (file and line) for error messages.

    `half` is decided by the prompt, so that no prompt is in both halves. Raises as `documents`.
    """
    read = kept = 0
    for where, record in islice(_records(source, base, refuse), source.limit):
        read += 1
        if half is None or half_of(_identity(record, source)) == half:
            kept += 1
            yield where, record
    _check_some(source, read, kept, half)


def _identity(record: Mapping[str, Any], source: Source) -> str:
    """The text that decides a record's half: its prompt, first chat message, or labelled text."""
    if source.kind == "label":
        return str(record.get(source.text))
    if source.kind == "tags":
        words = record.get("tokens")
        return " ".join(map(str, words)) if isinstance(words, list) else str(words)
    prompt = record.get("prompt") or _first(record.get("messages") or record.get("conversations"))
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)


def strings_of(record: Mapping[str, Any], source: Source) -> list[str]:
    """Every text of a record, in order; the words of a sentence as one text, without their tags."""
    return [_identity(record, source)] if source.kind == "tags" else list(strings_in(record))


def _first(messages: Any) -> Any:
    """The first message of a conversation; anything else is refused later, on tokenising."""
    return messages[0] if isinstance(messages, list) and messages else messages or ""


def _check_some(source: Source, read: int, kept: int, half: Half | None) -> None:
    if not read:
        raise InputError(f"{source.path}: there is no text in it; name a source that has some")
    if not kept:
        raise InputError(
            f"{source.path}: split by hash, none of its {read} documents falls into the {half} "
            "half; give `selection` and `test` a path each, or more documents"
        )


def half_of(text: str) -> Half:
    """The half of a held-out set that a document belongs to, independent of the rest of the set.

    A hash of its first 16,384 characters, with white space normalised, decides: so equal documents,
    and long ones that begin alike, are never in both halves.
    """
    opening = " ".join(text[: PIECE_CHARACTERS[0]].split())
    digest = hashlib.blake2b(
        opening.encode(errors="surrogatepass"), digest_size=1, person=b"evomix halves"
    ).digest()
    return "test" if digest[0] & 1 else "selection"


def _read(source: Source, base: Path, refuse: Refuse) -> Iterator[Iterator[str]]:
    """Stream all documents of a source, blank ones included, each as a stream of its pieces."""
    if is_on_hub(source):
        yield from _texts(_hub_records(source, refuse), source, refuse)
        return
    for path, kind in files(source, base):
        if kind == "text" and source.template is not None:
            raise InputError(
                f"{path}: is plain text, which has no columns for `template`; give JSONL, CSV, TSV "
                "or Parquet, or leave `template` out"
            )
        if kind == "text":
            yield _pieces(text_chunks(path))
        else:
            yield from _texts(_in_file(path, kind, source, refuse), source, refuse)


def _texts(
    every: Iterator[tuple[str, dict[str, Any]]], source: Source, refuse: Refuse
) -> Iterator[Iterator[str]]:
    for where, record in every:
        try:
            text = text_in(record, source.text, where, source.kind)
        except InputError as error:
            refuse(error)
        else:
            yield _pieces(_chunks(text))


def _records(source: Source, base: Path, refuse: Refuse) -> Iterator[tuple[str, dict[str, Any]]]:
    if is_on_hub(source):
        yield from _hub_records(source, refuse)
        return
    for path, kind in files(source, base):
        if kind == "text":
            raise InputError(
                f"{path}: is plain text, which has no records of kind {source.kind}; give JSONL, "
                "CSV, TSV or Parquet, or leave `kind` out"
            )
        yield from _in_file(path, kind, source, refuse)


def _in_file(
    path: Path, kind: str, source: Source, refuse: Refuse
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stream (place, record) of a file; of a table of texts, only that column where possible."""
    read = FORMATS[kind].read
    assert read is not None, "plain text has no records"
    column = source.text if source.kind == "text" and source.template is None else None
    every = read(path, column, refuse, _check_columns(source))
    yield from every if source.template is None else _rendered(every, source, refuse)


def _rendered(
    every: Iterable[tuple[str, dict[str, Any]]], source: Source, refuse: Refuse
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records with what the source's template makes of them."""
    assert source.template is not None
    for where, record in every:
        try:
            yield where, templates.rendered(record, source.template, where, source.text)
        except InputError as error:
            refuse(error)


def _hub_records(source: Source, refuse: Refuse) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = _hub_rows(source)
    return rows if source.template is None else _rendered(rows, source, refuse)


def _hub_rows(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    dataset = hub.parse(source.path, source.split)
    for number, record in enumerate(hub.records(dataset, hub.revision(dataset)), start=1):
        where = f"{dataset}, row {number}"
        if number == 1:  # all rows of a data set have the same columns
            _check_columns(source)(where, record)
        yield where, without_nulls_within(record)


def _check_columns(source: Source) -> Callable[[str, Iterable[str]], None]:
    """The check of a table's columns, called with place and names: those that the source reads."""
    if source.template is not None:
        return partial(templates.check_columns, template=source.template)
    return partial(check_columns, kind=source.kind, text=source.text)


def _chunks(text: str) -> Iterator[str]:
    size = PIECE_CHARACTERS[1]
    return (text[start : start + size] for start in range(0, len(text), size))


def _pieces(chunks: Iterable[str]) -> Iterator[str]:
    """Split text again at a line break, or else a space, where there is one: no word is torn."""
    rest = ""
    for chunk in chunks:
        rest += chunk
        while len(rest) > PIECE_CHARACTERS[1]:
            end = _end_of_piece(rest)
            yield rest[:end]
            rest = rest[end:]
    yield rest


def _end_of_piece(text: str) -> int:
    least, most = PIECE_CHARACTERS
    behind_line = text.rfind("\n", least, most) + 1
    before_space = text.rfind(" ", least, most)
    return behind_line or (before_space if before_space > 0 else most)
