"""Whether the best individual meets the constraints, on each split, in words."""

from evo import history
from evo.history.comparison import WINNER, constraint_text, number


def limit_lines(facts: history.Facts) -> list[str]:
    """`general <= 2.9: met, 2.46 on the selection split; violated, 2.91 on the test split`."""
    selected = {one["constraint"]: one["value"] for one in history.status(facts)["constraints"]}
    closing = history.comparison(facts)
    lines = []
    for limit in history.constraints(facts):
        text = constraint_text(limit)
        rows = closing[(closing["contender"] == WINNER) & (closing["measurement"] == limit.name)]
        values = [("selection", selected.get(text)), ("test", *rows["mean"].dropna())]
        told = [
            f"{'violated' if limit.excess({limit.name: value}) > 0 else 'met'}, {number(value)} "
            f"on the {split} split"
            for split, *found in values
            for value in found
            if value is not None
        ]
        if told:
            lines.append(f"{text}: {'; '.join(told)}")
    return lines
