"""Named data sets as streams of documents: files, folders, Hub ids.

A line of JSONL, a row of CSV, TSV or Parquet is a document; so is a whole text file. Everything
streams: memory holds one record at a time, or one piece of a text file.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, model_validator

from fitness.data import hub, templates
from fitness.data.formats import (
    COMPRESSIONS,
    text_chunks,
    text_in,
    without_nulls_within,
)
from fitness.data.kinds import Kind, check_columns
from fitness.data.readers import FORMATS, SUFFIXES, FormatName
from fitness.data.requirements import Requirements
from fitness.errors import InputError, Refuse, at_once
from fitness.methods import Method
from fitness.remote.fetched import fetched
from fitness.remote.store import is_url
from fitness.suggest import brief, did_you_mean, listed, shortened
from fitness.text import strings_in

Half = Literal["selection", "test"]

PIECE_CHARACTERS = (2**14, 2**16)  # a longer document is read in pieces between these sizes


class Source(Requirements):
    """One named data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[
        str,
        Field(
            min_length=1,
            description="A file, a folder, hub:owner/name[/config][@split], or the URL of a file "
            "or folder (`s3://`, `gs://`, `az://`, `hf://`, `file://`), which is fetched once.",
        ),
    ]
    format: Annotated[
        FormatName | None,
        Field(
            description="Format of the file; by default that of its suffix, which may be followed "
            "by .gz, .zst, .bz2 or .xz."
        ),
    ] = None
    kind: Annotated[
        Kind,
        Field(
            description="Kind of record: `text`; `completion` {prompt, completion} or {messages}, "
            "trained on completions only; `preference` {prompt, chosen, rejected}; "
            "`rating` {prompt, completion, label: true or false}; `prompt` {prompt}, optionally "
            "with {reference}. Each part is text, or a list of chat messages {role, content}. For "
            "model.task classification, `label` {text, label}, and for token_classification `tags` "
            "{tokens, tags}: lists of words and of BIO tags. `sample`: a pool of generated "
            "samples, {prompt, completion, individual, seed, scores}, filtered by the thresholds "
            "in the recipe's `keep_` fields."
        ),
    ] = "text"
    text: Annotated[
        str,
        Field(description="Column or key that holds the text; for kinds `text` and `label` only."),
    ] = "text"
    template: Annotated[
        str | dict[str, str] | None,
        Field(
            description="Text made of the columns of each record, as `{subject} {relation} "
            "{object}.`; or one for each column that the kind needs, as {prompt: '...', "
            "completion: '...'}."
        ),
    ] = None
    split: Annotated[str, Field(description="Split of a Hub data set.")] = "train"
    limit: Annotated[
        int | None, Field(ge=1, description="Read at most this many documents, from the first.")
    ] = None

    learn: Annotated[
        Literal["all", "last"],
        Field(
            description="Answers of a chat in {messages} that are learned: `all` turns of the "
            "assistant, each after what comes before it, or the `last` alone."
        ),
    ] = "all"

    methods: Annotated[
        tuple[Method, ...] | None,
        Field(
            min_length=1,
            description="Training methods that learn from this source. Under an individual's other "
            "methods it is left out, and its share goes to the other sources in proportion. "
            "Default: all.",
        ),
    ] = None

    @model_validator(mode="after")
    def _methods_once(self) -> Self:
        given = self.methods or ()
        for index, method in enumerate(given):
            if method in given[:index]:
                raise ValueError(f"methods: {method} is there twice; keep one of them")
        return self

    def teaches(self, method: str) -> bool:
        """True where a training method learns from this source."""
        return self.methods is None or method in self.methods

    @model_validator(mode="after")
    def _sound_template(self) -> Self:
        if self.template is not None:
            templates.check(self.template)
        return self

    @model_validator(mode="after")
    def _of_samples(self) -> Self:
        given = [name for name in Requirements.model_fields if getattr(self, name)]
        if self.kind != "sample" and given:
            raise ValueError(f"{given[0]} is for sources of kind sample, this one is {self.kind}")
        if self.kind != "completion" and self.learn != "all":
            raise ValueError(f"learn is for sources of kind completion, this one is {self.kind}")
        return self


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


def files(source: Source, base: Path) -> list[tuple[Path, str]]:
    """The files of a source that is not on the Hub, in the order in which they are read."""
    path = existing(source.path, base)
    if path.is_dir():
        if source.format not in (None, "folder"):
            raise InputError(f"{path}: is a folder, not {source.format}; leave `format` out")
        return _files_of_folder(path)
    if source.format == "folder":
        raise InputError(f"{path}: is a file, not a folder; leave `format` out")
    if source.format is not None and source.format != "hub":
        return [(path, source.format)]
    if (format_ := format_of(path)) is None:
        raise InputError(
            f"{path}: unknown suffix {path.suffix!r}; set `format` to "
            f"{' or '.join(FORMATS)}, or use one of the suffixes {listed(SUFFIXES)}"
        )
    return [(path, format_)]


def format_of(path: Path) -> str | None:
    """The format by a file's suffix, before that of a compression; None for an unknown one."""
    name = path.name.lower()
    stem, _, last = name.rpartition(".")
    return SUFFIXES.get(Path(stem if f".{last}" in COMPRESSIONS else name).suffix)


def is_on_hub(source: Source) -> bool:
    return source.format == "hub" or (source.format is None and source.path.startswith(hub.PREFIX))


def existing(path: str, base: Path) -> Path:
    """The file or folder that a path relative to `base` names; InputError if there is none.

    Of a URL it is a copy in the cache.
    """
    if is_url(path):
        return fetched(path)
    try:
        full = base / Path(os.path.expanduser(path))
        if full.is_file() or full.is_dir():
            return full
        exists = full.exists()
        nearest = next(parent for parent in full.parents if parent.is_dir())
        neighbours = os.listdir(nearest)
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, not permitted
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{brief(path)}: is no path to read ({reason}); check it") from error
    if exists:
        raise InputError(f"{full}: is neither a file nor a folder; name one that can be read twice")
    missing = full.relative_to(nearest).parts[0]
    remedy = did_you_mean(missing, neighbours) or "; check the path"
    if re.fullmatch(r"[\w.-]+/[\w-]+", path):
        remedy += f", or write hub:{path} for a data set of the Hugging Face Hub"
    raise InputError(
        f"{brief(full)}: there is no {shortened(missing, 256)} in {brief(nearest)}{remedy}"
    )


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


def _files_of_folder(folder: Path) -> list[tuple[Path, str]]:
    readable = [
        (path, kind)
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
        if (kind := format_of(path))
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not readable:
        raise InputError(
            f"{folder}: no readable file in this folder; those with the suffixes "
            f"{listed(SUFFIXES)} are read, at any depth"
        )
    return readable


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
