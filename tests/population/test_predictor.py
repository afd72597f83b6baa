import numpy as np
import pytest

from population.gaussian_process import Kernel
from population.predictor import Predictor, Setting, estimate, standardised, tempered

KERNEL = Kernel(np.array([0.3]), 1.0, 0.01)


def test_tempering_keeps_order_and_the_differences_that_matter():
    outcomes = np.array([0.1, 0.2, 0.4, 0.5, 0.9, 50.0, 1e6])
    scores = tempered(outcomes)
    assert (np.diff(scores) > 0).all()
    assert scores.max() < 2
    assert (scores[1] - scores[0]) / (scores[2] - scores[1]) == pytest.approx(0.5)


def test_equal_outcomes_are_no_news():
    for shape in (tempered, standardised):
        assert (shape(np.full(5, 3.0)) == 0).all()
        assert np.isfinite(shape(np.array([2.0]))).all()


def test_trust_goes_to_whoever_predicts_better():
    rng = np.random.default_rng(0)
    points = rng.random((80, 4))
    smooth = standardised(np.sin(4 * points[:, 0]) + points[:, 1])
    steps = standardised(np.sum(points[:, :3] > [0.6, 0.3, 0.7], axis=1, dtype=float))
    ones = np.ones(80)
    assert estimate(points, smooth, ones).trust > 0.8
    assert 0.2 < estimate(points, steps, ones).trust < 0.6


@pytest.mark.parametrize("trust", [0.0, 0.5, 1.0])
def test_what_is_on_its_way_holds_less_promise(trust: float):
    points = np.array([[0.0], [0.2], [0.8], [1.0]])
    outcomes = np.array([0.5, -0.4, 0.3, 1.0])
    predictor = Predictor(points, outcomes, np.ones(4), Setting(KERNEL, trust))
    at = np.array([[0.5]])
    mean, variance = predictor.predict(at)
    believed, left = predictor.with_pending(at).predict(at)
    assert left[0] < 0.5 * variance[0]
    assert believed[0] == pytest.approx(mean[0], abs=0.1)
