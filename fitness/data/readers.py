"""The formats of data files, a record each: its suffixes and reader. Add a new one here."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fitness.data.formats import Check, json_records, parquet_records, table_records
from fitness.errors import Refuse

Records = Iterator[tuple[str, dict[str, Any]]]  # (place for messages, record)
Reader = Callable[[Path, str | None, Refuse, Check], Records]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the suffixes of its files, and their reader; None for plain text, read in pieces.

    Called as read(path, column, refuse, check): `column` is the only one wanted, None for all;
    `refuse` takes the error of a record, `check` the columns of a table before its rows are read.
    """

    suffixes: tuple[str, ...]
    read: Reader | None


def _jsonl(path: Path, column: str | None, refuse: Refuse, check: Check) -> Records:
    for line, record in json_records(path, refuse):
        yield f"{path}:{line}", record


def _table(delimiter: str) -> Reader:
    def read(path: Path, column: str | None, refuse: Refuse, check: Check) -> Records:
        for line, record in table_records(path, delimiter, refuse, check):
            yield f"{path}:{line}", record

    return read


def _parquet(path: Path, column: str | None, refuse: Refuse, check: Check) -> Records:
    for row, record in parquet_records(path, column, check):
        yield f"{path}, row {row}", record


FORMATS: Mapping[str, Format] = {
    "jsonl": Format((".jsonl", ".ndjson"), _jsonl),
    "csv": Format((".csv",), _table(",")),
    "tsv": Format((".tsv",), _table("\t")),
    "parquet": Format((".parquet",), _parquet),
    "text": Format((".txt", ".md"), None),
}
SUFFIXES = {suffix: name for name, one in FORMATS.items() for suffix in one.suffixes}
if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[(*FORMATS, "folder", "hub")]
