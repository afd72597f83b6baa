"""Held-out AUC of the discriminator: whether the scores of the filter `realness` say anything.

The area under the ROC curve is the chance that a real text is found more real than a sample, each
by a model that learned from neither; .5 where it cannot tell them apart.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Self

import numpy as np

from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.files import write_whole
from fitness.filters import REALNESS
from fitness.samples.discriminator import FOLDS, UNKNOWN, held_out

LEVEL = 0.95  # of the confidence interval
SUFFIX = ".discriminator.json"  # of the file beside a pool


@dataclass(frozen=True, slots=True)
class Separation:
    """AUC of held-out texts with the ends of its confidence interval, and the numbers of texts."""

    auc: float
    low: float
    high: float
    samples: int
    real: int

    @property
    def usable(self) -> bool:
        """False if the interval holds .5, or lies below: then scores by it are noise."""
        return self.low > UNKNOWN

    def __str__(self) -> str:
        return f"{self.auc:.2f} ({self.low:.2f} to {self.high:.2f})"

    @classmethod
    def of(cls, plain: Mapping[str, Any] | None) -> Self | None:
        """Read from plain numbers, as a ledger or a file has them; None for nothing."""
        return cls(**plain) if plain else None


def separation(
    samples: Sequence[Sample], real: Sequence[str], *, seed: int, folds: int = FOLDS
) -> Separation:
    """Held-out AUC of real text over samples, of distinct texts; .5 from 0 to 1 for too few.

    The interval is at least as wide as that of scores that say nothing: DeLong's has no width where
    a handful of texts happen to be separated.
    """
    fake, true = held_out(samples, real, seed=seed, folds=folds)
    if min(len(fake), len(true)) < 2:
        return Separation(UNKNOWN, 0.0, 1.0, len(fake), len(true))
    auc, error = area(true, fake)
    margin = NormalDist().inv_cdf((1 + LEVEL) / 2) * max(error, chance(len(true), len(fake)))
    low, high = max(0.0, auc - margin), min(1.0, auc + margin)
    return Separation(auc, low, high, len(fake), len(true))


def area(higher: np.ndarray, lower: np.ndarray) -> tuple[float, float]:
    """AUC of scores (m,) over scores (n,), and its standard error; at least two of each.

    DeLong et al. 1988, by midranks as in Sun and Xu 2014.
    """
    from scipy.stats import rankdata

    m, n = len(higher), len(lower)
    ranks = rankdata(np.concatenate([higher, lower]))
    above = (ranks[:m] - rankdata(higher)) / n  # share of the lower ones below each
    below = 1 - (ranks[m:] - rankdata(lower)) / m
    return float(above.mean()), float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))


def chance(m: int, n: int) -> float:
    """Standard error of the AUC of scores that say nothing, as in Mann and Whitney 1947."""
    return float(np.sqrt((m + n + 1) / (12 * m * n)))


def beside(pool: Path) -> Path:
    """File with the separation of a pool's samples."""
    return pool.with_name(f"{pool.stem}{SUFFIX}")


def write_separation(pool: Path, found: Separation) -> None:
    write_whole(beside(pool), json.dumps(asdict(found)) + "\n")


def read_separation(pool: Path) -> Separation | None:
    """The separation of a pool's samples; None if it was never measured. Raises InputError."""
    path = beside(pool)
    if not path.is_file():
        return None
    try:
        return Separation.of(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: is not what `evo generate` writes beside a pool ({error!s:.80}); delete it"
        ) from None


def described(samples: Sequence[Sample], found: Separation | None) -> list[str]:
    """Lines on a pool's separation, and whether `realness` is of use; none without that score."""
    if not any(REALNESS in one.scores for one in samples):
        return []
    if found is None:
        return [f"{REALNESS}: the AUC of its discriminator was not measured"]
    texts = f"{found.samples:,} samples and {found.real:,} stretches of real text"
    line = f"{REALNESS}: held-out AUC of its discriminator {found}, of {texts}"
    unusable = f"unusable: it cannot tell them apart, so {REALNESS} is noise; do not filter by it"
    return [line] if found.usable else [line, unusable]
