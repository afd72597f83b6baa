from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from deap.tools import sortNondominated
from hypothesis import given, settings
from hypothesis import strategies as st

from population.individual import Individual
from population.selection import (
    crowding,
    fitness_class,
    front,
    hypervolume,
    rank,
    survivors,
    tournament,
)

levels = st.integers(0, 4).map(float)  # few values, so that ties are common


@st.composite
def populations(draw, violations):
    m = draw(st.integers(1, 3))
    rows = draw(st.lists(st.tuples(*[levels] * m), min_size=1, max_size=14))
    members = []
    for index, row in enumerate(rows):
        violation = draw(violations)
        losses = (np.inf,) * m if np.isinf(violation) else row
        members.append(Individual(index, {}, losses=losses, violation=violation))
    return members


anything = populations(st.sampled_from([0.0, 0.0, 0.5, 1.0, np.inf]))


def dominates(a, b):
    """Deb's constrained domination, said directly."""
    if a.failed or b.failed:
        return b.failed and not a.failed
    if a.violation or b.violation:
        return a.violation < b.violation
    pairs = list(zip(a.losses, b.losses, strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


@given(anything)
def test_whoever_dominates_ranks_first_and_nobody_is_ranked_worse_than_needed(members):
    ranks = rank(members)
    for one, level in zip(members, ranks, strict=True):
        betters = [other for other in members if dominates(other, one)]
        assert level == max((ranks[other.id] + 1 for other in betters), default=0)


@given(populations(st.just(0.0)))
def test_ranks_are_those_of_deaps_own_sorting(members):
    class Carrier:
        def __init__(self, member):
            self.id, self.fitness = member.id, fitness_class(len(member.losses))(member.losses)

    fronts = sortNondominated([Carrier(member) for member in members], len(members))
    expected = {carrier.id: level for level, front in enumerate(fronts) for carrier in front}
    assert rank(members).tolist() == [expected[member.id] for member in members]


@given(anything)
def test_the_front_is_the_feasible_first_rank(members):
    ranks = rank(members)
    expected = [m for m in members if ranks[m.id] == 0 and m.violation == 0]
    assert front(members) == expected


@given(anything, st.integers(0, 15), st.randoms())
def test_survivors_are_never_worse_than_the_lost_whatever_the_order(members, n, shuffler):
    kept = survivors(members, n)
    assert len(kept) == min(n, len(members))
    ranks = rank(members)
    lost = [m for m in members if m not in kept]
    assert max((ranks[m.id] for m in kept), default=-1) <= min(
        (ranks[m.id] for m in lost), default=99
    )
    shuffled = list(members)
    shuffler.shuffle(shuffled)
    assert survivors(shuffled, n) == kept
    assert all(ranks[a.id] <= ranks[b.id] for a, b in pairwise(kept))


def test_the_lonely_survive_within_a_front():
    line = [(0.0, 10.0), (1.0, 9.0), (1.1, 8.9), (5.0, 5.0), (10.0, 0.0)]
    members = [Individual(i, {}, losses=losses) for i, losses in enumerate(line)]
    assert {one.id for one in survivors(members, 4)} == {0, 2, 3, 4}
    distances = crowding(members, rank(members))
    assert np.isinf(distances[[0, 4]]).all()
    assert distances[1] == pytest.approx((1.1 / 10 + 1.1 / 10) / 2)


def test_a_tournament_is_won_by_rank_and_among_equals_by_chance():
    members = [Individual(i, {}, losses=(loss, -loss)) for i, loss in enumerate((1.0, 2.0))]
    members += [Individual(2, {}, losses=(3.0, 3.0))]
    rng, ranks = np.random.default_rng(0), rank(members)
    won = Counter(tournament(members, ranks, rng, size=3).id for _ in range(900))
    assert won[2] == pytest.approx(900 / 27, abs=25)
    assert won[0] == pytest.approx(won[1], abs=90)


def test_the_unscored_cannot_be_ranked_and_not_a_number_is_no_loss():
    with pytest.raises(ValueError, match="individual 3 has no losses yet"):
        rank([Individual(3, {})])
    with pytest.raises(ValueError, match="individual 4: losses must be numbers"):
        Individual(4, {}, losses=(float("nan"),))
    for violation in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="individual 5: violation"):
            Individual(5, {}, losses=(0.0,), violation=violation)


@settings(max_examples=60)
@given(st.integers(1, 3), st.data())
def test_the_hypervolume_counts_the_cells_of_a_grid(m, data):
    """Points on a grid of whole numbers dominate whole cells, so counting cells is exact."""
    cell = st.tuples(*[st.integers(0, 7)] * m)
    points = np.array(data.draw(st.lists(cell, min_size=1, max_size=8)), dtype=float)
    reference = np.full(m, 5.0)
    corners = np.stack(np.meshgrid(*[np.arange(5)] * m, indexing="ij"), axis=-1).reshape(-1, m)
    covered = np.less_equal(points[None], corners[:, None]).all(axis=2).any(axis=1)
    assert hypervolume(points, reference) == pytest.approx(covered.sum())


def test_the_hypervolume_of_nothing_is_nothing_and_nonsense_is_refused():
    assert hypervolume(np.empty((0, 2)), np.ones(2)) == 0
    assert hypervolume(np.full((2, 2), np.inf), np.ones(2)) == 0
    with pytest.raises(ValueError, match="points must be"):
        hypervolume(np.zeros((2, 2)), np.ones(3))
    with pytest.raises(ValueError, match="needs numbers"):
        hypervolume(np.array([[np.nan, 1.0]]), np.ones(2))
