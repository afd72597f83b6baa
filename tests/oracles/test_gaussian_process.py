"""The Gaussian process of the default strategy against scikit-learn's."""

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from population.gaussian_process import GaussianProcess, Kernel
from tests.population.test_gaussian_process import data as data


def test_predictions_agree_with_scikit_learn(data):
    points, outcomes, seeds = data
    kernel = Kernel(np.array([0.4, 0.8, 2.0]), 1.0, 0.03)
    at = np.random.default_rng(1).random((7, 3))
    mean, variance = GaussianProcess(points, outcomes, seeds, kernel).predict(at)
    oracle = GaussianProcessRegressor(
        Matern(kernel.lengths, nu=2.5), alpha=kernel.noise / seeds, optimizer=None
    ).fit(points, outcomes - outcomes.mean())
    expected, deviation = oracle.predict(at, return_std=True)
    np.testing.assert_allclose(mean, expected + outcomes.mean(), atol=1e-8)
    np.testing.assert_allclose(variance, deviation**2, atol=1e-8)
