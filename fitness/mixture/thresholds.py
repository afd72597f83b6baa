"""Select samples of a pool by a recipe's thresholds (its `keep_` fields) on their stored scores.

Thresholds are shares of the pool, not values, so that they mean the same in every round and for
every model. Each applies to its own score over the whole pool, independent of the others, and a
sample must pass all of them. Samples that tie with the last one selected are selected too: so a
larger share never selects less, and the order of the pool does not matter. A sample without a
score fails that score's threshold. The exception is a partial score: people do not rate every
sample, so unrated samples pass `keep_rating`, and a whole unrated pool does too.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from fitness.errors import InputError
from fitness.filters import FILTERS, OWN, filter_of, is_own
from fitness.recipe import KEEP, Recipe
from fitness.suggest import listed


def score_of_field(field: str) -> str | None:
    """The score that a recipe's field is a threshold on, `own` for users' own; None for others."""
    if not field.startswith(KEEP):
        return None
    return field.removeprefix(KEEP).removesuffix("_low").removesuffix("_high")


def band(recipe: Recipe, name: str) -> tuple[float, float]:
    """The quantiles of a score between which a recipe selects samples; (0, 1) is all of them."""
    field, keeps = f"{KEEP}{OWN if is_own(name) else name}", filter_of(name).keeps
    if keeps == "band":
        return getattr(recipe, f"{field}_low"), getattr(recipe, f"{field}_high")
    share = getattr(recipe, field)
    return (0.0, share) if keeps == "lowest" else (1.0 - share, 1.0)


def missing_scores(recipe: Recipe, names: Iterable[str]) -> list[str]:
    """The scores that a recipe has thresholds on and that are not among a pool's `names`."""
    available = set(names)
    wanted = [
        name
        for name, one in FILTERS.items()
        if one.threshold and name not in available and not one.partial
        if band(recipe, name) != (0, 1)
    ]
    own = band(recipe, OWN) != (0, 1) and not any(map(is_own, available))
    return [*wanted, *([OWN] if own else [])]


def passing(
    recipe: Recipe, scores: Mapping[str, np.ndarray], samples: int
) -> dict[str, np.ndarray]:
    """The samples that pass each threshold of a recipe, (samples,) bool by score.

    `scores`: float64, (samples,), NaN for an unknown one. Raises InputError where the pool lacks a
    score that has a threshold.
    """
    if missing := missing_scores(recipe, scores):
        have = f"has scores {listed(scores)}" if scores else "has no scores"
        raise InputError(
            f"{KEEP}{missing[0]}: the pool {have}; score it with this filter, or leave the field "
            "out"
        )
    bands = {
        name: band(recipe, name) for name in scores if is_own(name) or filter_of(name).threshold
    }
    return {
        name: _between(np.asarray(scores[name]), *limits)
        | (filter_of(name).partial & np.isnan(scores[name]))
        for name, limits in bands.items()
        if limits != (0, 1)
    }


def passing_all(recipe: Recipe, scores: Mapping[str, np.ndarray], samples: int) -> np.ndarray:
    """The samples that pass all thresholds, (samples,) bool; `scores`, errors as in `passing`."""
    every = np.ones(samples, dtype=bool)
    for mask in passing(recipe, scores, samples).values():
        every &= mask
    return every


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Mask (n,) of the values between two quantiles, ties with an end included, NaN excluded."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    # rounded, so that 1 - 0.7 of 10 is 3
    first = min(math.floor(round(low * len(known), 6)), len(known) - 1)
    last = max(math.ceil(round(high * len(known), 6)) - 1, 0)
    return np.asarray((values >= known[first]) & (values <= known[last]))
