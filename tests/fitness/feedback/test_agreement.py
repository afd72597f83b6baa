import itertools

import krippendorff
import numpy as np
import pytest

from fitness.feedback.agreement import Scale, agreement, alpha
from fitness.feedback.judgements import Judgement


@pytest.mark.parametrize("scale", ["nominal", "ordinal"])
def test_alpha_is_that_of_the_krippendorff_package(scale: Scale) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        ratings = np.clip(rng.integers(1, 6, 12) + rng.integers(-1, 2, (3, 12)), 1, 5).astype(float)
        ratings[rng.random(ratings.shape) < 0.3] = np.nan
        units = [[int(v) for v in unit if v == v] for unit in ratings.T]
        ours = alpha([unit for unit in units if len(unit) > 1], scale)
        theirs = krippendorff.alpha(ratings, level_of_measurement=scale)
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_only_items_judged_by_two_count() -> None:
    said = [("i", "A", 1), ("i", "B", 1), ("j", "A", 5), ("j", "B", 5), ("k", "A", 3)]
    found = agreement([Judgement(i, by, "rating", v) for i, by, v in said], "rating")
    assert (found.alpha, found.items) == (1.0, 2)


def test_alpha_is_not_defined_where_nothing_could_differ() -> None:
    assert alpha([], "nominal") is None
    assert alpha([["tie", "tie"], ["tie", "tie"]], "nominal") is None


def test_the_order_of_judgements_does_not_matter() -> None:
    units = [[1, 2], [3, 3], [5, 4]]
    values = {alpha(list(order), "ordinal") for order in itertools.permutations(units)}
    assert np.ptp([v for v in values if v is not None]) < 1e-12
