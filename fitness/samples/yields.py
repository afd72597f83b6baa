"""Count the samples of a pool that a recipe's thresholds keep, and show which each drops."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fitness.data.samples import Sample
from fitness.filters import CONTAMINATION, filter_of
from fitness.mixture.thresholds import band, passing
from fitness.recipe import Recipe
from fitness.samples.contamination import CONTAMINATED, is_contaminated

EXAMPLES = 3
CHARACTERS = 400  # of a text in an example


def columns(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """The scores of samples by name, (samples,) float64, NaN where one has none."""
    names = sorted({name for sample in samples for name in sample.scores})
    return {n: np.array([one.scores.get(n, np.nan) for one in samples]) for n in names}


def yields(samples: Sequence[Sample], recipe: Recipe) -> dict[str, Any]:
    """Numbers of samples in a pool and kept, and a row for each threshold; plain data.

    A row has the number it dropped, how many of them no other one did, the share that passed, the
    least and greatest score that passed, and examples: those furthest from what passed, with their
    scores. Contamination comes first, and quantiles are over what it leaves, as in training.
    """
    dirty = [is_contaminated(one) for one in samples]
    clean = [one for one, found in zip(samples, dirty, strict=True) if not found]
    scores = columns(clean)
    masks = passing(recipe, scores, len(clean))
    left = np.logical_and.reduce([np.ones(len(clean), dtype=bool), *masks.values()])
    contaminated = [one for one, found in zip(samples, dirty, strict=True) if found]
    rows = [_contamination(contaminated, len(samples))] if contaminated else []
    for name, mask in masks.items():
        others = [other for known, other in masks.items() if known != name]
        alone = ~mask & np.logical_and.reduce([np.ones(len(clean), dtype=bool), *others])
        values = scores[name]
        passed = values[mask & ~np.isnan(values)]
        limits = (float(passed.min()), float(passed.max())) if len(passed) else (None, None)
        rows.append(
            {
                "filter": name,
                "unit": filter_of(name).unit,
                "quantiles": list(band(recipe, name)),
                "dropped": int((~mask).sum()),
                "dropped_alone": int(alone.sum()),
                "yield": float(mask.mean()),
                "least": limits[0],
                "greatest": limits[1],
                "examples": [
                    _example(clean[place], name) for place in _furthest(values, mask)[:EXAMPLES]
                ],
            }
        )
    return {"samples": len(samples), "kept": int(left.sum()), "filters": rows}


def _contamination(found: Sequence[Sample], samples: int) -> dict[str, object]:
    return {
        "filter": CONTAMINATION,
        "unit": "share",
        "quantiles": None,
        "dropped": len(found),
        "dropped_alone": len(found),
        "yield": 1 - len(found) / samples,
        "least": None,
        "greatest": CONTAMINATED,
        "examples": [_example(one, CONTAMINATION) for one in found[:EXAMPLES]],
    }


def _furthest(values: np.ndarray, mask: np.ndarray) -> list[int]:
    """Places of the dropped samples, those with scores furthest from the passed ones first.

    Those without a score come last.
    """
    passed = values[mask & ~np.isnan(values)]
    low, high = (passed.min(), passed.max()) if len(passed) else (np.inf, -np.inf)
    beyond = np.maximum(low - values, values - high)
    dropped = np.flatnonzero(~mask)
    keys = np.where(np.isnan(values), -np.inf, beyond)[dropped]
    return [int(place) for place in dropped[np.argsort(-keys, kind="stable")]]


def _example(sample: Sample, name: str) -> dict[str, object]:
    return {
        "id": sample.id,
        "prompt": sample.prompt[-CHARACTERS:],
        "completion": sample.completion[:CHARACTERS],
        "score": sample.scores.get(name),
    }
