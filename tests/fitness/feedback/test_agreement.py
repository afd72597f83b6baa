import itertools

import numpy as np
import pytest

from fitness.feedback.agreement import Scale, agreement, alpha
from fitness.feedback.judgements import Judgement

# Krippendorff, "Computing Krippendorff's alpha-reliability", 2011, example C: a row for each of
# four observers, 0 where one has not judged, and the values that the paper gives.
OBSERVED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
)


@pytest.mark.parametrize(("scale", "published"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_is_that_of_krippendorffs_example(scale: Scale, published: float) -> None:
    units = [[int(value) for value in unit if value] for unit in OBSERVED.T]
    found = alpha([unit for unit in units if len(unit) > 1], scale)
    assert found == pytest.approx(published, abs=5e-4)


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
