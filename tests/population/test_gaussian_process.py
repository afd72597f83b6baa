import numpy as np
import pytest
from scipy.optimize import check_grad

from population.gaussian_process import GaussianProcess, Kernel, fit, negative_log_posterior


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    points = rng.random((40, 3))
    outcomes = np.sin(5 * points[:, 0]) + points[:, 1] ** 2 + rng.normal(0, 0.1, 40)
    return points, outcomes, rng.integers(1, 4, 40).astype(float)


@pytest.mark.parametrize("guides", [0, 2])
def test_the_gradient_is_that_of_the_density(data, guides):
    points, outcomes, seeds = data
    centred = outcomes - outcomes.mean()
    for logs in np.random.default_rng(2).normal(-0.5, 0.7, size=(5, 5)):
        args = points, centred, seeds, guides
        assert (
            check_grad(
                lambda x, *a: negative_log_posterior(x, *a)[0],
                lambda x, *a: negative_log_posterior(x, *a)[1],
                logs,
                *args,
            )
            < 1e-3
        )


def test_noise_and_irrelevant_coordinates_are_found():
    rng = np.random.default_rng(3)
    points = rng.random((120, 3))
    for noise in (0.05, 0.3):
        outcomes = np.sin(6 * points[:, 0]) + rng.normal(0, noise, 120)
        kernel = fit(points, outcomes, np.ones(120))
        assert noise / 1.4 < np.sqrt(kernel.noise) < noise * 1.4
        assert kernel.lengths[0] < 0.3 * kernel.lengths[1:].min()


def test_a_mean_of_many_seeds_is_trusted_more():
    points, kernel = np.array([[0.0], [1.0]]), Kernel(np.array([5.0]), 1.0, 1.0)
    outcomes = np.array([1.0, -1.0])
    for seeds, sign in ((np.array([50.0, 1.0]), 1), (np.array([1.0, 50.0]), -1)):
        mean, _ = GaussianProcess(points, outcomes, seeds, kernel).predict(np.array([[0.5]]))
        assert np.sign(mean[0]) == sign


@pytest.mark.parametrize("outcomes", [np.zeros(5), np.array([0.0, 0, 0, 0, 1e3])])
def test_equal_points_and_outcomes_are_survived(outcomes):
    points = np.full((5, 2), 0.5)
    kernel = fit(points, outcomes, np.ones(5))
    mean, variance = GaussianProcess(points, outcomes, np.ones(5), kernel).predict(points)
    assert np.isfinite(mean).all()
    assert (variance > 0).all()


def test_a_guide_is_a_prior_mean_with_an_estimated_slope():
    rng = np.random.default_rng(4)
    points = rng.random((12, 6))
    truth, wrong = np.sin(4 * points.sum(axis=1)), rng.normal(size=12)
    outcomes = -2 * truth + 0.3 * points[:, 0]
    guided = np.column_stack([points, truth, wrong])
    kernel = fit(guided, outcomes, np.ones(12), guides=2)
    assert kernel.worths[0] > 10 * kernel.worths[1]
    unseen = rng.random((50, 6))
    at = np.column_stack([unseen, np.sin(4 * unseen.sum(axis=1)), rng.normal(size=50)])
    mean, _ = GaussianProcess(guided, outcomes, np.ones(12), kernel).predict(at)
    assert np.corrcoef(mean, -2 * at[:, 6] + 0.3 * at[:, 0])[0, 1] > 0.95
