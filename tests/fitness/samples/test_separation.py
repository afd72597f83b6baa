"""Whether a discriminator says anything: its AUC on held-out texts, and the interval around it."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap, mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.samples import discriminator
from fitness.samples.discriminator import held_out, stretched
from fitness.samples.separation import (
    Separation,
    area,
    beside,
    chance,
    read_separation,
    separation,
    write_separation,
)
from tests.fitness.quickstart import CORPUS
from tests.fitness.samples.pools import JARGON, good, sample
from tests.fitness.samples.test_discriminator import loops


def drawn(seed: int, m: int, n: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties."""
    rng = np.random.default_rng(seed)
    return rng.normal(apart, 1, m).round(1), rng.normal(0, 1, n).round(1)


@pytest.mark.parametrize(("m", "n", "apart"), [(30, 40, 0.0), (25, 100, 1.0), (80, 20, -0.5)])
def test_the_area_is_sklearns_and_its_error_that_of_a_bootstrap(
    m: int, n: int, apart: float
) -> None:
    higher, lower = drawn(1, m, n, apart)
    auc, error = area(higher, lower)
    labels = np.repeat([1, 0], [m, n])
    assert auc == pytest.approx(roc_auc_score(labels, np.concatenate([higher, lower])))

    def statistic(one: np.ndarray, other: np.ndarray) -> float:
        return float(roc_auc_score(labels, np.concatenate([one, other])))

    resampled = bootstrap(
        (higher, lower),
        statistic,
        n_resamples=500,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    assert error == pytest.approx(resampled.standard_error, rel=0.15)


def test_the_error_of_scores_that_say_nothing_is_that_of_the_rank_test() -> None:
    for m, n in ((2, 2), (5, 9), (60, 60)):
        higher, lower = np.arange(m) + 100.0, np.arange(n) + 0.0
        found = mannwhitneyu(higher, lower, use_continuity=False, method="asymptotic")
        assert area(higher, lower) == (1.0, 0.0)
        assert 2 * norm.sf(0.5 / chance(m, n)) == pytest.approx(found.pvalue, rel=1e-6)


def test_the_interval_of_scores_that_say_nothing_holds_a_half_as_often_as_it_says() -> None:
    held = 0
    for seed in range(400):
        auc, error = area(*drawn(seed, 34, 34, 0.0))
        held += abs(auc - 0.5) <= 1.96 * max(error, chance(34, 34))
    assert 0.92 <= held / 400 <= 0.98


def test_loops_are_told_from_text_and_text_from_the_same_source_is_not() -> None:
    found = separation([*good(30), *loops(30)], JARGON[40:], seed=0)
    assert found.usable
    assert found.low < found.auc < found.high
    lines = (CORPUS / "sources/devil.jsonl").read_text().splitlines()
    texts = [text for line in lines if len(text := json.loads(line)["text"]) > 150]
    usable = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        order = [texts[place] for place in rng.permutation(len(texts))]
        pool = [sample(*stretched([text], [80], rng)) for text in order[:34]]
        usable += separation(pool, order[34:], seed=seed).usable
    assert usable <= 2


def test_two_texts_on_either_side_say_nothing_however_far_apart() -> None:
    pool = [sample(" aa aa aa aa"), sample(" aa aa aa bb")]
    real = ["zz yy zz yy", "xx ww xx ww"]
    each = (separation(pool, real, seed=seed) for seed in range(20))
    found = next(one for one in each if one.real == 2)  # one of each document
    assert (found.samples, found.real, found.usable) == (2, 2, False)
    for few in ([], pool[:1], [pool[0]] * 5):
        found = separation(few, JARGON, seed=0)
        assert (found.auc, found.low, found.high, found.usable) == (0.5, 0.0, 1.0, False)


def test_no_text_is_scored_by_a_model_that_learned_from_it_or_its_neighbour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each text is a number in place of its n-grams."""
    folds: list[tuple[list[int], list[int]]] = []

    class Recording:
        def fit(self, vectors: np.ndarray, labels: np.ndarray) -> "Recording":
            self.learned = vectors[:, 0].tolist()
            return self

        def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
            folds.append((self.learned, vectors[:, 0].tolist()))
            return np.full((len(vectors), 2), 0.5)

    texts: list[str] = []

    def numbered(found: list[str]) -> np.ndarray:
        texts.extend(found)
        return np.arange(len(found))[:, None]

    monkeypatch.setattr(discriminator, "_vectors", numbered)
    monkeypatch.setattr(discriminator, "_model", Recording)
    whole = " ".join(JARGON)
    fake, true = held_out([*good(20), *loops(20)], [whole], seed=0)
    assert len(fake) + len(true) == len(texts) == sum(len(scored) for _, scored in folds)
    crossed = 0
    for learned, scored in folds:
        assert not {*learned} & {*scored}
        spans = [
            (whole.index(texts[n]), len(texts[n])) for n in scored if n >= len(fake)
        ]  # of the one document
        others = [(whole.index(texts[n]), len(texts[n])) for n in learned if n >= len(fake)]
        for begin, length in spans:
            crossed += any(b < begin + length and begin < b + size for b, size in others)
    assert crossed <= 2 * (len(folds) - 1), "only at the borders between folds"


def test_a_separation_stands_beside_its_pool(tmp_path: Path) -> None:
    pool = tmp_path / "pool.jsonl"
    assert read_separation(pool) is None
    found = Separation(0.7, 0.6, 0.8, 30, 40)
    write_separation(pool, found)
    assert read_separation(pool) == found
    assert str(found) == "0.70 (0.60 to 0.80)"
    for broken in ("{", '{"auc": 1}', "[1]"):
        beside(pool).write_text(broken)
        with pytest.raises(InputError, match=r"discriminator\.json: is not what `evo generate`"):
            read_separation(pool)


def test_nothing_depends_on_the_order_of_the_pool() -> None:
    pool: list[Sample] = [*good(12), *loops(12)]
    assert separation(pool, JARGON[40:], seed=3) == separation(pool[::-1], JARGON[40:], seed=3)
