from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from population.individual import Individual
from population.rungs import LEAST, chance, hopeless, promote, within_reach

RUNGS = (0.0625, 0.25, 1.0)
LOW, MIDDLE, FULL = RUNGS
TWO = (LOW, FULL)


def told(fidelity, rows, first=0):
    """Individuals of these losses on a rung; None is a failed one."""
    found = []
    for number, row in enumerate(rows, first):
        losses = (np.inf,) if row is None else tuple(np.atleast_1d(row).tolist())
        violation = np.inf if row is None else 0.0
        found.append(Individual(number, {}, losses=losses, violation=violation, fidelity=fidelity))
    return found


def promotions(scored, rungs=RUNGS, share=0.25):
    """(id, rung) of all that are promoted before another one is bred."""
    left: list[tuple[int, float]] = []
    while (one := promote(scored, rungs, left, share=share)) is not None:
        left.append((one.id, one.fidelity))
    return left


# ---------------------------------------------------------------- promotion


def test_the_best_quarter_goes_on_best_first_and_the_rest_waits():
    scored = {LOW: told(LOW, [5, 3, 8, 1, 7, 2, 6, 4])}
    assert promotions(scored) == [(3, LOW), (5, LOW)]
    assert promotions({LOW: scored[LOW][:3]}) == []
    assert promotions({}) == []


def test_who_waits_goes_on_once_enough_worse_ones_have_come():
    scored = {LOW: told(LOW, [1, 2, 3, 4])}
    assert promotions(scored) == [(0, LOW)]
    assert promotions({LOW: told(LOW, [1, 2, 3, 4, 9, 9, 9, 9])}) == [(0, LOW), (1, LOW)]
    assert promotions({LOW: told(LOW, [3, 4, 5, 6, 2, 1, 9, 9])}) == [(5, LOW), (4, LOW)]


def test_the_highest_rung_comes_first_and_the_last_one_leads_nowhere():
    scored = {LOW: told(LOW, [1, 2, 3, 4]), MIDDLE: told(MIDDLE, [4, 3, 2, 1])}
    assert promotions(scored) == [(3, MIDDLE), (0, LOW)]
    assert promotions({FULL: told(FULL, [1, 2, 3, 4])}) == []
    assert promotions(scored, rungs=(FULL,)) == []


def test_a_share_of_one_lets_all_go_on_but_the_failed():
    scored = {LOW: told(LOW, [2, None, 1, 2])}
    assert promotions(scored, share=1.0) == [(2, LOW), (0, LOW), (3, LOW)]


def test_the_failed_make_room_for_others_but_do_not_go_on():
    assert promotions({LOW: told(LOW, [None] * 6 + [1, 2])}) == [(6, LOW), (7, LOW)]
    assert promotions({LOW: told(LOW, [None] * 8)}) == []


def test_who_misses_a_constraint_comes_after_who_meets_it():
    scored = told(LOW, [1, 2, 3, 4])
    scored[0] = replace(scored[0], violation=0.1)
    assert promotions({LOW: scored}) == [(1, LOW)]


def test_of_two_objectives_the_front_goes_on_and_of_a_crowded_front_its_ends_and_the_lonelier():
    line = [(0, 10), (1, 9), (1.1, 8.9), (1.2, 8.8), (5, 5), (10, 0)]
    scored = {LOW: told(LOW, line + [(20, 20)] * 6)}
    assert promotions(scored) == [(0, LOW), (4, LOW), (5, LOW)]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20), st.randoms()
)
def test_the_order_of_the_reports_changes_no_promotion(rows, random):
    scored = told(LOW, rows)
    shuffled = list(scored)
    random.shuffle(shuffled)
    assert promotions({LOW: scored}) == promotions({LOW: shuffled})


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=24),
    st.integers(0, 24),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_nobody_goes_on_later_who_was_out_of_reach_before(rows, now, share):
    scored = told(LOW, rows)
    if scored[:now]:
        reach = within_reach(scored[:now], len(rows), share=share)
        later = {number for number, _ in promotions({LOW: scored}, share=share)}
        assert {number for number in later if number < now} <= reach
        assert {number for number, _ in promotions({LOW: scored[:now]}, share=share)} <= reach


def test_no_more_are_in_reach_than_can_ever_go_on():
    assert within_reach(told(LOW, [4, 3, 2, 1, None]), 8) == {2, 3}
    assert within_reach(told(LOW, [4, 3, 2, 1, None]), 3) == set()
    assert within_reach(told(LOW, [4, None]), 100) == {0}


# ---------------------------------------------------------------- the hopeless


def history(rng, n, correlation, *, spread=1.0):
    """Curves of n individuals, all of which went all the way: {rung: individuals}."""
    rung = rng.normal(size=n)
    final = correlation * rung + np.sqrt(1 - correlation**2) * rng.normal(size=n)
    return {LOW: told(LOW, spread * rung), FULL: told(FULL, spread * final)}


def with_another(scored, losses):
    """The history with one more individual on the lower rung, and that individual."""
    (one,) = told(LOW, [losses], first=len(scored[LOW]))
    return one, {**scored, LOW: [*scored[LOW], one]}


def judged(scored, losses, **settings):
    one, scored = with_another(scored, losses)
    return hopeless(one, scored, TWO, **settings)


def test_who_is_far_behind_is_hopeless_and_who_is_near_the_best_is_not():
    for spread in (1e-6, 1.0, 1e6):
        scored = history(np.random.default_rng(0), 30, 0.95, spread=spread)
        assert judged(scored, 2.0 * spread)
        assert not judged(scored, -1.5 * spread)


def test_a_stricter_bound_drops_fewer():
    scored = history(np.random.default_rng(0), 60, 0.8)

    def dropped(bound):
        return sum(hopeless(one, scored, TWO, bound=bound) for one in scored[LOW])

    assert 0 < dropped(0.01) < dropped(0.05) < dropped(0.3) < 60


def test_every_rung_below_the_last_has_its_part_of_the_bound():
    scored = history(np.random.default_rng(0), 60, 0.8)

    def dropped(rungs, bound):
        return [one.id for one in scored[LOW] if hopeless(one, scored, rungs, bound=bound)]

    assert dropped(RUNGS, 0.2) == dropped(TWO, 0.1) != dropped(TWO, 0.2)


def test_nobody_is_hopeless_before_enough_went_all_the_way():
    scored = history(np.random.default_rng(0), LEAST, 0.999)
    assert judged(scored, 100.0)
    assert not judged({LOW: scored[LOW], FULL: scored[FULL][1:]}, 100.0)


def test_a_rung_that_does_not_tell_or_tells_the_contrary_drops_nobody():
    rung = np.arange(12.0)
    for final in (-rung, np.where(np.isin(rung, (0, 11)), 1.0, 0.0), np.zeros(12)):
        scored = {LOW: told(LOW, rung), FULL: told(FULL, final)}
        assert not any(hopeless(one, scored, TWO) for one in scored[LOW])
        assert not judged(scored, 50.0)
    assert not judged({LOW: told(LOW, np.ones(12)), FULL: told(FULL, rung)}, 1.0)


def test_finals_on_a_straight_line_leave_no_doubt():
    rung = np.arange(12.0)
    scored = {LOW: told(LOW, rung), FULL: told(FULL, 2 * rung)}
    assert [one.id for one in scored[LOW] if not hopeless(one, scored, TWO)] == [0]


def test_a_failed_one_is_hopeless_at_once_and_teaches_nothing():
    assert judged({LOW: [], FULL: []}, None)
    scored = history(np.random.default_rng(0), 30, 0.95)
    failed = {
        LOW: scored[LOW] + told(LOW, [None, 3.0], first=30),
        FULL: scored[FULL] + told(FULL, [None], first=31),
    }
    one, without = with_another({**scored, LOW: scored[LOW] + told(LOW, [3.0], first=31)}, 0.3)
    _, beside = with_another(failed, 0.3)
    for bound in (0.01, 0.05, 0.2, 0.5):
        assert hopeless(one, without, TWO, bound=bound) == hopeless(one, beside, TWO, bound=bound)


def test_only_who_meets_the_constraints_can_be_the_one_to_beat():
    scored = history(np.random.default_rng(0), 30, 0.95)
    scored[FULL] = [replace(one, violation=0.5) for one in scored[FULL]]
    assert not judged(scored, 2.0)
    scored[FULL][:3] = [replace(one, violation=0.0) for one in scored[FULL][:3]]
    assert judged(scored, 5.0)


def test_of_two_objectives_it_takes_being_behind_the_front_as_a_whole():
    rng = np.random.default_rng(0)
    place = np.linspace(0, 1, 40)
    rung = np.stack([place, 1 - place], axis=1) + rng.uniform(0, 0.3, size=(40, 1))
    final = rung + rng.normal(scale=0.03, size=(40, 2))
    scored = {LOW: told(LOW, rung), FULL: told(FULL, final)}
    assert not judged(scored, (0.0, 1.0))  # one end of the front: the worst of one objective
    assert not judged(scored, (0.5, 0.5))
    assert judged(scored, (0.9, 0.9))
    assert judged(scored, (1.5, 1.5))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_eventual_best_is_dropped_less_often_than_the_bound(correlation):
    dropped, saved, cases, n = 0, 0, 200, 40
    for seed in range(cases):
        rng = np.random.default_rng(seed)
        curves = history(rng, n, correlation)
        best = min(curves[FULL], key=lambda one: one.losses).id
        scored: dict[float, list[Individual]] = {LOW: [], FULL: []}
        for rung, final in zip(curves[LOW], curves[FULL], strict=True):
            scored[LOW].append(rung)
            if hopeless(rung, scored, TWO):
                saved += 1
                dropped += rung.id == best
            else:
                scored[FULL].append(final)
    assert dropped / cases <= 0.05
    assert saved / cases / n >= {0.0: 0.0, 0.5: 0.05, 0.9: 0.3}[correlation]


def test_the_chance_is_as_often_right_as_it_says():
    rng = np.random.default_rng(0)
    chances, outcomes = [], []
    for _ in range(2000):
        known = rng.normal(size=(10, 1))
        ended = 0.7 * known + rng.normal(size=(10, 1))
        losses, best = rng.normal(size=(1, 1)), np.array([[-1.0]])
        chances.append(chance(losses, known, ended, best)[0])
        outcomes.append(0.7 * losses[0, 0] + rng.normal() < -1.0)
    told_chance, came_true = np.array(chances), np.array(outcomes)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0)):
        these = (told_chance >= low) & (told_chance < high)
        assert these.sum() > 100
        assert came_true[these].mean() == pytest.approx(told_chance[these].mean(), abs=0.05)
