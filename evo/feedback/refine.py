"""`evo feedback refine` and `evo feedback judge`: models rewrite by critiques, and judge pairs."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evo.feedback.session import PAIRS, collect, feedback_of
from fitness.errors import InputError
from fitness.facts import as_lines
from fitness.feedback import conversion
from fitness.feedback.items import Item, read_items
from fitness.feedback.judgements import Judgement, judge_named
from fitness.feedback.store import Store, read_standing
from fitness.files import write_whole
from fitness.inference.connection import Refused
from fitness.judges.answers import Asked
from fitness.judges.language import (
    HOPELESS,
    THRESHOLD,
    Asking,
    Criticised,
    Refined,
    criticise,
    criticised_in,
    refine,
)
from fitness.judges.pairs import verdict
from fitness.judges.protocol import Speaker

if TYPE_CHECKING:
    from rich.console import Group

REFINEMENTS, PAIRED = "refinements.jsonl", "pairs.jsonl"  # kinds completion and preference
EXAMPLES, SHOWN = 2, 300  # of those accepted and of those not, and characters of a text
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Outcome:
    """Result of refining: refined items in the order given, and counts of the others.

    `refused` has the reasons why the model could not be asked about an item, `uncriticised` is the
    number of items without a critique. `corrections` is the number of people's corrections that
    were written in place of refinements, None if refinements were written.
    """

    refined: tuple[Refined, ...]
    threshold: float
    refused: tuple[str, ...] = ()
    uncriticised: int = 0
    corrections: int | None = None

    @property
    def accepted(self) -> list[tuple[Refined, str]]:
        """Accepted items, each with its best refinement."""
        found = ((one, one.accepted(self.threshold)) for one in self.refined)
        return [(one, text) for one, text in found if text is not None]

    @property
    def rate(self) -> float:
        """Share of accepted items among those refined; 0 if none was."""
        return len(self.accepted) / len(self.refined) if self.refined else 0.0


def refine_run(
    run: Path,
    speaker: Speaker,
    to: Path,
    asking: Asking,
    *,
    critiques: Path | None = None,
    critic: bool = False,
    threshold: float = THRESHOLD,
) -> Outcome:
    """Refine criticised drafts, and write REFINEMENTS and PAIRED into the folder `to`.

    If a smaller share than HOPELESS is accepted, people's corrections are written instead. Raises
    InputError if there is nothing to refine, or nothing to write.
    """
    if math.isnan(threshold):
        raise InputError("the threshold is a log-odds, such as 0 for even, got nan")
    given = list(criticised_in(critiques, critic=critic)) if critiques else _of(run, critic=critic)
    if not given:
        raise InputError(
            f"{critiques or run}: holds no critiques; have people criticise drafts with "
            f"`evo feedback {run}`, or the model itself with --critic"
        )
    refined, refused, uncriticised = [], [], 0
    with Asked(to, "asked") as asked:
        for one in _shown(given, "refining"):
            try:
                if not one.critique.strip():
                    one = criticise(speaker, one, asking, asked)
                if one.critique:
                    refined.append(refine(speaker, one, asking, asked))
                else:
                    uncriticised += 1
            except Refused as why:
                refused.append(str(why))
        outcome = Outcome(tuple(refined), threshold, tuple(refused), uncriticised)
        return _written(run, speaker, to, outcome)


def judge_run(run: Path, speaker: Speaker, name: str | None = None) -> Counter[str]:
    """Judge the run's pairs, and add the judgements to its feedback under `judge:NAME`.

    Returns counts of judgements by side, and of those `new` and `refused`. Raises InputError.
    """
    pairs = [item for item in _items(run).values() if item.pair]
    if not pairs:
        raise InputError(
            f"{run}: shows no pairs of drafts; add some with `evo feedback {run} --items FILE`"
        )
    annotator = judge_named(name or speaker.name)
    found: list[Judgement] = []
    counts: Counter[str] = Counter()
    folder = feedback_of(run)
    with Asked(folder, "verdicts") as asked:
        for item in _shown(pairs, "judging"):
            try:
                side = verdict(speaker, item, asked)
            except Refused as why:
                counts["refused"] += 1
                last = str(why)
                continue
            counts[side] += 1
            found.append(Judgement(item.id, annotator, "preference", side))
    if not found:
        raise InputError(f"{run}: none of its {len(pairs)} pairs could be judged: {last}")
    with Store(folder) as store:  # only now, so that people can judge meanwhile
        counts["new"] = store.take_in(annotator, (), found)
    return counts


def table(outcome: Outcome, to: Path) -> "Group":
    """Table of the result for the terminal, with examples of accepted and other refinements."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    counts = Table("", "count")
    accepted = outcome.accepted
    asked = len(outcome.refined) + len(outcome.refused) + outcome.uncriticised
    rate = f"{len(accepted)} ({100 * outcome.rate:.0f} %)"
    rows = [("items", str(asked)), ("refined", str(len(outcome.refined))), ("accepted", rate)]
    if cut := sum(one.cut for one in outcome.refined):
        rows.append(("refinements left out, cut at --max-new-tokens", str(cut)))
    if outcome.refused:
        rows.append(("could not be asked", str(len(outcome.refused))))
    if outcome.uncriticised:
        rows.append(("without a critique", str(outcome.uncriticised)))
    for row in rows:
        counts.add_row(*row)
    chosen = {id(one) for one, _ in accepted}
    dropped = [one for one in outcome.refined if id(one) not in chosen]
    shown = [_example(one, "accepted", text) for one, text in accepted[:EXAMPLES]]
    shown += [_example(one, "not accepted", _best(one)) for one in dropped[:EXAMPLES]]
    if outcome.refused:
        shown.append(Text(f"could not be asked: {outcome.refused[0]}\n"))
    if outcome.corrections is not None:
        shown.append(
            Text(
                f"Fewer than {100 * HOPELESS:.0f} % were accepted, which is chance: the model "
                "cannot refine these drafts. People's corrections were written in their place: "
                f"{outcome.corrections}.\n",
                style="bold",
            )
        )
    written = Text(f"{to / REFINEMENTS}\n{to / PAIRED}")
    return Group(counts, *shown, written)


def _items(run: Path) -> dict[str, Item]:
    """Items of a run; if it has none yet, those that people would be shown by default."""
    folder = feedback_of(run)
    if not read_items(folder):
        collect(run, items=None, named=["front"], pairs=PAIRS, seed=0)
    return read_items(folder)


def _of(run: Path, *, critic: bool) -> list[Criticised]:
    """Drafts of a run with people's critiques, and if `critic` also those without."""
    items = _items(run) if critic else read_items(feedback_of(run))
    judgements = read_standing(feedback_of(run)).judgements()
    said = [one for one in judgements if one.kind == "critique"]
    found = [
        Criticised(items[one.item].prompt, items[one.item].drafts[0].text, one.value, one.annotator)
        for one in said
    ]
    if critic:
        known = {one.item for one in said}
        rest = (item for item in items.values() if not item.pair and item.id not in known)
        found += [Criticised(item.prompt, item.drafts[0].text) for item in rest]
    return found


def _written(run: Path, speaker: Speaker, to: Path, outcome: Outcome) -> Outcome:
    """Write both files atomically; if there is nothing to write, remove both; InputError."""
    completions: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    if outcome.rate >= HOPELESS:
        for one, text in outcome.accepted:
            said = {"critique": one.of.critique, "annotator": one.of.annotator, "by": speaker.name}
            completions.append({"prompt": one.of.prompt, "completion": text, **said})
            both = {"prompt": one.of.prompt, "chosen": text, "rejected": one.of.draft}
            pairs.append({**both, **said})
    elif outcome.refined:
        completions, pairs = _corrections(run)
        outcome = replace(outcome, corrections=len(completions))
    if not completions:
        for name in (REFINEMENTS, PAIRED):
            (to / name).unlink(missing_ok=True)
        raise InputError(_nothing(run, speaker, outcome))
    for name, records in ((REFINEMENTS, completions), (PAIRED, pairs)):
        write_whole(to / name, as_lines(records))
    return outcome


def _corrections(run: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """People's corrections: as completions, and as pairs preferred over the corrected drafts."""
    folder = feedback_of(run)
    items, judgements = read_items(folder), read_standing(folder).judgements()
    said = [one for one in judgements if one.kind == "correction"]
    completions, pairs = (
        conversion.records(items, said, shape) for shape in ("completion", "preference")
    )
    return completions, pairs


def _nothing(run: Path, speaker: Speaker, outcome: Outcome) -> str:
    if not outcome.refined:
        why = outcome.refused[0] if outcome.refused else "the model found nothing to criticise"
        return f"{run}: no draft could be refined: {why}"
    done = f"{len(outcome.accepted)} of {len(outcome.refined)} drafts"
    return (
        f"{run}: {speaker.name!r} refined {done} acceptably; below {100 * HOPELESS:.0f} % that is "
        "chance, and people left no corrections to learn from in their place; name a stronger "
        f"model, lower --threshold, or have people correct drafts with `evo feedback {run}`"
    )


def _example(one: Refined, title: str, text: str) -> Any:
    from rich.text import Text

    best = max(one.odds, default=float("nan"))
    head = f"{title}: log-odds {best:.2f}, of the draft {one.draft_odds:.2f}\n"
    body = [("prompt", one.of.prompt), ("draft", one.of.draft), ("critique", one.of.critique)]
    lines = [f"  {name:10} {' '.join(said.split())[:SHOWN]}\n" for name, said in body]
    return Text.assemble((head, "bold"), *lines, f"  refinement {' '.join(text.split())[:SHOWN]}\n")


def _best(one: Refined) -> str:
    if not one.odds:
        return "(none that differs from the draft)"
    return one.refinements[one.odds.index(max(one.odds))]


def _shown(things: list[Thing], doing: str) -> Iterable[Thing]:
    """Iterate over things, with a progress bar on a terminal."""
    from rich.progress import track

    from evo.screen import Screen

    console = Screen(stderr=True)
    return track(things, doing, console=console, transient=True, disable=not console.is_terminal)
