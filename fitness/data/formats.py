"""Read files of documents as streams; every error names the line or row.

Formats: JSONL, CSV, TSV and plain text, each optionally compressed, and Parquet.

To add a format: `readers`.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from fitness.checks.table import Reference
from fitness.data.kinds import Kind, no_column
from fitness.errors import UNREADABLE, InputError, Refuse, at_once
from fitness.suggest import listed, shortened

LONGEST_FIELD = 2**31 - 1  # characters, of CSV
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}  # by suffix
COMPRESSED = {  # magic numbers; none of them begins a text: not UTF-8, or too odd
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh91AY&SY": "bzip2",
    b"PK\3\4": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
UNREAD = {"zip": "a zip archive", "7z": "a 7z archive"}
ROWS_AT_ONCE = 1024
CHARACTERS_AT_ONCE = 2**16
DELIMITERS = (";", "\t", ",", "|")
Check = Callable[[str, list[str]], None]  # of a table's columns, given the place of its header


def no_check(where: str, columns: list[str]) -> None:
    """Take any columns."""


def json_records(path: Path, refuse: Refuse = at_once) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the objects of a JSONL file with their line numbers; blank lines are left out."""
    with reading(path), opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                record = _json_record(line, path, number)
            except InputError as error:
                refuse(error)
                continue
            yield number, record


def _json_record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InputError(_not_utf8(path, number, error.start + 1)) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}:{number}: is not JSON ({error}); every line must hold one JSON object"
        ) from error
    if not isinstance(record, dict):
        raise InputError(
            f"{path}:{number}: is a JSON {type(record).__name__}, not an object; every "
            'line must look like {"text": "..."}'
        )
    return record


def table_records(
    path: Path, delimiter: str, refuse: Refuse = at_once, check: Check = no_check
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the rows of a CSV or TSV file, by the columns of its first line, with their lines.

    Quoting follows RFC 4180, so a field may hold line breaks. Where the first line does not hold
    the `delimiter` but another common one, such as the semicolon of European exports, that is used.
    """
    csv.field_size_limit(LONGEST_FIELD)
    with reading(path), opened(path) as file, _as_text(file, path, newline="") as text:
        first = text.readline()
        delimiter = _delimiter(first, delimiter)
        lines = csv.reader(chain([first], text), delimiter=delimiter, strict=True)
        try:
            names = next(lines, [])
            if "" in names or len(set(names)) < len(names):
                raise InputError(
                    f"{path}:1: the first line must name each column once, got {listed(names)}"
                )
            if names:
                check(f"{path}:1", names)
            last = lines.line_num
            for fields in lines:
                number, last = last + 1, lines.line_num
                if len(fields) == len(names):
                    yield number, dict(zip(names, fields, strict=True))
                elif fields:
                    refuse(
                        InputError(
                            f"{path}:{number}: has {len(fields)} fields, and the first line names "
                            f"{len(names)} columns; quote a field that holds {delimiter!r} or a "
                            'line break, and write a quote in it as ""'
                        )
                    )
        except csv.Error as error:
            raise InputError(
                f"{path}:{lines.line_num}: cannot be read as a table ({error}); write the file "
                "again, with fields quoted"
            ) from error


def _delimiter(first: str, usual: str) -> str:
    """The delimiter by a table's first line: the usual one, or the first that splits the line."""
    for delimiter in (usual, *DELIMITERS):
        with suppress(csv.Error):
            if len(next(csv.reader([first], delimiter=delimiter, strict=True), [])) > 1:
                return delimiter
    return usual


def text_in(
    record: Mapping[str, Any],
    column: str,
    where: str,
    kind: Kind | None = None,
    *,
    wanted: str = "a string",
) -> str:
    """The text in a record's column; InputError if it is missing or no usable text.

    Given the `kind` of the source, the error says so where the record is of another kind.
    """
    if column not in record:
        raise InputError(no_column(where, column, record, kind))
    text = record[column]
    if not isinstance(text, str):
        remedy = " or name another column with `text`" if kind in (None, "text", "label") else ""
        raise InputError(
            f"{where}: {shortened(column)} is {shortened(text, 40)}, a {type(text).__name__}; it "
            f"must be {wanted}: drop this record{remedy}"
        )
    return whole_characters(text, f"{where}: {shortened(column)}")


def reference_in(record: Mapping[str, Any], where: str) -> Reference:
    """The reference of a record of prompts: a text, or several. Raises InputError."""
    given = record.get("reference")
    if not isinstance(given, list):
        return text_in(record, "reference", where, "prompt")
    if not given:
        raise InputError(f"{where}: reference is an empty list; give at least one text")
    return tuple(text_in({"reference": one}, "reference", where, "prompt") for one in given)


def whole_characters(text: str, subject: str) -> str:
    """The text itself; InputError, beginning with `subject`, for half a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{subject} holds half a surrogate pair at character {error.start + 1}, which is not "
            "valid text; write the file again with whole characters"
        ) from error
    return text


def parquet_records(
    path: Path, column: str | None = None, check: Check = no_check
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the rows of a Parquet file with their numbers, of one column or of all.

    Arrow gives all structs of a column the same keys; those that a struct lacked are removed again.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    with reading(path):
        try:
            with pq.ParquetFile(path, buffer_size=2**20) as table:
                check(str(path), table.schema_arrow.names)
                chosen = None if column is None else [column]
                for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=chosen):
                    for place in range(batch.num_rows):
                        row += 1
                        record = {n: batch[n][place].as_py() for n in batch.schema.names}
                        yield row, without_nulls_within(record)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, row {row}: {column or 'a column'!r} is not UTF-8; drop the row"
            ) from error
        except pa.ArrowException as error:
            raise InputError(
                f"{path}: cannot be read as Parquet ({error}); write the file again"
            ) from error


def without_nulls_within(record: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the null values from the structs in a record that Arrow has read.

    Arrow gives every struct of a column the keys of all structs, null where one did not have it.
    """
    return {name: _without_nulls(value) for name, value in record.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def text_chunks(path: Path) -> Iterator[str]:
    with reading(path), opened(path) as file, _as_text(file, path) as text:  # turns CRLF into \n
        yield from iter(lambda: text.read(CHARACTERS_AT_ONCE), "")


@contextmanager
def _as_text(file: BinaryIO, path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """A binary file as text; InputError naming the place where it is not UTF-8."""
    try:
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline) as text:
            yield text
    except UnicodeDecodeError:
        line, byte = _first_invalid_byte(path)
        raise InputError(_not_utf8(path, line, byte)) from None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file's bytes, decompressed if they begin with a compression's magic number.

    The name does not matter. Raises InputError for an archive, or a damaged or mislabelled file.
    """
    with path.open("rb") as file:
        start = file.read(max(map(len, COMPRESSED)))
    method = next((name for magic, name in COMPRESSED.items() if start.startswith(magic)), None)
    if method in UNREAD:
        raise InputError(f"{path}: is {UNREAD[method]}; unpack it and name what is in it")
    promised = COMPRESSIONS.get(path.suffix.lower())
    if promised and start and method is None:
        raise InputError(
            f"{path}: its name says {promised}, but it is not compressed; rename it to "
            f"{path.stem}, or get it again if that is not what is in it"
        )
    try:
        with _decompressing(path, method) as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(
            f"{path}: cannot be decompressed ({error}); get or write the file again"
        ) from error


def _decompressing(path: Path, method: str | None) -> BinaryIO:
    if method == "gzip":
        return cast("BinaryIO", gzip.open(path))
    if method == "bzip2":
        return cast("BinaryIO", bz2.open(path))
    if method == "xz":
        return cast("BinaryIO", lzma.open(path))
    if method == "zstd":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _first_invalid_byte(path: Path) -> tuple[int, int]:
    """Line, and byte in it, both counted from 1, of the first byte that is not UTF-8."""
    line, byte, rest = 1, 1, b""
    with opened(path) as file:
        while True:
            block = file.read(2**20)
            rest += block
            try:
                _, good = codecs.utf_8_decode(rest, "strict", not block)
            except UnicodeDecodeError as error:
                good = error.start
            lines = rest.count(b"\n", 0, good)
            line += lines
            byte = good - rest.rfind(b"\n", 0, good) if lines else byte + good
            rest = rest[good:]
            if len(rest) > 3 or not block:  # more than a character that the next block completes
                return line, byte


def _not_utf8(path: Path, line: int, byte: int) -> str:
    return (
        f"{path}:{line}: byte {byte} of this line is not UTF-8; convert the file, for instance "
        f"with `iconv -f LATIN1 -t UTF-8`"
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"cannot be read ({error.strerror or error}); {UNREADABLE}"
        raise InputError(f"{path}: {why}") from error
