import moocore
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from population.acquisition import log_expected_hypervolume_improvement, log_expected_improvement


@pytest.mark.parametrize("mean", [-2.0, 0.0, 1.5, 4.9, 5.1, 8.0])
def test_expected_improvement_is_the_integral(mean: float):
    deviation, best = 0.5, 0.25
    exact, _ = (
        quad(
            lambda x: (best - x) * norm.pdf(x, mean, deviation),
            mean - 12 * deviation,
            best,
            epsabs=0,
        )
        if mean < best
        else quad(lambda x: (best - x) * norm.pdf(x, mean, deviation), best - 2.0, best, epsabs=0)
    )
    [found] = log_expected_improvement(best, np.array([mean]), np.array([deviation]))
    assert found == pytest.approx(np.log(exact), abs=0.03)


def test_hopeless_points_are_still_told_apart():
    found = log_expected_improvement(0.0, np.linspace(1, 100, 50), np.ones(50))
    assert (np.diff(found) < 0).all()


def test_the_gain_in_hypervolume_is_that_of_drawing():
    known = np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0], [1.5, 1.5]])
    mean = np.array([[0.2, 0.2], [0.1, 0.9], [0.6, 0.1], [1.4, 1.4]])
    variance = np.array([[0.01, 0.01], [0.04, 0.02], [0.01, 0.05], [0.01, 0.01]])
    reference = np.array([1.1, 1.1])
    before = moocore.hypervolume(known[:3], ref=reference)
    rng = np.random.default_rng(0)
    exact = [
        np.mean(
            [
                moocore.hypervolume(
                    np.vstack([known[:3], m + rng.normal(size=2) * v**0.5]), ref=reference
                )
                - before
                for _ in range(1000)
            ]
        )
        for m, v in zip(mean, variance, strict=True)
    ]
    found = np.mean(
        [
            np.exp(
                log_expected_hypervolume_improvement(
                    known, mean, variance, np.random.default_rng(seed)
                )
            )
            for seed in range(20)
        ],
        axis=0,
    )
    # equal but for a constant: the volume per direction
    assert found[3] < 1e-3 * found[0]
    ratio = found[:3] / np.array(exact[:3])
    assert ratio.std() / ratio.mean() < 0.1


def test_equal_losses_leave_a_box_to_improve():
    found = log_expected_hypervolume_improvement(
        np.ones((3, 2)),
        np.array([[0.5, 0.5], [2.0, 2.0]]),
        np.full((2, 2), 0.01),
        np.random.default_rng(0),
    )
    assert found[0] > found[1]


def test_a_front_may_reach_as_far_as_what_breaks_a_constraint():
    """Two feasible points alike in the second loss; a third, not feasible, is worse in it only."""
    known = np.array([[0.9, 0.1], [1.0, 0.0]])
    seen = np.vstack([known, [[0.0, 1.0]]])
    candidates = np.array([[0.3, 0.6], [0.95, 0.08]]), np.full((2, 2), 1e-4)
    near = log_expected_hypervolume_improvement(known, *candidates, np.random.default_rng(0))
    far = log_expected_hypervolume_improvement(known, *candidates, np.random.default_rng(0), seen)
    assert near[0] < near[1]
    assert far[0] > far[1]
