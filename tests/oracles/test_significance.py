"""Student's t, paired bootstrap and scores by item, against scipy, scikit-learn and sacrebleu."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from scipy import stats
from sklearn.metrics import f1_score, precision_recall_fscore_support

from evo.significance import Result, Sample, bootstrap_error, difference
from fitness.data.prompts import Prompts
from fitness.evaluate.items import MOST, class_items, items, text_items
from fitness.metrics import score
from fitness.metrics.generated import jackknife

values = st.lists(st.integers(-1000, 1000).map(lambda n: n / 64), min_size=2, max_size=6)


def sample(details: dict[str, object], measurement: str = "target/loss") -> Sample:
    found = Sample.of({"items": {measurement.replace("perplexity", "loss"): details}}, measurement)
    assert found is not None
    return found


def mean(sums: list[float], weights: list[float]) -> float:
    return sum(sums) / sum(weights)


@settings(max_examples=30)
@given(values, values)
@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy's, where one side never varies
def test_seeds_are_compared_as_scipy_does_by_welch(one: list[float], other: list[float]) -> None:
    found = difference(Result(tuple(one)), Result(tuple(other)), 1.0)
    if np.var(one) + np.var(other) == 0:
        assert found.p in (0.0, 1.0)
        return
    wanted = stats.ttest_ind(other, one, equal_var=False)
    assert found.p == pytest.approx(wanted.pvalue, abs=1e-12)
    assert found.freedom == pytest.approx(wanted.df)
    interval = wanted.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_two_seeds_and_2_4_standard_errors_are_no_win() -> None:
    """p = .14, which Student's t of two degrees of freedom gives, and not the normal's .016."""
    better, other = (1.0, 1.0 + 2**0.5), (3.4 - 0.0, 3.4 + 2**0.5)
    found = difference(Result(better), Result(other), 1.0)
    assert found.margin / found.error == pytest.approx(2.4 / 1.0)
    assert found.p == pytest.approx(2 * stats.t.sf(2.4, 2)) == pytest.approx(0.138, abs=1e-3)
    assert found.clear == "unclear"


def test_a_single_seed_claims_nothing_but_the_untouched_base_needs_no_second_one() -> None:
    trained = Result((1.0, 1.1, 0.9))
    assert difference(trained, Result((5.0,)), 1.0).clear == "unclear"
    against = difference(trained, Result((5.0,), exact=True), 1.0)
    wanted = stats.ttest_1samp([1.0, 1.1, 0.9], 5.0)
    assert (against.clear, against.p) == ("better", pytest.approx(wanted.pvalue))


@pytest.mark.parametrize("measurement", ["target/loss", "target/perplexity"])
def test_the_paired_bootstrap_agrees_with_scipys(measurement: str) -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(5, 200, 60)
    nats = tokens * rng.normal(3, 0.4, 60)
    better = nats - tokens * rng.normal(0.1, 0.3, 60)
    one, other = (sample(items("document", s, tokens), measurement) for s in (better, nats))

    def gap(a, b, w, axis=-1):
        ratios = (a.sum(axis) / w.sum(axis), b.sum(axis) / w.sum(axis))
        grown = [np.exp(r) if measurement.endswith("perplexity") else r for r in ratios]
        return grown[0] - grown[1]

    wanted = stats.bootstrap(
        (better, nats, tokens),
        gap,
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).standard_error * np.sqrt(60 / 59)
    assert bootstrap_error(one, other) == pytest.approx(wanted, rel=0.06)
    assert one.error(other) == pytest.approx(wanted, rel=0.06)  # linearised, as the search has it
    assert bootstrap_error(one) > 1.5 * bootstrap_error(one, other)  # pairs share their documents
    assert bootstrap_error(one, one) == one.error(one) == 0.0


def test_equal_scores_by_item_are_compared_as_scipy_does_paired() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 150), rng.normal(0.3, 1, 150)
    one, other = (Result((v.mean(),), sample(items("prompt", v)), exact=True) for v in (a, b))
    found, wanted = difference(one, other, 1.0), stats.ttest_rel(b, a)
    assert found.paired
    assert found.freedom == 149
    assert found.p == pytest.approx(wanted.pvalue, rel=0.25)


def test_5_of_11_prompts_instead_of_4_is_no_leap_however_sure_the_seeds_are() -> None:
    four, five = [1.0] * 4 + [0.0] * 7, [1.0] * 5 + [0.0] * 6
    sides = [Result((mean(v, [1] * 11),) * 3, sample(items("prompt", v))) for v in (five, four)]
    found = difference(sides[0], sides[1], -1.0)
    assert found.margin == pytest.approx(1 / 11)
    assert found.p > 0.3
    assert found.clear == "unclear"
    without_items = [Result(side.values) for side in sides]
    alone = difference(without_items[0], without_items[1], -1.0)
    assert alone.clear == "better"  # which seeds alone would have claimed


def test_items_measured_on_other_documents_are_not_paired() -> None:
    one, other = sample(items("document", [1.0, 2.0])), sample(items("document", [1.0, 2.0, 3.0]))
    assert not one.fits(other)
    assert Sample.mean([one, other]) is None is Sample.mean([one, None])
    found = difference(Result((1.0, 1.2), one), Result((2.0, 2.2), other), 1.0)
    assert not found.paired
    assert found.error == pytest.approx(0.1 * 2**0.5)


@settings(max_examples=30)
@given(st.integers(1, 3 * MOST))
def test_many_items_become_blocks_with_the_same_mean(count: int) -> None:
    rng = np.random.default_rng(count)
    sums, weights = rng.normal(3, 1, count), rng.integers(1, 9, count)
    found = items("document", sums, weights)
    assert found["count"] == count
    assert len(found["sums"]) == len(found["weights"]) == min(MOST, count)
    assert mean(found["sums"], found["weights"]) == pytest.approx(sums.sum() / weights.sum(), 1e-4)


def test_blocks_vary_as_their_items_do() -> None:
    rng = np.random.default_rng(0)
    each = rng.normal(0, 1, 4000)
    assert sample(items("prompt", each)).error() == pytest.approx(stats.sem(each), rel=0.15)


def test_a_text_is_summed_by_document_and_one_long_document_by_window() -> None:
    tokens = np.array([5, 6, 0, 7, 0, 8, 9, 4, 0])  # 0 ends a document
    nats = np.arange(1.0, 9.0)  # of all tokens but the first
    found = text_items(nats, tokens, 0, 4)
    assert found == {
        **{"unit": "document", "count": 3},
        **{"sums": [3.0, 7.0, 26.0], "weights": [2.0, 2.0, 4.0]},
    }
    whole = text_items(nats, tokens, 99, 4)
    assert (whole["unit"], whole["count"], sum(whole["weights"])) == ("window", 3, 8.0)
    nats[3] = np.nan  # a token that no mask hides is not counted
    assert text_items(nats, tokens, 0, 4)["weights"] == [2.0, 1.0, 4.0]


def test_macro_scores_bleu_and_chrf_by_item_come_to_the_libraries_values() -> None:
    rng = np.random.default_rng(0)
    wanted, logits = rng.integers(0, 3, 400), rng.normal(0, 1, (400, 4))
    logits[np.arange(400), wanted] += 1
    found = class_items(wanted, logits)
    guessed = logits.argmax(1)
    known = precision_recall_fscore_support(
        wanted, guessed, labels=[0, 1, 2], average="macro", zero_division=0
    )[:3]
    weighted = f1_score(wanted, guessed, average="weighted")
    names = ("precision", "recall", "f1", "f1_weighted")
    for name, value in zip(names, (*known, weighted), strict=True):
        own = sample(found[name], name)
        assert own.sums.sum() / own.weights.sum() == pytest.approx(value, abs=2e-3)
        assert 0.01 < own.error() < 0.04

    def f1_without(place):
        kept = np.arange(400) != place
        scores = precision_recall_fscore_support(
            wanted[kept], guessed[kept], labels=[0, 1, 2], average="macro", zero_division=0
        )
        return 400 * known[2] - 399 * scores[2]

    two = [f1_without(n) + f1_without(n + 1) for n in (0, 40, 398)]  # a block is of two texts
    blocks = np.asarray(found["f1"]["sums"])[[0, 20, 199]]
    np.testing.assert_allclose(blocks, two, rtol=1e-3, atol=1e-3)
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(wanted)).item()
    assert mean(found["loss"]["sums"], found["loss"]["weights"]) == pytest.approx(loss, 1e-4)
    references = ["a hacker writes code", "the cat sat", "all of it"] * 20
    outputs = ["a hacker wrote code", "the dog sat there", "none"] * 20
    scores = score(
        ("bleu", "chrf", "rouge_l", "exact_match", "distinct_1"),
        Prompts(references, [*references]),
        outputs,
    )
    each = {name: one.each for name, one in scores.items() if one.each is not None}
    assert each.keys() == {"bleu", "chrf", "rouge_l", "exact_match"}
    for name, metric in (("chrf", CHRF()), ("bleu", BLEU())):
        whole = metric.corpus_score(outputs, [references]).score
        assert np.mean(each[name]) == pytest.approx(whole, rel=0.02)


def test_the_jackknife_of_a_mean_is_its_items() -> None:
    each = np.array([1.0, 4.0, 7.5])
    counted = np.stack([each, np.ones(3)], axis=1)
    np.testing.assert_allclose(jackknife(counted, lambda total: total[0] / total[1]), each)


def test_the_error_of_a_mean_is_of_independent_data_and_of_shared_items_together() -> None:
    """Against scipy's error of means: variances of other data add up, residuals of the same."""
    rng = np.random.default_rng(0)
    law, code = rng.normal(3, 1, 40), rng.normal(1, 0.5, 25)
    right = np.round(rng.random(25))
    samples = {
        "law/loss": sample(items("document", law)),
        "code/loss": sample(items("document", code)),
        "code/accuracy": sample(items("document", right)),
    }
    weights = {"law/loss": 0.5, "code/loss": 0.3, "code/accuracy": 0.2}
    found = Sample.of_mean(samples, weights)
    assert found is not None
    wanted = np.hypot(0.5 * stats.sem(law), stats.sem(0.3 * code + 0.2 * right))
    assert found.error() == pytest.approx(wanted, rel=1e-4)
    assert bootstrap_error(found) == pytest.approx(wanted, rel=0.1)
    value = 0.5 * law.mean() + 0.3 * code.mean() + 0.2 * right.mean()
    assert found.value == pytest.approx(value, rel=1e-5)
    assert (found.unit, found.count) == ("document", 65)

    better = {name: sample(items("document", part.sums - 0.1)) for name, part in samples.items()}
    other = Sample.of_mean(better, weights)
    assert found.fits(other)
    assert found.error(other) == pytest.approx(0, abs=1e-5)  # paired: all items differ alike
    assert Sample.of_mean({**samples, "law/loss": None}, weights) is None


def test_a_mean_over_many_data_keeps_few_sums_and_its_error() -> None:
    rng = np.random.default_rng(1)
    values = {f"d{place}/loss": rng.normal(place, 1 + place, 150) for place in range(6)}
    weights = dict.fromkeys(values, 1 / 6)
    texts = {name: sample(items("document", each)) for name, each in values.items()}
    found = Sample.of_mean(texts, weights)
    assert found is not None
    assert len(found.recorded()["sums"]) <= MOST
    wanted = np.sqrt(sum(stats.sem(each) ** 2 for each in values.values())) / 6
    assert found.error() == pytest.approx(wanted, rel=0.1)  # of blocks of neighbours, 33 by data
    read = sample(found.recorded())
    assert (read.error(), read.count) == (pytest.approx(found.error(), rel=1e-5), 900)
