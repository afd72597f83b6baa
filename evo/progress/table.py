"""The live table in a terminal while a search runs."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evo.cluster.activity import counted, described
from evo.record.elapsed import NAME

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from evo.progress.live import Progress

SHOWN = 8  # workers with a line of their own


def live_table(progress: "Progress") -> "RenderableType":
    """Progress of the search, its best individual beside the baselines, and the workers."""
    from rich.console import Group
    from rich.text import Text

    from evo.progress.live import clock

    tally = progress.tally
    foot = f"{progress.phase}, {NAME} {clock(progress.running_time())}"
    if (left := progress.seconds_left()) is not None:
        foot += f", about {clock(left)} left"
    workers = progress.workers
    if (share := progress.busy_share()) is not None:
        foot += f"; {len(workers)} workers {share:.0%} busy"
    parts: list[RenderableType] = []
    if tally.baselines:
        done, total = tally.spent, progress.config.budget.evaluations
        head = f"{progress.config.name}: {done:g} of {total} evaluations, front {len(tally.front)}"
        head += f", failures {tally.failures.total()}, lost and retried {tally.lost}"
        parts += [Text(head), _measured(progress)]
        if why := tally.why_none():
            parts.append(Text(why, "yellow"))
    parts.append(Text(foot))
    now = time.time()
    for number, doing in enumerate(workers[:SHOWN], start=1):
        parts.append(Text(f"  worker {number}: {described(doing)}, {clock(now - doing.since)}"))
    if len(workers) > SHOWN:
        parts.append(Text(f"  and {len(workers) - SHOWN} more: {counted(workers[SHOWN:])}"))
    if progress.stopping:
        parts.append(Text(progress.stopping, "bold yellow"))
    return Group(*parts, Text(f"run: {progress.run}"))


def _measured(progress: "Progress") -> "Table":
    """Table with a row per objective and constraint, a column per baseline and for the best."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    tally, config = progress.tally, progress.config
    columns: dict[str, Mapping[str, float]] = {}
    if (best := tally.best) is None:
        columns["best so far"] = {}
    else:
        title = "best so far" if best.violation == 0 else "nearest so far"
        columns[f"{title}: {best.id}"] = tally.means(best.id)
    columns |= tally.baselines
    table = Table("selection split", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(Text(name), justify="right")
    for objective in config.objectives:
        values = [measured.get(objective) for measured in columns.values()]
        table.add_row(Text(objective), *("-" if v is None else f"{v:.4f}" for v in values))
    for limit in tally.limits():
        cells = []
        for measured in columns.values():
            if (value := measured.get(limit.name)) is None:
                cells.append("-")
            else:
                broken = limit.excess({limit.name: value}) > 0
                cells.append(f"{value:.4f} {'violated' if broken else 'met'}")
        table.add_row(Text(str(limit)), *cells)
    return table
