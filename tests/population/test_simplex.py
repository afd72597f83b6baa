import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from population.simplex import (
    crossover,
    dirichlet_spread,
    hellinger,
    mutate_dirichlet,
    mutate_logit,
    mutate_sphere,
    project,
    switch_source,
)

MUTATIONS = (mutate_sphere, mutate_dirichlet, mutate_logit)
seeds = st.integers(0, 2**32 - 1)
shares = st.one_of(st.just(0.0), st.floats(1e-9, 1.0))


@st.composite
def mixtures(draw, sources=None):
    k = sources or draw(st.integers(1, 9))
    raw = np.array(draw(st.lists(shares, min_size=k, max_size=k)))
    assume(raw.sum() > 0)
    return raw / raw.sum()


@st.composite
def bounded(draw):
    """Any weights (k,), with floors and caps that some mixture meets."""
    k = draw(st.integers(1, 7))
    weights = np.array(draw(st.lists(st.floats(-10, 10), min_size=k, max_size=k)))
    inside = draw(mixtures(sources=k))
    below = np.array(draw(st.lists(st.floats(0, 1), min_size=k, max_size=k)))
    above = np.array(draw(st.lists(st.floats(0, 1), min_size=k, max_size=k)))
    return weights, inside * below, inside + (1 - inside) * above, inside


def is_mixture(weights):
    return bool((weights >= 0).all()) and abs(weights.sum() - 1) <= 1e-12


@given(bounded())
def test_a_projection_meets_floors_caps_and_sum(case):
    weights, floor, cap, _ = case
    projected = project(weights, floor, cap)
    assert abs(projected.sum() - 1) <= 1e-12
    assert (projected >= floor).all()
    assert (projected <= cap).all()
    assert (project(projected, floor, cap) == projected).all()


@given(bounded())
def test_no_mixture_within_the_bounds_is_nearer_than_the_projection(case):
    weights, floor, cap, inside = case
    projected = project(weights, floor, cap)
    # The projection's own criterion: every feasible direction leads away from the weights.
    assert (weights - projected) @ (inside - projected) <= 1e-9


def test_the_projection_of_a_known_point_is_as_computed_by_hand():
    none, all_ = np.zeros(3), np.ones(3)
    assert project(np.array([0.7, 0.5, -0.4]), none, all_) == pytest.approx([0.6, 0.4, 0.0])
    capped = project(np.array([1.0, 0.0, 0.0]), none, np.array([0.5, 1, 1]))
    assert capped == pytest.approx([0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("floor", "cap"), [([0.6, 0.6], [1, 1]), ([0, 0], [0.4, 0.4]), ([0.5, 0], [0.4, 1])]
)
def test_bounds_that_no_mixture_meets_are_refused(floor, cap):
    with pytest.raises(ValueError, match="no mixture"):
        project(np.array([0.5, 0.5]), np.array(floor, float), np.array(cap, float))


@given(mixtures(), seeds, st.floats(1e-3, 3.0))
def test_every_mutation_of_a_mixture_is_a_mixture(weights, seed, step):
    for mutation in MUTATIONS:
        moved = mutation(weights, np.random.default_rng(seed), step=step)
        assert is_mixture(moved), mutation.__name__
        again = mutation(weights, np.random.default_rng(seed), step=step)
        assert (moved == again).all()


@given(st.integers(2, 8), st.data(), seeds)
def test_crossover_of_mixtures_is_a_mixture_and_of_equals_that_mixture(k, data, seed):
    a, b = data.draw(mixtures(sources=k)), data.draw(mixtures(sources=k))
    child = crossover(a, b, np.random.default_rng(seed), reach=0.5)
    assert is_mixture(child)
    assert crossover(a, a, np.random.default_rng(seed), reach=0.5) == pytest.approx(a, abs=1e-7)


@given(st.integers(2, 8), st.data(), seeds)
def test_crossover_without_reach_lies_on_the_way_from_one_parent_to_the_other(k, data, seed):
    a, b = data.draw(mixtures(sources=k)), data.draw(mixtures(sources=k))
    child = crossover(a, b, np.random.default_rng(seed), reach=0.0)
    angles = [
        np.arccos(np.clip(np.sqrt(x) @ np.sqrt(y), -1, 1)) for x, y in ((a, child), (child, b))
    ]
    assert sum(angles) == pytest.approx(
        np.arccos(np.clip(np.sqrt(a) @ np.sqrt(b), -1, 1)), abs=1e-6
    )


@given(st.integers(1, 9), seeds)
def test_spread_draws_and_switches_are_mixtures(k, seed):
    rng = np.random.default_rng(seed)
    drawn = dirichlet_spread(k, rng)
    assert is_mixture(drawn)
    assert is_mixture(switch_source(drawn, rng))


def test_spread_draws_reach_from_one_source_to_nearly_uniform():
    rng = np.random.default_rng(0)
    drawn = np.array([dirichlet_spread(5, rng) for _ in range(500)])
    assert (drawn.max(axis=1) == 1).any()
    assert (np.abs(drawn - 0.2).max(axis=1) < 0.08).any()
    assert drawn.mean(axis=0) == pytest.approx(np.full(5, 0.2), abs=0.05)


@given(st.integers(2, 8), st.data())
def test_hellinger_is_symmetric_zero_for_equals_and_at_most_one(k, data):
    a, b = data.draw(mixtures(sources=k)), data.draw(mixtures(sources=k))
    assert hellinger(a, a) == 0
    assert hellinger(a, b) == hellinger(b, a) <= 1 + 1e-12
    assert hellinger(np.eye(k)[0], np.eye(k)[1]) == pytest.approx(1)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_vertex_can_be_left_and_reached(mutation):
    rng = np.random.default_rng(0)
    vertex, near = np.array([1.0, 0, 0, 0]), np.array([0.9, 0.1, 0, 0])
    left = [mutation(vertex, rng, step=0.5) for _ in range(200)]
    assert sum((moved > 0).sum() > 1 for moved in left) > 20
    reached = [mutation(near, rng, step=0.5) for _ in range(200)]
    assert any((moved == vertex).all() for moved in reached)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_step_is_about_as_long_as_asked_in_every_mutation(mutation):
    rng = np.random.default_rng(0)
    start = np.array([0.3, 0.3, 0.2, 0.2])
    for step in (0.05, 0.2):
        moves = [hellinger(start, mutation(start, rng, step=step)) for _ in range(300)]
        assert 0.5 * step < np.sqrt(2) * np.mean(moves) < 1.5 * step


def test_a_switch_takes_a_source_out_or_brings_one_in():
    rng = np.random.default_rng(0)
    start = np.array([0.5, 0.5, 0, 0])
    counts = {int((switch_source(start, rng) > 0).sum()) for _ in range(100)}
    assert counts == {1, 3}


def test_crossover_falls_anywhere_between_the_parents_and_a_little_beyond():
    rng = np.random.default_rng(0)
    a, b = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    children = np.array([crossover(a, b, rng, reach=0.25)[0] for _ in range(400)])
    between = (children > 0.1) & (children < 0.9)
    assert np.mean(between) == pytest.approx(1 / 1.5, abs=0.08)
    assert np.mean(children[between] > 0.5) == pytest.approx(0.5, abs=0.1)
    assert children.min() < 0.02
    assert children.max() > 0.98
