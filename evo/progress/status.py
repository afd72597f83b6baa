"""Status of a run: from its ledger, and from its driver's `now.json` while that runs."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.history import proxies, rounds
from evo.history import status as status_of
from evo.history.comparison import number
from evo.progress import now
from evo.progress.live import clock
from evo.record.elapsed import NAME
from evo.record.facts import Facts
from evo.record.ledger import in_use, read

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

Status = Mapping[str, Any]
WATCH_SECONDS = 2.0
GOING = ("running", "stopping")  # states in which a driver is at work


def status(run: Path, facts: Facts | None = None) -> dict[str, Any]:
    """Status of a run, as JSON values; its `facts` are read unless they are given."""
    facts, alive, seconds = facts or read(run), in_use(run), time.time()
    if not rounds.has(facts):
        said = now.read(run) if alive else None
        begun = said.begun if said else None
        found = status_of(facts, alive=alive, now=seconds, begun=begun)
        return {"run": str(run), **found, **_live(said), **_proxy(run, facts)}
    said = now.read(rounds.folder_of(run, len(rounds.over(facts)) + 1)) if alive else None
    begun = said.begun if said else None
    found = rounds.status(run, facts, alive=alive, now=seconds, begun=begun)
    if found["round_under_way"] is not None:
        found["round_under_way"] |= _live(said)
    if said is not None:
        found |= {"state": _live(said)["state"], "finishing": said.finishing}
    return {"run": str(run), **found}


def _proxy(run: Path, facts: Facts) -> dict[str, Any]:
    """Status of the proxy that the run searches on, or did when it was stopped; empty after all."""
    own = proxies.under_way(run, facts)
    if own is None:
        return {}
    found = status(own)
    live = {name: found[name] for name in ("state", "finishing") if "phase" in found}
    return {**live, "proxy_under_way": found}


def _live(said: now.Now | None) -> dict[str, Any]:
    """State that the driver last reported, brought up to now; empty if no driver is running.

    It overrides the ledger's last fact, which may be behind: evaluations still finish after a stop
    was requested, and a resume starts Ray before it writes a fact.
    """
    if said is None:
        return {}
    age = max(0.0, time.time() - said.time)
    left = said.seconds_left
    return {
        "state": "stopping" if said.stopping else "running",
        "finishing": said.finishing,
        "phase": said.phase,
        "busy_share": said.busy_share,
        "seconds_left": None if left is None else max(0.0, left - age),
        "running": [
            {"worker": one.name, "does": one.does, "seconds": max(0.0, time.time() - one.since)}
            for one in said.workers
        ],
    }


def table(found: Status) -> "RenderableType":
    """A status as a terminal shows it."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for title, rows in sections(found):
        grid = _grid()
        for name, value in rows:
            grid.add_row(Text(name, "dim"), Text(value))
        parts += [*([Text(title, "bold")] if title else []), grid]
    return Group(*parts)


def sections(found: Status) -> list[tuple[str, list[tuple[str, str]]]]:
    """Title, and name and value of each line: of the run, and of the search within it."""
    parts = [("", _rows(found))]
    if (round_now := found.get("round_under_way")) is not None:
        parts.append((f"round {round_now['round']}", _rows(round_now)))
    if (proxy_now := found.get("proxy_under_way")) is not None:
        parts.append((Path(proxy_now["run"]).name, _rows(proxy_now)))
    return parts


def _grid() -> "Table":
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _rows(found: Status) -> list[tuple[str, str]]:
    """Name and value of each line."""
    rows = [("run", f"{found['name']}, {_state(found)}")]
    if found.get("phase"):
        rows.append(("now", found["phase"]))
    if found.get("waits_for_judgements"):
        rows.append(("waits for", f"{found['waits_for_judgements']} judgements"))
    if found.get("why"):
        rows.append(("ended", found["why"]))
    if "rounds_over" in found:
        rows.append(
            ("rounds", f"{found['rounds_over']} over, of at most {found['rounds_at_most']}")
        )
    if "done" in found:
        rows.append(("evaluations", _evaluations(found)))
    if "elapsed_seconds" in found:
        left = found.get("seconds_left")
        ahead = "" if left is None else f", about {clock(left)} left"
        rows.append((NAME, f"{clock(found['elapsed_seconds'])}{ahead}"))
    rows += _best(found)
    if found.get("workers"):
        share = found["busy_share"]
        rows.append(("workers", str(found["workers"]) + (f", {share:.0%} busy" if share else "")))
    for number_, one in enumerate(found.get("running", ()), start=1):
        rows.append((f"  worker {number_}", f"{one['does']}, {clock(one['seconds'])}"))
    return rows


def _state(found: Status) -> str:
    """`running`, `stopped`, `stopping: 2 evaluations finish`."""
    count = found.get("finishing", 0)
    if found["state"] != "stopping" or not count:
        return str(found["state"])
    return f"stopping: {count} evaluation{' finishes' if count == 1 else 's finish'}"


def _evaluations(found: Status) -> str:
    text = f"{found['done']:g} of {found['total'] or '?'}"
    failures = ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in found["failures"].items())
    text += f"; failed: {failures}" if failures else ""
    if found["lost_and_retried"]:
        text += f"; lost and retried: {found['lost_and_retried']}"
    if found["closing_evaluations"]:
        text += f"; {found['closing_evaluations']} on the test split"
    return text


def _best(found: Status) -> list[tuple[str, str]]:
    """The best individual's measurements, or why there is none."""
    best = found.get("best") or {}
    if "done" not in found:
        values = ", ".join(f"{name} {number(value)}" for name, value in best.items())
        return [("best", f"round {found['best_round']}: {values}")] if values else []
    rows = []
    scored = {name: one for name, one in best.items() if one is not None}
    limits = found["constraints"]
    if scored:
        individual = next(iter(scored.values()))["individual"]
        values = ", ".join(f"{name} {number(one['value'])}" for name, one in scored.items())
        title = "winner" if found["winner"] == individual else "best so far"
        rows.append((title, f"individual {individual}: {values}"))
    elif any(one["met"] is False for one in limits):
        rows.append(("best so far", "none yet: no individual meets every constraint"))
    else:
        rows.append(("best so far", "none yet: no individual has had its full budget"))
    for one in limits:
        if one["value"] is not None:
            met = "met" if one["met"] else "violated, the nearest"
            value = f"{met}: individual {one['individual']} has {number(one['value'])}"
            rows.append((f"  {one['constraint']}", value))
    if found["front"] > 1:
        rows.append(("front", f"{found['front']} individuals"))
    return rows


def watch(run: Path, console: "Console") -> None:
    """Show the status and refresh it until no driver is running."""
    from rich.live import Live

    with Live(table(found := status(run)), console=console, auto_refresh=False) as live:
        while found["state"] in GOING:
            time.sleep(WATCH_SECONDS)
            live.update(table(found := status(run)), refresh=True)
