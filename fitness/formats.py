"""Files of documents, read as streams: JSONL, Parquet and plain text; every fault has its place."""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fitness.errors import InputError
from fitness.kinds import Kind, other_kind
from fitness.suggest import did_you_mean, listed, shortened

ROWS_AT_ONCE = 1024
CHARACTERS_AT_ONCE = 2**16


def json_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the objects of a JSONL file with their line numbers; blank lines are left out."""
    with reading(path), path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
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
            yield number, record


def text_in(
    record: Mapping[str, Any],
    column: str,
    where: str,
    kind: Kind | None = None,
    *,
    wanted: str = "a string",
) -> str:
    """The text that a record holds under a column; InputError if there is none to use.

    With the `kind` of the source, a record of another kind is told as such.
    """
    if column not in record:
        raise InputError(_no_column(where, column, record, kind))
    text = record[column]
    if not isinstance(text, str):
        remedy = " or name another column with `text`" if kind in (None, "text", "label") else ""
        raise InputError(
            f"{where}: {shortened(column)} is {shortened(text, 40)}, a {type(text).__name__}; it "
            f"must be {wanted}: drop this record{remedy}"
        )
    return whole_characters(text, f"{where}: {shortened(column)}")


def whole_characters(text: str, subject: str) -> str:
    """The text; InputError, beginning with `subject`, where it holds half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{subject} holds half a surrogate pair at character {error.start + 1}, which is no "
            "text; write the file again with whole characters"
        ) from error
    return text


def parquet_texts(path: Path, column: str) -> Iterator[str]:
    for row, record in parquet_records(path, column):
        yield text_in(record, column, f"{path}, row {row}")


def parquet_records(path: Path, column: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the rows of a Parquet file with their numbers, of one column or of all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    with reading(path):
        try:
            with pq.ParquetFile(path, buffer_size=2**20) as table:
                if column is not None and column not in table.schema_arrow.names:
                    raise InputError(
                        _no_column(str(path), column, table.schema_arrow.names, "text")
                    )
                chosen = None if column is None else [column]
                for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=chosen):
                    for place in range(batch.num_rows):
                        row += 1
                        yield row, {name: batch[name][place].as_py() for name in batch.schema.names}
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, row {row}: {column or 'a column'!r} is not UTF-8; drop the row"
            ) from error
        except pa.ArrowException as error:
            raise InputError(
                f"{path}: cannot be read as Parquet ({error}); write the file again"
            ) from error


def text_chunks(path: Path) -> Iterator[str]:
    with reading(path):
        try:
            with path.open(encoding="utf-8-sig") as text:  # turns CRLF into \n
                yield from iter(lambda: text.read(CHARACTERS_AT_ONCE), "")
        except UnicodeDecodeError:
            line, byte = _first_invalid_byte(path)
            raise InputError(_not_utf8(path, line, byte)) from None


def _first_invalid_byte(path: Path) -> tuple[int, int]:
    """Line, and byte in it, both counted from 1, at which a file stops being UTF-8."""
    line, byte, rest = 1, 1, b""
    with path.open("rb") as file:
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


def _no_column(where: str, column: str, existing: Iterable[str], kind: Kind | None) -> str:
    names = list(existing)
    has = f"it has {listed(names)}" if names else "it is empty"
    told = f"{where}: no column {shortened(column)}, {has}"
    if kind is not None and (other := other_kind(names, kind)):
        return f"{told}; {other}"
    if kind is not None and kind not in ("text", "label"):
        return f"{told}{did_you_mean(column, names) or ';'} a record of kind {kind} needs it"
    return f"{told}{did_you_mean(column, names) or ';'} name the one to read with `text`"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
