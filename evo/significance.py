"""Significance of differences between results: noise of seeds and of the held-out sample.

Two things are random draws: the seeds of the fine-tunes, and the documents, records or prompts
that are held out. Every claim uses `difference`, which adds up the variances of both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fitness.evaluate import items as item_scores

Array = npt.NDArray[np.float64]
Clear = Literal["better", "worse", "unclear"]

LEVEL = 0.05  # of p, two-sided, below which a difference is called clear
CLEAR = 2.0  # standard errors, beyond which a search takes contenders as different
FEW = 100  # held-out items, below which a result is unreliable
RESAMPLES = 2000
PERPLEXITY = "/perplexity"


@dataclass(frozen=True)
class Sample:
    """One measurement by held-out item: the sums of its items over the sums of their weights.

    `sums` and `weights` are (n,), of items or of blocks of neighbouring ones; `count` is how many
    items there are. See `fitness.evaluate.items`.
    """

    unit: str
    count: int
    sums: Array
    weights: Array
    exponential: bool = False  # whether the measurement is exp(ratio), as perplexity is exp(loss)

    @classmethod
    def of(cls, details: Mapping[str, Any], measurement: str) -> "Sample | None":
        """Read a measurement's items from an evaluation's details; None if fewer than two items."""
        by_item = details.get("items")
        if not isinstance(by_item, Mapping):
            return None
        exponential = measurement.endswith(PERPLEXITY)
        name = measurement.removesuffix(PERPLEXITY) + "/loss" if exponential else measurement
        items = by_item.get(name)
        if not items or len(items["sums"]) < 2:
            return None
        sums = np.asarray(items["sums"], float)
        weights = np.asarray(items.get("weights", np.ones(len(sums))), float)
        return cls(items["unit"], int(items["count"]), sums, weights, exponential)

    @classmethod
    def mean(cls, samples: "Sequence[Sample | None]") -> "Sample | None":
        """Mean over seeds, item by item; None if a seed has no sample or one of other items."""
        given = [sample for sample in samples if sample is not None]
        if not given or len(given) < len(samples) or any(not given[0].fits(s) for s in given):
            return None
        return replace(given[0], sums=np.mean([sample.sums for sample in given], axis=0))

    @classmethod
    def of_mean(
        cls, samples: "Mapping[str, Sample | None]", weights: Mapping[str, float]
    ) -> "Sample | None":
        """Weighted sum of measurements by name, as one by item; None if one has no sample.

        Measurements of the same data, such as `target/loss` and `target/perplexity`, are of the
        same items, whose residuals add up. Different data are independent: variances add up. The
        items have pseudo-values, of which `error` is the root of the summed variances.
        """
        residuals: dict[tuple[str, int], Array] = {}  # by data
        units: dict[tuple[str, int], tuple[str, int]] = {}
        value = 0.0
        for name, sample in samples.items():
            if sample is None:
                return None
            data = (name.rpartition("/")[0], len(sample.sums))
            residuals[data] = residuals.get(data, 0.0) + weights[name] * sample._residuals()
            units[data] = (sample.unit, sample.count)
            value += weights[name] * sample.value
        many = sum(len(each) for each in residuals.values())
        parts = [_blocks(each, len(each) * item_scores.MOST // many) for each in residuals.values()]
        together = np.concatenate(parts)
        n = len(together)
        unit = {unit for unit, _ in units.values()}
        return cls(
            unit.pop() if len(unit) == 1 else "item",
            sum(count for _, count in units.values()),
            value + np.sqrt(n * (n - 1)) * together,  # so that the sum of squares is the variance
            np.ones(n),
        )

    @property
    def value(self) -> float:
        """The measurement."""
        ratio = float(self.sums.sum() / self.weights.sum())
        return float(np.exp(ratio)) if self.exponential else ratio

    def recorded(self) -> dict[str, Any]:
        """The sample as `of` reads it, without weights: of a measurement whose items weigh 1."""
        return {**item_scores.items(self.unit, self.sums), "count": self.count}

    def fits(self, other: "Sample | None") -> bool:
        """True if both were measured on the same items, judging by unit, count and weights."""
        return (
            other is not None
            and (self.unit, self.count) == (other.unit, other.count)
            and np.array_equal(self.weights, other.weights)
        )

    def error(self, other: "Sample | None" = None) -> float:
        """Standard error of the measurement, or of its difference from another on the same items.

        Linearised ratio estimator, which needs no resampling: the spread of the contributions of
        the items to the ratio (Cochran 1977, sec. 6.4).
        """
        residuals = self._residuals() - (0.0 if other is None else other._residuals())
        n = len(residuals)
        return float(np.sqrt(n / (n - 1) * (residuals**2).sum()))

    def _residuals(self) -> Array:
        ratio = self.sums.sum() / self.weights.sum()
        slope = np.exp(ratio) if self.exponential else 1.0
        residuals: Array = slope * (self.sums - ratio * self.weights) / self.weights.sum()
        return residuals

    def resampled(self, counts: Array) -> Array:
        """Measurement of r resamples, (r,); `counts`, (r, n), says how often each has an item."""
        ratios: Array = (counts @ self.sums) / (counts @ self.weights)
        return np.exp(ratios) if self.exponential else ratios


def _blocks(residuals: Array, most: int) -> Array:
    """Residuals added up with their neighbours, (n,) -> (b,), whose squares sum to the variance.

    The factor sqrt(b / (b - 1)) is due since they sum to 0: the mean was estimated from them.
    """
    n = len(residuals)
    blocks = max(2, min(n, most))
    sums = np.bincount(np.arange(n) * blocks // n, residuals)
    return np.asarray(np.sqrt(blocks / (blocks - 1)) * sums)


def bootstrap_error(one: Sample, other: Sample | None = None) -> float:
    """Standard error of a measurement, or of a difference on the same items: paired bootstrap.

    Both are measured on each of RESAMPLES samples of the items, drawn with replacement (Efron
    1979; Koehn 2004, for pairs). The factor sqrt(n / (n - 1)) corrects the bootstrap's bias: it
    resamples the n items, whose variance is (n - 1) / n of the population's on average.
    """
    n = len(one.sums)
    counts = _resamples(n)
    values = one.resampled(counts) - (0.0 if other is None else other.resampled(counts))
    return float(values.std(ddof=1) * np.sqrt(n / (n - 1)))


@lru_cache(maxsize=8)
def _resamples(n: int) -> Array:
    """Draws of each of n items, (RESAMPLES, n); the same for all results, which pairs them."""
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return draws.astype(float)


@dataclass(frozen=True)
class Result:
    """Result of one contender: a value per seed, and the same by held-out item if recorded.

    `exact` means no noise of seeds, so that one value is enough: the untouched base.
    """

    values: tuple[float, ...]
    sample: Sample | None = None
    exact: bool = False

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else np.nan

    @property
    def seed_error(self) -> float:
        """Standard error of the mean over the seeds; NaN for a single one."""
        if len(self.values) < 2:
            return 0.0 if self.exact and self.values else np.nan
        return float(np.std(self.values, ddof=1) / np.sqrt(len(self.values)))

    @property
    def sample_error(self) -> float:
        """Standard error of the mean over the held-out items; NaN where those are not recorded."""
        return np.nan if self.sample is None else bootstrap_error(self.sample)

    @property
    def error(self) -> float:
        """Standard error of the mean, of seeds and items together; of seeds alone without items."""
        return float(np.hypot(self.seed_error, np.nan_to_num(self.sample_error)))


@dataclass(frozen=True)
class Difference:
    """Margin by which one result is better than another, in the measurement's unit, and its error.

    `error` is the standard error; `freedom` the degrees of freedom of Student's t; `p` the chance
    of at least this margin between equals; `low` to `high` an interval of 95 %. NaN where a side
    has no value, or no error since it has a single seed. `paired` says whether the noise of the
    held-out items is in it.
    """

    margin: float
    error: float
    freedom: float
    p: float
    low: float
    high: float
    paired: bool

    @property
    def clear(self) -> Clear:
        """Claim that the p-value allows: `better`, `worse` or `unclear`."""
        if not self.p < LEVEL:
            return "unclear"
        return "better" if self.margin > 0 else "worse"


def difference(better: Result, other: Result, sign: float) -> Difference:
    """Difference by which the first result is better; `sign` is 1 where lower is better, else -1.

    Welch 1947: t = margin / error with degrees of freedom by Satterthwaite 1946,
    (sum of v)^2 / sum of v^2 / f, over the variances v of both means over seeds and, where both
    were measured on the same held-out items, of their paired difference over these.
    """
    from scipy.stats import t as student

    margin = sign * (other.mean - better.mean) + 0.0  # never -0
    parts = [(side.seed_error**2, len(side.values) - 1) for side in (better, other)]
    sample = better.sample
    paired = sample is not None and sample.fits(other.sample)
    if sample is not None and paired:
        parts.append((bootstrap_error(sample, other.sample) ** 2, len(sample.sums) - 1))
    variance = sum(part for part, _ in parts)
    if not (np.isfinite(margin) and np.isfinite(variance)):
        return Difference(margin, np.nan, np.nan, np.nan, np.nan, np.nan, paired)
    error = float(np.sqrt(variance))
    if not error:
        p = 1.0 if margin == 0 else 0.0
        return Difference(margin, 0.0, np.inf, p, margin, margin, paired)
    freedom = variance**2 / sum(part**2 / free for part, free in parts if part)
    reach = float(student.ppf(1 - LEVEL / 2, freedom)) * error
    p = float(2 * student.sf(abs(margin) / error, freedom))
    return Difference(margin, error, float(freedom), p, margin - reach, margin + reach, paired)


def chance(p: float) -> str:
    """Format a p-value, as `p = .03` or `p < .001`; empty for NaN."""
    if np.isnan(p):
        return ""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.01 else f"p = {p:.2f}".replace("0.", ".")
