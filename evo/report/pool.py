"""Effect of thresholds on a pool, for the terminal: counts and examples dropped by filter."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fitness.data.samples import read_samples
from fitness.errors import InputError
from fitness.recipe import KEEP, Recipe
from fitness.samples.separation import described, read_separation
from fitness.samples.yields import yields
from fitness.suggest import did_you_mean

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 160  # characters of an example


def recipe_of(thresholds: Sequence[str]) -> Recipe:
    """Recipe with thresholds such as `realness=0.5`; InputError for an invalid threshold."""
    known = [name.removeprefix(KEEP) for name in Recipe.model_fields if name.startswith(KEEP)]
    values: dict[str, Any] = {}
    for threshold in thresholds:
        name, equals, value = threshold.partition("=")
        if name not in known or not equals:
            raise InputError(
                f"--keep {threshold!r}: write it as realness=0.5; there are {', '.join(known)}"
                f"{did_you_mean(name, known)}"
            )
        values[f"{KEEP}{name}"] = value
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).removeprefix(KEEP)
        raise InputError(f"--keep {name}={first['input']}: {first['msg']}") from None


def table_of(pool: Path, thresholds: Sequence[str]) -> "RenderableType":
    """Table of the samples that pass thresholds in a pool's file. Raises InputError."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not pool.is_file():
        raise InputError(f"{pool}: there is no such file; `evo generate` writes one")
    samples = list(read_samples(pool))
    found = yields(samples, recipe_of(thresholds))
    table = Table("filter", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("dropped", "it alone", "passes", "from", "to"):
        table.add_column(name, justify="right")
    examples: list[Text] = []
    for row in found["filters"]:
        ends = ["-" if row[end] is None else f"{row[end]:.4g}" for end in ("least", "greatest")]
        counts = (f"{row['dropped']:,}", f"{row['dropped_alone']:,}", f"{row['yield']:.0%}")
        table.add_row(row["filter"], *counts, *ends)
        for one in row["examples"]:
            told = f"{one['prompt']}[...]{one['completion']}".replace("\n", " ")[:SHOWN]
            score = "no score" if one["score"] is None else f"{one['score']:.4g}"
            examples.append(Text(f"dropped by {row['filter']} ({score}): {told}"))
    examples[:0] = [Text(line) for line in described(samples, read_separation(pool))]
    kept = f"{found['kept']:,} of {found['samples']:,} samples are kept"
    return Group(Text(kept), *([table] if found["filters"] else []), *examples)
