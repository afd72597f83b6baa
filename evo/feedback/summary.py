"""Summary of feedback: counts, inter-annotator agreement, reward model, judgements needed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.feedback.session import judged
from fitness.feedback.agreement import agreement, compared, scale_of
from fitness.feedback.items import Item
from fitness.feedback.judgements import KINDS, Judgement, by_judge
from fitness.judges.pairs import with_people
from fitness.reward.comparisons import said
from fitness.reward.model import LEAST, fitted
from fitness.reward.need import WANTED, curve, known, more

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

Summary = dict[str, Any]


def summarise(run: Path) -> Summary:
    """Summary as JSON values: items, judgements by annotator and kind, alpha, the reward model.

    Models that judge are listed separately, with their agreement with people.
    """
    items, everything = judged(run)
    judgements = [one for one in everything if not by_judge(one.annotator)]
    counts: dict[str, dict[str, int]] = {}
    kinds = dict.fromkeys([*KINDS, *compared(everything)])
    for judgement in everything:
        if judgement.value != []:  # else all labels were removed again
            by_kind = counts.setdefault(judgement.annotator, dict.fromkeys(kinds, 0))
            by_kind[judgement.kind] += 1
    agreements = {kind: agreement(judgements, kind) for kind in compared(judgements)}
    return {
        "items": len(items),
        "judged": len({judgement.item for judgement in judgements}),
        "annotators": counts,
        "agreement": {k: {"alpha": a.alpha, "items": a.items} for k, a in agreements.items()},
        "judges": {name: asdict(found) for name, found in with_people(everything).items()},
        "reward": _reward(items, judgements),
    }


def _reward(items: Mapping[str, Item], judgements: Sequence[Judgement]) -> Summary:
    """Accuracy of the reward model by number of judgements, and judgements still needed.

    Without the base model's likelihood as a feature, which `evo generate` adds: no model is loaded.
    """
    reward = fitted(items, judgements, seed=0)
    if reward is None:
        count = len(said(items, judgements))
        return {"judgements": count, "least": LEAST, "learned": False}
    share = known(reward, items)
    return {
        "judgements": reward.judgements,
        "learned": True,
        "held_out": asdict(reward.held_out),
        "curve": [asdict(step) for step in curve(reward, items, judgements, seed=0)],
        "known": share,
        "more": more(reward.judgements, share),
    }


def tables(summary: Summary) -> "Group":
    """The summary as tables for the terminal."""
    from rich.console import Group
    from rich.table import Table

    counts = Table("annotator", title=f"{summary['judged']} of {summary['items']} items judged")
    kinds = list(dict.fromkeys([*KINDS, *(k for o in summary["annotators"].values() for k in o)]))
    for kind in kinds:
        counts.add_column(kind, justify="right")
    for annotator, by_kind in sorted(summary["annotators"].items()):
        counts.add_row(annotator.replace("[", r"\["), *(str(by_kind[kind]) for kind in kinds))
    alphas = Table("agreement", title="Krippendorff's alpha: 1 perfect, 0 chance")
    alphas.add_column("alpha", justify="right")
    alphas.add_column("items judged by two", justify="right")
    for kind, found in summary["agreement"].items():
        alphas.add_row(f"{kind} ({scale_of(kind)})", _alpha(found["alpha"]), str(found["items"]))
    parts = [counts, alphas, *([_judges(summary["judges"])] if summary["judges"] else [])]
    return Group(*parts, *_sentences(summary["reward"]))


def _judges(found: Summary) -> "Table":
    from rich.table import Table

    judges = Table(
        "judge", title="Models that judge, compared with people's preferences of the same pairs"
    )
    for column in ("alpha", "same choice", "people's judgements"):
        judges.add_column(column, justify="right")
    for name, one in sorted(found.items()):
        same = f"{one['same']} of {one['decided']}"
        cells = (_alpha(one["alpha"]), same, str(one["pairs"]))
        judges.add_row(name.replace("[", r"\["), *cells)
    return judges


def _alpha(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _sentences(reward: Summary) -> list[str]:
    """The reward model's accuracy and needs, a sentence each."""
    count = reward["judgements"]
    if not reward["learned"]:
        return [
            f"reward model: {count} ratings, preferences and corrections; it takes "
            f"{reward['least']} that do not all say the same"
        ]
    held_out, parts = reward["held_out"], []
    if held_out["accuracy"] is not None:
        parts.append(
            f"{held_out['accuracy']:.2f} of {held_out['pairs']} preferences and corrections"
        )
    if held_out["correlation"] is not None:
        correlation, ratings = held_out["correlation"], held_out["ratings"]
        parts.append(f"a rank correlation of {correlation:.2f} with {ratings} ratings")
    lines = [f"reward model of {count} judgements, held-out: {', '.join(parts) or 'not known'}"]
    if reward["curve"]:
        steps = [
            f"{s['judgements']}: {s['accuracy']:.2f} ± {s['error']:.2f}" for s in reward["curve"]
        ]
        lines.append(f"texts ordered as by people, by number of judgements: {', '.join(steps)}")
    if reward["more"] is not None:
        need = f"{reward['more']} more judgements for" if reward["more"] else "enough, with"
        lines.append(
            f"known of drafts' differences: {reward['known']:.0%}; {need} {WANTED:.0%} or more"
        )
    return lines
