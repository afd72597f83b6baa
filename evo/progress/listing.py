"""List of the runs in some folders, one per line: `evo ls`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.history.comparison import number
from evo.progress.live import clock
from evo.progress.status import status
from evo.record.elapsed import NAME
from evo.record.facts import launch_of
from evo.record.ledger import FILE, read
from fitness.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """The run folders among these folders and right below them, by name."""
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; name one with runs")
        if (folder / FILE).is_file():
            found[folder] = None
        else:
            found |= dict.fromkeys(p.parent for p in sorted(folder.glob(f"*/{FILE}")))
    return list(found)


def listed(runs: Sequence[Path]) -> list[dict[str, object]]:
    """Each run's status with its launch in Unix seconds, oldest first; or why it can't be read."""
    found: list[dict[str, Any]] = []
    for run in runs:
        try:
            found.append({"launched": launch_of(read(run))["time"], **status(run)})
        except InputError as error:
            found.append(
                {"run": str(run), "launched": None, "state": "unreadable", "why": str(error)}
            )
    return sorted(found, key=lambda one: (one["launched"] or 0.0, one["run"]))


def table(found: Sequence[dict[str, Any]]) -> "RenderableType":
    """The runs as a terminal shows them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "state", "evaluations", NAME, "best so far", "launched"):
        # Folded, not shortened: a run's name is given to other commands.
        rows.add_column(
            name,
            justify="right" if name in ("evaluations", NAME) else "left",
            overflow="fold",
            no_wrap=name in ("evaluations", NAME),
        )
    for one in found:
        rows.add_row(*(Text(cell) for cell in _cells(one)))
    return rows


def _cells(one: dict[str, Any]) -> list[str]:
    if one["state"] == "unreadable":
        return [one["run"], one["state"], "-", "-", one["why"], "-"]
    done = (
        f"round {one['rounds_over']} of {one['rounds_at_most']}"
        if "rounds_over" in one
        else _evaluations(one)
    )
    launched = time.localtime(one["launched"]) if one["launched"] else None
    return [
        one["run"],
        one["state"],
        done,
        clock(one["elapsed_seconds"]),
        _best(one),
        time.strftime("%Y-%m-%d %H:%M", launched) if launched else "-",
    ]


def _evaluations(one: dict[str, Any]) -> str:
    """Evaluations so far, of a proxy while the run searches on one."""
    proxy = one.get("proxy_under_way")
    name = f"{Path(proxy['run']).name}: " if proxy else ""
    shown = proxy or one
    return f"{name}{shown['done']:g} of {shown['total'] or '?'}"


def _best(one: dict[str, Any]) -> str:
    """The first objective of the best individual."""
    name, value = next(iter((one["best"] or {"": None}).items()))
    if isinstance(value, dict):
        value = value["value"]
    return "-" if value is None else f"{name} {number(value)}"
