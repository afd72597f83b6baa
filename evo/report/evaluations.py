"""Table of a run's evaluations for the terminal; CSV and Parquet files have all columns."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from evo import history
from evo.history.comparison import number
from evo.history.tables import BASE

if TYPE_CHECKING:
    from rich.console import RenderableType


def table_of(rows: pd.DataFrame, facts: history.Facts) -> "RenderableType":
    """Table of evaluations: individual, name, split, status, objectives and seconds."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    objectives = list(history.objectives(facts))
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    first = ["round"] if "round" in rows else []
    for name in (*first, "individual"):
        shown.add_column(name, justify="right")
    for name in ("name", "split", "status"):
        shown.add_column(name)
    for name in (*objectives, "seconds"):
        shown.add_column(Text(name), justify="right")
    for row in rows.to_dict("records"):
        shown.add_row(
            *(str(row[name]) for name in first),
            BASE if row["kind"] == BASE else str(row["individual"]),
            Text(_name(row)),
            Text(_split(row)),
            Text(str(row["status"]).replace("_", " "), "" if row["status"] == "ok" else "red"),
            *(number(_value(row, name)) for name in objectives),
            f"{row['duration']:.1f}",
        )
    note = "all columns, genes included: --csv FILE or --parquet FILE"
    return Group(shown, Text(note, "dim"))


def _name(row: Mapping[Hashable, Any]) -> str:
    """Name of an evaluation's individual: `untouched base`, a baseline's, or its operator."""
    return f"untouched {BASE}" if row["kind"] == BASE else str(row["name"] or row["operator"] or "")


def _split(row: Mapping[Hashable, Any]) -> str:
    split, fidelity = str(row["split"]), row["fidelity"]
    if isinstance(fidelity, float) and 0 < fidelity < 1:
        split += f" up to {fidelity:g}"
    return split + f", seed {row['seed']}"


def _value(row: Mapping[Hashable, Any], objective: str) -> float:
    """Value of a measurement; NaN if it is missing."""
    value = row.get(objective, row.get(f"measurement.{objective}"))
    return float(value) if isinstance(value, int | float) else float("nan")
