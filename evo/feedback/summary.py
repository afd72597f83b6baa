"""What came of the feedback on a run: counts by kind and annotator, and agreement."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.feedback.session import feedback_of
from fitness.feedback.agreement import SCALES, agreement
from fitness.feedback.items import read_items
from fitness.feedback.judgements import KINDS, by_judge
from fitness.feedback.judging import with_people
from fitness.feedback.store import read_standing

if TYPE_CHECKING:
    from rich.console import Group

Summary = dict[str, Any]


def summarise(run: Path) -> Summary:
    """As JSON values: items, judgements by annotator and kind, alpha by kind; models that judge are
    beside all that, with how they agree with people."""
    folder = feedback_of(run)
    everything = read_standing(folder).judgements()
    judgements = [one for one in everything if not by_judge(one.annotator)]
    counts: dict[str, dict[str, int]] = {}
    for judgement in everything:
        if judgement.value != []:  # labels that were all taken back
            by_kind = counts.setdefault(judgement.annotator, dict.fromkeys(KINDS, 0))
            by_kind[judgement.kind] += 1
    agreements = {kind: agreement(judgements, kind) for kind in SCALES}
    return {
        "items": len(read_items(folder)),
        "judged": len({judgement.item for judgement in judgements}),
        "annotators": counts,
        "agreement": {k: {"alpha": a.alpha, "items": a.items} for k, a in agreements.items()},
        "judges": {name: asdict(found) for name, found in with_people(everything).items()},
    }


def tables(summary: Summary) -> "Group":
    """For the terminal."""
    from rich.console import Group
    from rich.table import Table

    counts = Table("annotator", title=f"{summary['judged']} of {summary['items']} items judged")
    for kind in KINDS:
        counts.add_column(kind, justify="right")
    for annotator, by_kind in sorted(summary["annotators"].items()):
        counts.add_row(annotator.replace("[", r"\["), *(str(by_kind[kind]) for kind in KINDS))
    alphas = Table("agreement", title="Krippendorff's alpha: 1 perfect, 0 chance")
    alphas.add_column("alpha", justify="right")
    alphas.add_column("items judged by two", justify="right")
    for kind, found in summary["agreement"].items():
        alphas.add_row(f"{kind} ({SCALES[kind]})", _alpha(found["alpha"]), str(found["items"]))
    if not summary["judges"]:
        return Group(counts, alphas)
    judges = Table(
        "judge", title="Models that judge, beside people's preferences of the same pairs"
    )
    for column in ("alpha", "same choice", "people's judgements"):
        judges.add_column(column, justify="right")
    for name, found in sorted(summary["judges"].items()):
        same = f"{found['same']} of {found['decided']}"
        told = (_alpha(found["alpha"]), same, str(found["pairs"]))
        judges.add_row(name.replace("[", r"\["), *told)
    return Group(counts, alphas, judges)


def _alpha(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
