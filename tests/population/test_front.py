import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from population.front import joined, volumes
from population.individual import Individual
from population.selection import front, hypervolume
from tests.population.genomes import losses_of


@st.composite
def clouds(draw):
    """Points (n, m) on a coarse grid, so that equal ones and ties come up."""
    m = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(st.integers(0, 5), min_size=m, max_size=m), max_size=30))
    return np.array(rows, float).reshape(-1, m)


@given(clouds())
def test_a_front_grown_point_by_point_is_the_front_of_all(points):
    members = np.empty((0, points.shape[1]))
    for point in points:
        members = joined(members, point)
    known = front([Individual(i, {}, losses=tuple(p)) for i, p in enumerate(points)])
    assert sorted(map(tuple, members)) == sorted(losses_of(one) for one in known)


@given(clouds())
def test_the_volume_after_each_point_is_that_of_all_points_so_far(points):
    reference = np.full(points.shape[1], 4.5)  # some points lie beyond it
    grown = list(volumes(points, reference))
    whole = [hypervolume(points[: i + 1], reference) for i in range(len(points))]
    assert grown == pytest.approx(whole)
