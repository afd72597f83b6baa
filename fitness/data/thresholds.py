"""Which samples of a pool a recipe keeps: its `keep_` fields, applied to the stored scores.

Cuts are shares of the pool, not values, so that they mean the same in every round and under every
model. Each goes by its own score over the whole pool, whatever the others cut, and a sample must
pass all of them. Samples that tie with the last one kept are kept too: a larger share never keeps
less, and no order of the pool decides. What lacks a score does not pass a cut by it; but nobody
rates every sample, so those without a rating are spared by `keep_rating`, and so is a whole pool
that nobody has rated.
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

KEEP = "keep_"  # begins the fields of a recipe that cut
Side = Literal["highest", "lowest", "band"]


@dataclass(frozen=True, slots=True)
class Score:
    """A score in its natural unit, and which side of it a recipe keeps."""

    unit: str
    keeps: Side
    description: str
    spares: bool = False  # samples that have no such score


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
    """What a score is; one's own function's counts as the higher the better."""
    return SCORES.get(name, OWN)


def cut_by(field: str) -> str | None:
    """The score that a field of a recipe cuts by, `own` for those of one's own; None for others."""
    if not field.startswith(KEEP):
        return None
    return field.removeprefix(KEEP).removesuffix("_low").removesuffix("_high")


def band(recipe: Recipe, name: str) -> tuple[float, float]:
    """The quantiles of a score between which a recipe keeps samples; (0, 1) is all of them."""
    field = f"{KEEP}{name if name in SCORES else 'own'}"
    if score(name).keeps == "band":
        return getattr(recipe, f"{field}_low"), getattr(recipe, f"{field}_high")
    share = getattr(recipe, field)
    return (0.0, share) if score(name).keeps == "lowest" else (1.0 - share, 1.0)


def lacking(recipe: Recipe, names: Iterable[str]) -> list[str]:
    """Scores that a recipe cuts by and that are not among those of a pool."""
    had = set(names)
    wanted = [
        name
        for name, one in SCORES.items()
        if name not in had and not one.spares and band(recipe, name) != (0, 1)
    ]
    own = recipe.keep_own != 1 and had <= SCORES.keys() | {CONTAMINATION}
    return [*wanted, *(["own"] if own else [])]


def passing(
    recipe: Recipe, scores: Mapping[str, np.ndarray], samples: int
) -> dict[str, np.ndarray]:
    """By each score that a recipe cuts by, which samples pass, (samples,) bool.

    `scores`: float64, (samples,), NaN where one could not be told. Raises InputError where the pool
    has no such score.
    """
    if absent := lacking(recipe, scores):
        have = f"has {listed(scores)}" if scores else "has none"
        raise InputError(
            f"{KEEP}{absent[0]}: the pool {have}; score it with this filter, or leave the field out"
        )
    bands = {name: band(recipe, name) for name in scores if name != CONTAMINATION}
    return {
        name: _between(np.asarray(scores[name]), *limits)
        | (score(name).spares & np.isnan(scores[name]))
        for name, limits in bands.items()
        if limits != (0, 1)
    }


def kept(recipe: Recipe, scores: Mapping[str, np.ndarray], samples: int) -> np.ndarray:
    """Which samples pass every cut, (samples,) bool; `scores` and errors as in `passing`."""
    every = np.ones(samples, dtype=bool)
    for mask in passing(recipe, scores, samples).values():
        every &= mask
    return every


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Which values, (n,), lie between two quantiles, ties with either end included; NaN do not."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    # rounded, so that 1 - 0.7 of 10 is 3
    first = min(math.floor(round(low * len(known), 6)), len(known) - 1)
    last = max(math.ceil(round(high * len(known), 6)) - 1, 0)
    return np.asarray((values >= known[first]) & (values <= known[last]))
