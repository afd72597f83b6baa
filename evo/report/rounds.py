"""Reports of rounds: report.html of the run and of each round, and a terminal summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo import history, report
from evo.config import decode
from evo.config.rounds import POOL
from evo.history import rounds as told
from evo.history.comparison import WINNER, number, plus_minus
from evo.history.rounds import POOL_FILE, Round
from evo.record.facts import Facts, Pool
from evo.report.contents import samples
from evo.report.figures.rounds import charts
from evo.report.figures.style import View
from evo.report.overlay import Table
from evo.report.rendering import rendered
from fitness.data.samples import read_samples
from fitness.files import write_whole
from fitness.recipe import Recipe
from fitness.samples.separation import Separation
from fitness.samples.yields import yields

if TYPE_CHECKING:
    from rich.console import RenderableType

SELECTED = 1  # the column of the selection split in the table of quality
SHOWN = 6  # samples before and after
EXAMPLE = 160  # characters


def write(run: Path, facts: Facts) -> Path:
    """Write report.html of a run, and of each of its rounds, if it has some, in their folders."""
    for one in told.rounds(run, facts) if told.has(facts) else ():
        if one.number:
            report.write(one.facts, one.folder / "report.html")
    path = run / "report.html"
    write_whole(path, page(run, facts))
    return path


def page(run: Path, facts: Facts) -> str:
    """The page of a run as HTML: of one search, or of all rounds with links to that of each."""
    if not told.has(facts):
        return report.page(facts, run=str(run))
    found = told.rounds(run, facts)
    searched = [one for one in found if one.number]
    verdict = told.verdict(found)
    said = {
        "name": history.spec(facts).name,
        "verdict": verdict,
        "notes": (),
        "tables": tables(found),
        "links": [(f"round {one.number}", f"{one.folder.name}/report.html") for one in searched],
        "footer": "evo history RUN",
    }
    return rendered("tables.html.j2", charts(found), said)


def summary(run: Path, facts: Facts) -> "RenderableType":
    """Verdict and a line for each round, for a terminal of 80 columns."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as Shown
    from rich.text import Text

    found = told.rounds(run, facts)
    verdict = told.verdict(found)
    parts: list[RenderableType] = [Text(verdict.text, report.TONES.get(verdict.tone, "bold"))]
    parts += [*map(Text, verdict.notes), Text()]
    table = _quality(found)
    shown = Shown(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, cell in enumerate(table.head):
        if place != SELECTED:  # too good, since it was selected by this
            shown.add_column(Text(cell), justify="right" if place else "left")
    for row in table.rows:
        shown.add_row(*(Text(cell) for place, cell in enumerate(row) if place != SELECTED))
    last = facts[-1]
    state = f"over: {last['why']}" if last["fact"] == "finished" else "not over"
    return Group(*parts, shown, Text(f"{len(found)} round{'s' * (len(found) != 1)}, {state}"))


def tables(found: Sequence[Round]) -> list[Table]:
    """Tables of quality by round, pools, effects of filters, and samples before and after."""
    over = [one for one in found if one.fact]
    made = [_quality(found), *([_pools(over)] if any("pool" in o.outcome for o in over) else [])]
    made += [table for one in over if (table := _yields(one, over)) is not None]
    searched = [one for one in over if one.number]
    if searched and (table := _samples(searched[0], told.best(searched))) is not None:
        made.append(table)
    return made


def _quality(found: Sequence[Round]) -> Table:
    over = [one for one in found if one.fact]
    names = list(history.objectives(found[0].facts))[:2] if found else []
    rows = []
    for one in over:
        cells = [str(one.number), plus_minus(*one.selected(names[0]))]
        for name in names:
            row = one.tested(WINNER, name)
            cells.append("-" if row is None else plus_minus(row["mean"], row["total_error"]))
        row = one.tested(WINNER, names[0])
        counts = (0, 0) if row is None else (row["n"], row["items"])
        cells += [f"{count:,}" if count else "-" for count in counts]
        cells += [f"{share:.0%}" for share in one.shares.values()]
        rows.append(cells)
    head = ["round", f"{names[0]} selected" if names else "", *(f"{n} test" for n in names)]
    head += ["seeds", "items"]
    caption = (
        "The winner of each round: mean and standard error over its seeds and, on the test split, "
        "the held-out documents, records or prompts (items; - where no score by item is "
        "recorded); and what its mixture is made of. It is named on the selection split; nothing "
        "is decided by the test split."
    )
    return Table("Quality by round", caption, [*head, "real", "generated", "people"], rows)


def _pools(over: Sequence[Round]) -> Table:
    rows = []
    for one in over:
        pool = one.outcome.get("pool")
        if pool is None:
            continue
        varied = pool["diversity"]
        rows.append(
            [
                str(one.number),
                f"{pool['written']:,}",
                f"{pool['contaminated']:,}",
                f"{pool.get('met', pool['written']):,}",
                f"{varied['distinct_ratio']:.2f}",
                f"{varied['entropy_ratio']:.2f}",
                f"{varied['self_bleu']:.3f} ({varied['self_bleu_real']:.3f})",
                "yes" if pool["collapsed"] else "no",
                f"{pool['pool']:,}",
                f"{pool['judgements']:,}",
                _separated(pool),
            ]
        )
    head = ["after round", "written", "contaminated", "meet `require`"]
    head += ["distinct pairs", "entropy", "self-BLEU"]
    caption = (
        "Contaminated samples contain held-out text and are never trained on, nor are those that "
        "miss what `rounds.require` says. Distinct pairs of words and the entropy of words as "
        "shares of those of as much real text; self-BLEU, similarity to one another, with that of "
        "real text in brackets. Collapsed ones are omitted. Realness AUC: how well its "
        "discriminator tells these samples from real text, on texts that it has not seen, with "
        "the 95 % confidence interval; unusable where that holds 0.5: then the next round has no "
        "threshold of realness."
    )
    return Table(
        "The pool", caption, [*head, "left out", "in the pool", "judgements", "realness AUC"], rows
    )


def _separated(pool: Pool) -> str:
    apart = Separation.of(pool.get("discriminator"))
    if apart is None:
        return "-"
    return str(apart) if apart.usable else f"{apart}, unusable"


def _yields(one: Round, over: Sequence[Round]) -> Table | None:
    """Effect of the thresholds of the next round's winner on the pool of a round."""
    after = next((o for o in over if o.number == one.number + 1), None)
    if (
        after is None
        or not after.shares["generated"]
        or "pool" not in one.outcome
        or not (one.folder / POOL_FILE).is_file()
    ):
        return None
    spec = history.spec(after.facts)
    recipe = Recipe.model_validate(decode(spec, after.outcome["genome"]))
    every = list(read_samples(one.folder / POOL_FILE))
    required = spec.sources[POOL].learned(every)
    found = yields(required, recipe)
    rows = [
        [
            row["filter"],
            f"{row['dropped']:,}",
            f"{row['dropped_alone']:,}",
            f"{row['yield']:.0%}",
            "; ".join(_example(example) for example in row["examples"][:2]),
        ]
        for row in found["filters"]
    ]
    title = f"Filters of round {after.number}'s winner"
    kept = f"{found['kept']:,} of {found['samples']:,} samples in the pool pass all of them."
    if len(required) < len(every):
        kept = (
            f"{len(required):,} of {len(every):,} samples in the pool meet `rounds.require` and "
            f"are not too many of their prompt; {found['kept']:,} of these pass all filters."
        )
    head = ["filter", "dropped", "dropped by it alone", "passes", "furthest from passing"]
    return Table(title, kept, head, rows)


def _example(example: dict[str, Any]) -> str:
    score = "no score" if example["score"] is None else number(example["score"])
    return f"{example['completion'].strip()[:EXAMPLE]!r} ({score})"


def _samples(first: Round, last: Round) -> Table | None:
    """Samples of the base, the first winner and the best one, for the same prompts."""
    before = {(s["set"], s["prompt"]): s for s in samples(View.of(first.facts))}
    after = samples(View.of(last.facts))
    rows = [
        [
            s["prompt"],
            s["base"],
            before.get((s["set"], s["prompt"]), {}).get("output", ""),
            s["output"],
        ]
        for s in after[:SHOWN]
    ]
    if not rows:
        return None
    head = ["prompt", "base", "winner of round 1", f"winner of round {last.number}"]
    return Table("Samples", "The same prompts, before and after.", head, rows)
