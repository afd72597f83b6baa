"""What each part of a strategy's default is worth: `make bench NAME=ablation`.

Searches the tasks of the replay bench, with its options, once as the strategy is and once for each
variant in `PARTS`. A ratio above 1 says that the default is better than without the part.
`--of STRATEGY` names another strategy that has variants.
"""

import json
import statistics
from collections.abc import Mapping
from typing import Any

from population.space import SearchSpace
from population.strategies import STRATEGIES, Strategy
from population.strategies.surrogate import Parts
from tests.benchmarks.comparison import Comparison, one_objective
from tests.benchmarks.replay import compare, options, parse

# Variants by strategy: a name, and the constructor's keywords that make it, in place of the default
# or of what the search gives. A part is switched off by the keyword that the strategy has for it.
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "surrogate": {
        "trees alone": {"parts": Parts(process=False)},
        "process alone": {"parts": Parts(trees=False)},
        "equal trust": {"parts": Parts(trust=False)},
        "no tempering": {"parts": Parts(tempering=False)},
        "draws alone": {"parts": Parts(offspring=False)},
        "offspring alone": {"parts": Parts(draws=0.0)},
        "all screened": {"parts": Parts(unscreened=0.0)},
    },
    "nsga2": {"generations of 8": {"population": 8}, "generations of 32": {"population": 32}},
}


def register() -> None:
    """Adds every variant to the strategies of this process, as "strategy, variant"."""
    for strategy, parts in PARTS.items():
        for name, keywords in parts.items():
            STRATEGIES[f"{strategy}, {name}"] = variant(STRATEGIES[strategy], keywords)


def variant(strategy: type[Strategy], keywords: Mapping[str, Any]) -> type[Strategy]:
    class Variant(strategy):  # type: ignore[valid-type, misc]
        def __init__(self, space: SearchSpace, **given: Any) -> None:
            super().__init__(space, **{**given, **keywords})

    return Variant


def main() -> None:
    register()
    parser = options("ablation", __doc__ or "")
    parser.add_argument("--of", choices=PARTS, default=next(iter(PARTS)), help="the strategy")
    parsed = parse(parser)
    names = [parsed.of, *(f"{parsed.of}, {name}" for name in PARTS[parsed.of])]
    comparison = compare(parsed, names, register)
    print("BENCH " + json.dumps({"name": "ablation", "seeds": parsed.seeds, **table(comparison)}))


def table(comparison: Comparison) -> dict[str, Any]:
    """Prints a line a variant, the default first; returns the figures."""
    groups = {
        "one": comparison.complete(one_objective),
        "two": comparison.complete(lambda cell: not one_objective(cell)),
        "all": comparison.complete(),
    }
    default = comparison.strategies[0]
    width = max(len(name) for name in comparison.strategies)
    bench: dict[str, Any] = {group: {"cells": len(cells)} for group, cells in groups.items()}
    columns = {
        (group, label): comparison.over(cells, middle)
        for group, cells in groups.items()
        for label, middle in (("median", statistics.median), ("mean", statistics.mean))
        if cells
    }
    print(
        "\nMean over cells of the median and of the mean over seeds, and the ratio to the default"
    )
    heads = [f"{group}, {label}" for group, label in columns]
    print(" " * width, *(f"{head:>12} ratio" for head in heads), "       ms")
    for name in comparison.strategies:
        shown = []
        for (group, label), figures in columns.items():
            ratio = figures[name] / figures[default] if figures[default] else float("nan")
            bench[group].setdefault(label, {})[name] = figures[name]
            shown.append(f"{figures[name]:12.4f} {ratio:5.2f}")
        print(f"{name:{width}}", *shown, f"{comparison.milliseconds[name]:9.2f}")
    return {**bench, "milliseconds": comparison.milliseconds}


if __name__ == "__main__":
    main()
