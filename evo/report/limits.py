"""Sentences on the constraints: whether the best individual meets them, on each split."""

import math

from evo import history
from evo.history.comparison import WINNER, number


def limit_lines(facts: history.Facts) -> list[str]:
    """Lines such as `general <= 2.9: met, 2.46 on the selection split; violated, 2.91 on ...`."""
    selected = {one["constraint"]: one["value"] for one in history.status(facts)["constraints"]}
    closing = history.comparison(facts)
    lines = []
    pairs = zip(history.constraints(facts), history.constraints(facts, "test"), strict=True)
    for limit, in_test in pairs:
        rows = closing[(closing["contender"] == WINNER) & (closing["measurement"] == limit.name)]
        values = [(limit, "selection", selected.get(str(limit)))]
        values += [(in_test, "test", mean) for mean in rows["mean"].dropna()]
        told = [
            f"{'violated' if one.excess({one.name: value}) > 0 else 'met'}, {number(value)} "
            f"on the {split} split"
            for one, split, value in values
            if value is not None and not math.isnan(one.limit)
        ]
        if told:
            lines.append(f"{limit}: {'; '.join(told)}")
    return lines
