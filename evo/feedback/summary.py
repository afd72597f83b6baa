"""What came of the feedback on a run: counts by kind and annotator, and agreement."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.feedback.session import feedback_of
from fitness.feedback.agreement import SCALES, agreement
from fitness.feedback.items import read_items
from fitness.feedback.judgements import KINDS
from fitness.feedback.store import read_standing

if TYPE_CHECKING:
    from rich.console import Group

Summary = dict[str, Any]


def summarise(run: Path) -> Summary:
    """As JSON values: items, judgements by annotator and kind, alpha by kind."""
    folder = feedback_of(run)
    judgements = read_standing(folder).judgements()
    counts: dict[str, dict[str, int]] = {}
    for judgement in judgements:
        if judgement.value != []:  # labels that were all taken back
            by_kind = counts.setdefault(judgement.annotator, dict.fromkeys(KINDS, 0))
            by_kind[judgement.kind] += 1
    agreements = {kind: agreement(judgements, kind) for kind in SCALES}
    return {
        "items": len(read_items(folder)),
        "judged": len({judgement.item for judgement in judgements}),
        "annotators": counts,
        "agreement": {k: {"alpha": a.alpha, "items": a.items} for k, a in agreements.items()},
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
        told = "not defined" if found["alpha"] is None else f"{found['alpha']:.3f}"
        alphas.add_row(f"{kind} ({SCALES[kind]})", told, str(found["items"]))
    return Group(counts, alphas)
