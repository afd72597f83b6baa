"""Filters, which score the samples of a pool once, in natural units.

Filters that need a model are run by the worker that has loaded it, the others by the driver, see
`needs`. Thresholds on scores are not set here but by each recipe, see `thresholds`; contaminated
samples are never kept.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from fitness.data.samples import Sample, is_score
from fitness.errors import InputError
from fitness.feedback.items import Item
from fitness.feedback.judgements import Judgement
from fitness.metrics import name_in_measurements
from fitness.plugins import load_function
from fitness.samples.contamination import contamination
from fitness.samples.discriminator import realness
from fitness.samples.duplicates import completion_shingles, copied, duplicates
from fitness.secrets import quoted
from fitness.suggest import did_you_mean, listed
from fitness.text import repeated

if TYPE_CHECKING:
    from fitness.models.base import Base

Needs = Literal["base", "second", "real", "training", "evaluated", "judgements", "samples"]
MODELS: tuple[Needs, ...] = ("base", "second")


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


Scores = Mapping[str, Sequence[float]]  # by the name of a score, NaN where there is none


@dataclass(frozen=True, slots=True)
class Filter:
    """`scores(samples, given)`, and the field of `Given` that it needs besides the samples."""

    needs: Needs
    scores: Callable[[Sequence[Sample], Given], Scores]


def _perplexity(samples: Sequence[Sample], given: Given) -> Scores:
    from fitness.inference.likelihood import likelihoods, perplexity

    found = likelihoods(_held(given.base, "perplexity"), samples)
    return {
        "perplexity": [perplexity(one.completion) for one in found],
        "text_perplexity": [perplexity(one.text) for one in found],
    }


def _likelihood(samples: Sequence[Sample], given: Given) -> Scores:
    from fitness.inference.likelihood import likelihoods

    found = likelihoods(_held(given.second, "likelihood"), samples)
    return {"likelihood": [one.completion for one in found]}


def _reward(samples: Sequence[Sample], given: Given) -> Scores:
    from fitness.reward.model import check_enough, fitted

    check_enough(given.items, given.judgements)
    reward = fitted(given.items, given.judgements, seed=given.seed, base=given.base)
    assert reward is not None
    means, _ = reward.scores([one.prompt for one in samples], [one.completion for one in samples])
    return {"reward": means.tolist()}


def _rating(samples: Sequence[Sample], given: Given) -> Scores:
    rated: dict[tuple[str, str], list[float]] = {}
    for one in given.judgements:
        if one.kind == "rating":
            item = given.items[one.item]
            rated.setdefault((item.prompt, item.drafts[0].text), []).append(one.value)
    means = {text: sum(values) / len(values) for text, values in rated.items()}
    return {
        "rating": [
            math.nan if one.suffix else means.get((one.prompt, one.completion), math.nan)
            for one in samples
        ]
    }


def _held(base: "Base | None", name: str) -> "Base":
    if base is None:
        raise InputError(f"filter {name!r}: needs a model; give it one, or leave the filter out")
    return base


FILTERS: Mapping[str, Filter] = {
    "perplexity": Filter("base", _perplexity),
    "likelihood": Filter("second", _likelihood),
    "realness": Filter(
        "real",
        lambda samples, given: {"realness": realness(samples, given.real, seed=given.seed)},
    ),
    "duplicate": Filter(
        "samples",
        lambda samples, given: {"duplicate": duplicates(samples, seed=given.seed)},
    ),
    "copied": Filter(
        "training",
        lambda samples, given: {
            "copied": copied([completion_shingles(one) for one in samples], given.training())
        },
    ),
    "contamination": Filter(
        "evaluated",
        lambda samples, given: {"contamination": contamination(samples, given.evaluated)},
    ),
    "reward": Filter("judgements", _reward),
    "rating": Filter("judgements", _rating),
    "repetition": Filter(
        "samples",
        lambda samples, given: {
            "repetition": [repeated(one.completion.split()) for one in samples]
        },
    ),
    "length": Filter(
        "samples",
        lambda samples, given: {"length": [float(len(one.completion.split())) for one in samples]},
    ),
}


DEFAULT_FILTERS = tuple(  # without those that need a second model, or people's judgements
    name for name, one in FILTERS.items() if one.needs not in ("second", "judgements")
)


def needs(name: str) -> Needs:
    """Input that a filter needs besides samples. Raises InputError for an unknown filter."""
    check_filter(name)
    return FILTERS[name].needs if name in FILTERS else "samples"


def check_filter(name: str) -> None:
    """Raise InputError unless it is a known filter or a function that can be imported."""
    if name in FILTERS:
        return
    if ":" not in name:
        raise InputError(
            f"filter {name!r}: unknown; choose one of {listed(FILTERS)}, or your own as "
            f"module:function{did_you_mean(name, FILTERS)}"
        )
    load_function(name, "filter")
    if name_in_measurements(name) in FILTERS:
        raise InputError(f"filter {name!r}: there is one of this name already; rename the function")


def scored(samples: Sequence[Sample], filters: Iterable[str], given: Given) -> list[Sample]:
    """Add the scores of these filters to the samples; in the same order.

    A score that is undefined, as for an empty completion, is left out. A user's own filter is
    called as function(prompts, completions) and returns a number for each, the higher the better.
    Raises InputError for an unknown filter, for one without an input that it needs, and for a
    user's own that returns no finite numbers.
    """
    columns: dict[str, Sequence[float]] = {}
    for name in filters:
        check_filter(name)
        if not samples:
            continue
        scores = FILTERS[name].scores(samples, given) if name in FILTERS else _own(name, samples)
        columns |= scores
    return [
        replace(sample, scores={**sample.scores, **_defined(columns, place)})
        for place, sample in enumerate(samples)
    ]


def _defined(scores: Scores, place: int) -> dict[str, float]:
    every = {name: float(values[place]) for name, values in scores.items()}
    return {name: value for name, value in every.items() if math.isfinite(value)}


def _own(name: str, samples: Sequence[Sample]) -> Scores:
    given: Any = load_function(name, "filter")(
        [sample.prompt for sample in samples], [sample.completion for sample in samples]
    )
    values = list(given) if isinstance(given, Iterable) else [given]
    for value in values:
        if not is_score(value):
            raise InputError(
                f"filter {name!r}: gave {quoted(value, 40)}; it must give finite numbers"
            )
    if len(values) != len(samples):
        raise InputError(f"filter {name!r}: gave {len(values)} numbers for {len(samples)} samples")
    return {name_in_measurements(name): [float(value) for value in values]}
