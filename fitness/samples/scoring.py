"""Run filters on a pool: add the score of each, in its own unit, to every sample.

Filters that need a model are run by the worker that has loaded it, the others by the driver, see
`filters.needs`. Thresholds on scores are not set here but by each recipe, see `mixture.thresholds`;
contaminated samples are never kept.

To add a filter: `fitness.filters`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from fitness.checks.own import own_check
from fitness.checks.table import CHECKS
from fitness.data.samples import Sample, is_score
from fitness.errors import InputError
from fitness.feedback.items import Item
from fitness.feedback.judgements import Judgement
from fitness.filters import FILTERS, check_filter, of_criterion
from fitness.plugins import function_name, load_function
from fitness.samples.functions import mean_rating
from fitness.secrets import quoted

if TYPE_CHECKING:
    from fitness.models.base import Base


@dataclass(frozen=True, slots=True)
class Given:
    """Inputs of filters besides the samples; only those that the filters run need are given."""

    seed: int = 0
    base: "Base | None" = None  # frozen, on the device of the worker
    second: "Base | None" = None
    real: Sequence[str] = ()  # documents, see `references.drawn`
    training: Callable[[], Iterable[str]] = tuple  # streams all that is trained on
    evaluated: Sequence[str] = field(default=(), repr=False)  # `references.evaluated_texts`
    items: Mapping[str, Item] = field(default_factory=dict, repr=False)  # that people judged
    judgements: Sequence[Judgement] = field(default=(), repr=False)


def scored(samples: Sequence[Sample], filters: Iterable[str], given: Given) -> list[Sample]:
    """Add the scores of these filters to the samples; in the same order.

    A score that is undefined, as for an empty completion, is left out. A user's own filter is
    called as function(prompts, references, completions), or as function(prompts, completions), and
    returns a number for each, the higher the better; the reference of a prompt without one is "".
    Raises InputError for an unknown filter, for one without an input that it needs, and for a
    user's own that returns no finite numbers.
    """
    columns: dict[str, Sequence[float]] = {}
    for name in filters:
        check_filter(name)
        if not samples:
            continue
        if of_criterion(name):
            columns[name] = mean_rating(samples, given, name)
        elif name in CHECKS:
            columns[name] = _checked(name, samples)
        elif name in FILTERS:
            columns[name] = load_function(FILTERS[name].function, "filter")(samples, given)
        else:
            columns[function_name(name)] = _own(name, samples)
    return [
        replace(sample, scores={**sample.scores, **_defined(columns, place)})
        for place, sample in enumerate(samples)
    ]


def _defined(scores: Mapping[str, Sequence[float]], place: int) -> dict[str, float]:
    every = {name: float(values[place]) for name, values in scores.items()}
    return {name: value for name, value in every.items() if math.isfinite(value)}


def _checked(name: str, samples: Sequence[Sample]) -> list[float]:
    """A check of the completions; NaN for samples whose prompt has no reference."""
    return [
        math.nan
        if not one.reference
        else CHECKS[name]([one.prompt], [one.reference], [one.completion])[0]
        for one in samples
    ]


def _own(name: str, samples: Sequence[Sample]) -> list[float]:
    function = own_check(name, "filter")
    texts: list[Sequence[Any]] = [
        [one.prompt for one in samples],
        [one.reference for one in samples],
        [one.completion for one in samples],
    ]
    if not _takes(function, len(texts)):
        del texts[1]
    given: Any = function(*texts)
    values = list(given) if isinstance(given, Iterable) else [given]
    for value in values:
        if not is_score(value):
            raise InputError(
                f"filter {name!r}: gave {quoted(value, 40)}; it must give finite numbers"
            )
    if len(values) != len(samples):
        raise InputError(f"filter {name!r}: gave {len(values)} numbers for {len(samples)} samples")
    return [float(value) for value in values]


def _takes(function: Callable[..., Any], count: int) -> bool:
    """True if a function takes so many positional arguments, or does not say."""
    try:
        signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        pass
    return True
