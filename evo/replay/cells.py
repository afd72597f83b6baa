"""Cells of a CSV file as text, with the lines of the file they are on, and their parsing."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from evo.config.errors import show
from fitness.errors import UNREADABLE, InputError

REMEDY = "save the table as CSV, with commas and UTF-8"
NOTHING = ("", "nan")  # an absent value, in any case of letters; `none` may well be an option
LARGEST = 2**53  # beyond, not every whole number is a float
TRUTHS = ("true", "false")
NO_NUMBER = (*NOTHING, "na", "n/a", "none", "null", "<na>")


def read_csv(path: Path) -> pd.DataFrame:
    """The cells as text under their columns, indexed by line of the file (from 1).

    Blank lines do not count. Raises InputError for what is no CSV.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; {UNREADABLE}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a CSV: it is not text in UTF-8; {REMEDY}") from None
    if "\0" in text:
        raise InputError(f"{path}: is not a CSV: it holds zero bytes; {REMEDY}")
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    columns: list[str] = []
    rows: dict[int, list[str]] = {}
    try:
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if not columns:
                columns = _header(path, values)
            elif len(values) != len(columns):
                raise InputError(
                    f"{path}:{reader.line_num}: is not a CSV: the header has {len(columns)} "
                    f"columns, this line {len(values)}; {REMEDY}"
                )
            else:
                rows[reader.line_num] = values
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not a CSV: {error}; {REMEDY}") from None
    if not columns:
        raise InputError(f"{path}: is empty; it needs a header and then a run a line")
    return pd.DataFrame(rows.values(), index=list(rows), columns=columns, dtype=object)


def _header(path: Path, columns: Sequence[str]) -> list[str]:
    if len(columns) < 2:
        raise InputError(
            f"{path}: is not a CSV: its first line, {show(columns[0])}, has no comma; {REMEDY}"
        )
    twice = [column for column in columns if column and columns.count(column) > 1]
    if twice:
        raise InputError(f"{path}: has two columns called {twice[0]}; rename one")
    return list(columns)


def real(text: str) -> float:
    """Parse a real number; NaN if missing or not finite. Raises ValueError with what is needed."""
    if text.casefold() in NO_NUMBER:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        raise ValueError("a number") from None
    return number if math.isfinite(number) else math.nan


def whole(text: str) -> float:
    """Parse a whole number, as `real`; `8.0` is one."""
    number = real(text)
    if math.isfinite(number) and not number.is_integer():
        raise ValueError("a whole number")
    if abs(number) >= LARGEST:
        raise ValueError(f"a whole number between -{LARGEST} and {LARGEST}, which are exact")
    return number


def share(text: str) -> float:
    """Parse a share of a mixture on any scale, as `real`."""
    number = real(text)
    if number < 0:
        raise ValueError("a share of at least 0")
    return number


def option(text: str) -> str | int | float:
    """Parse an option: a number if it looks like one, so that `8` equals `8.0`; NaN if empty.

    `True` and `TRUE` are `true`, since programs write them differently.
    """
    if text.casefold() in NOTHING:
        return math.nan
    if text.casefold() in TRUTHS:
        return text.casefold()
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() else number


def alike(options: Iterable[str | int | float]) -> tuple[str | int | float, ...]:
    """The first two options that may be one option written in two ways; () if there are none.

    Those are texts that differ in case alone, and a truth value beside 0 or 1.
    """
    known: dict[str, str | int | float] = {}
    for option in options:
        text = str(option).casefold()
        key = {"0": "false", "1": "true"}.get(text, text)
        if key in known:
            return (known[key], option)
        known[key] = option
    return ()
