"""Ablation: the contribution of each part of the default strategy: `make bench NAME=ablation`.

Searches the tasks of the replay bench, with its options, once as the strategy is and once for each
variant in `PARTS`. A ratio above 1 says that the default is better than without the part.
`--of STRATEGY` names another strategy that has variants, `--variants` some of them.
"""

import json
import statistics
from typing import Any

from population.space import SearchSpace
from population.strategies import STRATEGIES, Strategy
from population.strategies.nsga2 import NSGA2
from population.strategies.surrogate import Parts, Surrogate
from tests.benchmarks.comparison import Comparison, one_objective
from tests.benchmarks.replay import compare, options, parse


def variant(strategy: type[Strategy], **keywords: Any) -> type[Strategy]:
    """A strategy with other keyword arguments of its constructor."""

    class Variant(strategy):  # type: ignore[valid-type, misc]
        def __init__(self, space: SearchSpace, **given: Any) -> None:
            super().__init__(space, **{**given, **keywords})

    return Variant


def without(**parts: Any) -> type[Strategy]:
    """The default strategy with a part switched off."""
    return variant(Surrogate, parts=Parts(**parts))


# Variants by strategy.
PARTS: dict[str, dict[str, type[Strategy]]] = {
    "surrogate": {
        "losses as wholes": without(members=False),  # the same unless a loss has several parts
        "trees alone": without(process=False),
        "process alone": without(trees=False),
        "equal trust": without(trust=False),
        "no tempering": without(tempering=False),
        "draws alone": without(offspring=False),
        "offspring alone": without(draws=0.0),
        "all screened": without(unscreened=0.0),
        "pending ignored": without(pending=False),  # the same unless --parallel is above 1
    },
    "nsga2": {
        "population of 8": variant(NSGA2, population=8),
        "population of 32": variant(NSGA2, population=32),
    },
}


def register() -> None:
    """Adds every variant to the strategies of this process, as "strategy, variant"."""
    for strategy, parts in PARTS.items():
        for name, kind in parts.items():
            STRATEGIES[f"{strategy}, {name}"] = kind


def main() -> None:
    register()
    parser = options("ablation", __doc__ or "")
    parser.add_argument("--of", choices=PARTS, default=next(iter(PARTS)), help="the strategy")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="default: all there are")
    parsed = parse(parser)
    chosen = parsed.variants or list(PARTS[parsed.of])
    if absent := [name for name in chosen if name not in PARTS[parsed.of]]:
        known = ", ".join(PARTS[parsed.of])
        parser.error(f"{parsed.of} has no variant {absent[0]!r}; there are {known}")
    names = [parsed.of, *(f"{parsed.of}, {name}" for name in chosen)]
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
