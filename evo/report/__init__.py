"""Reports of a run: report.html, which needs no network, and a summary for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo import history
from evo.history.comparison import WINNER
from evo.report.contents import PLACED, comparison_table, contents, duration, leader_of, recipe
from evo.report.figures.style import Chart, View
from evo.report.limits import limit_lines
from evo.report.rendering import rendered
from fitness.files import write_whole

if TYPE_CHECKING:
    from rich.console import RenderableType

TONES = {"good": "bold green", "mixed": "bold yellow", "bad": "bold red"}  # of a verdict
COLUMNS = 3  # objectives in the terminal's table, at 80 characters


def write(facts: history.Facts, path: Path) -> None:
    """Write the self-contained page; it appears whole or not at all."""
    write_whole(path, page(facts, run=str(path.parent)))


def page(facts: history.Facts, *, run: str = "RUN") -> str:
    """The page as HTML; `run` is the run's folder, for commands to copy."""
    from evo.report.figures import charts

    view = View.of(facts)
    drawn, said = charts(view), contents(view, run)
    return rendered("report.html.j2", drawn, {**said, "parts": _parts(drawn, said)})


def _parts(drawn: Mapping[str, Chart], said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table of contents: title and key of each section, in the page's order."""
    recipe = said["recipe"]
    return [
        *[("Closing comparison", "comparison")] * bool(said["comparison"]),
        *[("Recipe", "recipe")] * bool(recipe["genes"] or recipe["mixture"]),
        *[("Recipe and commands to copy", "commands")] * bool(said["commands"]),
        *[(chart.title, key) for key, chart in drawn.items() if key not in PLACED],
        *[("Individuals", "individuals")] * bool(said["individuals"]),
        *[("Samples", "samples")] * bool(said["samples"]),
        ("Failures and cost", "cost"),
        ("Versions and spec", "origin"),
    ]


def _note(closing: dict[str, Any], names: list[str], seeds: int) -> str:
    """Words below the table: what its numbers are means of, and what margin and p are."""
    over = "one seed" if seeds == 1 else f"{seeds} seeds"
    margins = [row["cells"].get(names[0], {}).get("margin", "") for row in closing["rows"]]
    p = "; p: probability of such a margin between equally good ones"
    return (
        f"Mean and standard error over {over}{_held(closing['items'], names)}. Margin: how much "
        f"better the winner is on {names[0]}{p if any('(p ' in one for one in margins) else ''}."
    )


def _held(items: dict[str, str], names: list[str]) -> str:
    """Words on held-out items, ` and the held-out items (a/loss: 34 documents)`; else empty."""
    counts = [f"{name}: {items[name]}" for name in names if items.get(name)]
    return f" and the held-out items ({', '.join(counts)})" if counts else ""


def summary(facts: history.Facts) -> "RenderableType":
    """Verdict, closing comparison, winner and cost, for a terminal of 80 columns."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    view = View.of(facts)
    status = history.status(facts)
    verdict = history.verdict(facts)
    style = TONES.get(verdict.tone, "bold")
    parts: list[RenderableType] = [Text(verdict.text, style), *map(Text, verdict.notes), Text()]
    closing = comparison_table(facts)
    if closing:
        names = list(history.objectives(facts))[:COLUMNS]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("test split", no_wrap=True, max_width=24)
        for name in names:
            table.add_column(Text(name), justify="right", no_wrap=True, min_width=9)
        table.add_column(Text("margin"), justify="right", no_wrap=True)
        if closing["with_tokens"]:
            table.add_column(Text("tokens"), justify="right", no_wrap=True)
        for row in closing["rows"]:
            cells = [row["cells"].get(name, {}) for name in names]
            failed = f" ({row['failed']} failed)" if row["failed"] else ""
            table.add_row(
                Text(row["contender"] + failed),
                *(Text(cell.get("value", "-")) for cell in cells),
                Text(cells[0].get("margin", "")),
                *([Text(row["tokens"])] if closing["with_tokens"] else []),
                style="bold" if row["contender"] == WINNER else "",
            )
        seeds = max(row["seeds"] for row in closing["rows"])
        note = _note(closing, names, seeds)
        if closing["with_tokens"]:
            note += " Tokens: trained on, including those of all its ancestors' weights."
        parts += [table, Text(note, "dim"), Text()]
    found = recipe(view)
    if view.leader is not None:
        shares = ", ".join(
            f"{name} {share:.0%}" for name, share, _ in found["mixture"] if share >= 0.005
        )
        genes = ", ".join(f"{name} {value}" for name, value in found["genes"].items())
        parts.append(Text(leader_of(view), "bold"))
        parts += [Text(f"  mixture: {shares}")] * bool(shares) + [Text(f"  genes: {genes}")] * bool(
            genes
        )
        parts += [Text(f"  {line}") for line in limit_lines(facts)]
    failures = (
        ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in status["failures"].items()) or "none"
    )
    lost = f"; lost and retried: {status['lost_and_retried']}" if status["lost_and_retried"] else ""
    busy = "" if status["busy_share"] is None else f", workers busy {status['busy_share']:.0%}"
    parts.append(
        Text(
            f"{status['done']} of {status['total'] or '?'} evaluations, front {status['front']}, "
            f"failed: {failures}{lost}; running time "
            f"{duration(status['elapsed_seconds'])}{busy}"
        )
    )
    return Group(*parts)
