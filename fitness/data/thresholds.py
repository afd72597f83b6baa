"""Select samples of a pool by a recipe's thresholds (its `keep_` fields) on their stored scores.

Thresholds are shares of the pool, not values, so that they mean the same in every round and for
every model. Each applies to its own score over the whole pool, independent of the others, and a
sample must pass all of them. Samples that tie with the last one selected are selected too: so a
larger share never selects less, and the order of the pool does not matter. A sample without a
score fails that score's threshold. The exception is `keep_rating`: people do not rate every sample,
so unrated samples pass it, and a whole unrated pool does too.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fitness.data.samples import CONTAMINATION
from fitness.errors import InputError
from fitness.recipe import Recipe
from fitness.suggest import listed

KEEP = "keep_"  # prefix of the threshold fields in a recipe
Side = Literal["highest", "lowest", "band"]


@dataclass(frozen=True, slots=True)
class Score:
    """A score's unit, and the side of it that a threshold selects."""

    unit: str
    keeps: Side
    description: str
    spares: bool = False  # True: samples without this score pass


SCORES: Mapping[str, Score] = {
    "perplexity": Score("", "band", "of the completion after its prompt, under the base"),
    "text_perplexity": Score("", "band", "of the whole text, under the base"),
    "likelihood": Score("nats per token", "highest", "of the completion, under a second model"),
    "realness": Score("probability", "highest", "of being real text, by a discriminator"),
    "duplicate": Score("share", "lowest", "likeness to the nearest sample before it in the pool"),
    "copied": Score("share", "lowest", "of the completion that stands in one place of a source"),
    "repetition": Score("share", "lowest", "4-grams of words that the completion has had before"),
    "reward": Score("log-odds", "highest", "that people prefer it to the average draft, predicted"),
    "rating": Score("1 to 5", "highest", "by people, of this very sample: the mean", spares=True),
    "length": Score("words", "band", "of the completion"),
}
OWN = Score("", "highest", "as its own function defines it")


def score(name: str) -> Score:
    """The description of a score; for a user's own function, higher is better."""
    return SCORES.get(name, OWN)


def score_of_field(field: str) -> str | None:
    """The score that a recipe's field is a threshold on, `own` for users' own; None for others."""
    if not field.startswith(KEEP):
        return None
    return field.removeprefix(KEEP).removesuffix("_low").removesuffix("_high")


def band(recipe: Recipe, name: str) -> tuple[float, float]:
    """The quantiles of a score between which a recipe selects samples; (0, 1) is all of them."""
    field = f"{KEEP}{name if name in SCORES else 'own'}"
    if score(name).keeps == "band":
        return getattr(recipe, f"{field}_low"), getattr(recipe, f"{field}_high")
    share = getattr(recipe, field)
    return (0.0, share) if score(name).keeps == "lowest" else (1.0 - share, 1.0)


def missing_scores(recipe: Recipe, names: Iterable[str]) -> list[str]:
    """The scores that a recipe has thresholds on and that are not among a pool's `names`."""
    available = set(names)
    wanted = [
        name
        for name, one in SCORES.items()
        if name not in available and not one.spares and band(recipe, name) != (0, 1)
    ]
    own = recipe.keep_own != 1 and available <= SCORES.keys() | {CONTAMINATION}
    return [*wanted, *(["own"] if own else [])]


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
    bands = {name: band(recipe, name) for name in scores if name != CONTAMINATION}
    return {
        name: _between(np.asarray(scores[name]), *limits)
        | (score(name).spares & np.isnan(scores[name]))
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
