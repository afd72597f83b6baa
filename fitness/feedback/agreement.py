"""Inter-annotator agreement on the same items: Krippendorff's alpha.

Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": 1 is perfect agreement, 0 what
chance would give, below 0 is worse than chance.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fitness.feedback.judgements import Judgement, is_rating

Scale = Literal["nominal", "ordinal"]
COMPARED = ("rating", "preference")  # and ratings by criteria


@dataclass(frozen=True)
class Agreement:
    """Alpha over the items that at least two people judged; None where it is not defined."""

    alpha: float | None
    items: int


def agreement(judgements: Iterable[Judgement], kind: str) -> Agreement:
    """Agreement of judgements of one kind, on the scale of that kind."""
    said: dict[str, list[int | str]] = {}
    for judgement in judgements:
        if judgement.kind == kind:
            said.setdefault(judgement.item, []).append(judgement.value)
    units = [values for values in said.values() if len(values) > 1]
    return Agreement(alpha(units, scale_of(kind)), len(units))


def scale_of(kind: str) -> Scale:
    """Scale of a kind of judgement: ratings have an order."""
    return "ordinal" if is_rating(kind) else "nominal"


def compared(judgements: Iterable[Judgement]) -> list[str]:
    """Kinds whose agreement is reported: the usual ones, then ratings by each criterion given."""
    kinds = {one.kind for one in judgements if is_rating(one.kind)}
    return list(dict.fromkeys([*COMPARED, *sorted(kinds)]))


def alpha(units: Sequence[Sequence[int | str]], scale: Scale) -> float | None:
    """Krippendorff's alpha of units with at least two values each; None if all values are equal.

    With coincidences o_vw, each pair of values within a unit of m counted 1/(m - 1) times, and
    marginals n_v: alpha = 1 - (n - 1) sum o_vw d_vw / sum n_v n_w d_vw.
    """
    pairs: dict[tuple[int | str, int | str], float] = defaultdict(float)
    for values in units:
        for one, other in itertools.permutations(values, 2):
            pairs[one, other] += 1 / (len(values) - 1)
    marginals: dict[int | str, float] = defaultdict(float)
    for (value, _), count in pairs.items():
        marginals[value] += count
    total = sum(marginals.values())
    ordered = sorted(marginals, key=lambda value: (isinstance(value, str), value))

    def distance(one: int | str, other: int | str) -> float:
        if scale == "nominal" or one == other:
            return float(one != other)
        first, last = sorted((ordered.index(one), ordered.index(other)))
        between = sum(marginals[value] for value in ordered[first : last + 1])
        return float((between - (marginals[one] + marginals[other]) / 2) ** 2)

    expected = sum(
        marginals[one] * marginals[other] * distance(one, other)
        for one, other in itertools.permutations(ordered, 2)
    )
    if not expected:
        return None
    observed = sum(count * distance(*values) for values, count in pairs.items())
    return 1 - (total - 1) * observed / expected
