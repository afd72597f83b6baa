"""Thresholds: the samples that a recipe selects from a pool, and the table of those it drops."""

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fitness.errors import InputError
from fitness.filters import FILTERS
from fitness.mixture.thresholds import band, missing_scores, passing, passing_all
from fitness.recipe import Recipe, idle
from fitness.samples.yields import EXAMPLES, columns, yields
from tests.fitness.samples.pools import good, numbered, sample

VALUES = st.lists(
    st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 1.0, float("nan")])), max_size=30
).map(lambda values: np.array(values, dtype=float))


def keeping(**thresholds: float) -> Recipe:
    """A recipe that keeps these shares of a pool; its fields are made from the registry."""
    return Recipe.model_validate({f"keep_{name}": share for name, share in thresholds.items()})


def of(recipe: Recipe, name: str, values: list[float] | np.ndarray) -> list[bool]:
    mask: list[bool] = passing_all(recipe, {name: np.array(values)}, len(values)).tolist()
    return mask


def test_the_defaults_keep_every_sample_whatever_it_scored() -> None:
    assert of(Recipe(), "realness", [0.1, float("nan"), 0.9]) == [True] * 3
    assert passing_all(Recipe(), {}, 2).tolist() == [True, True]
    cutting = {name for name, one in FILTERS.items() if one.threshold}
    assert all(band(Recipe(), name) == (0, 1) for name in {*cutting, "rhyme"})
    for name in FILTERS.keys() - cutting:
        assert of(Recipe(), name, [0.0, 1.0]) == [True] * 2


def test_shares_keep_the_side_that_is_better() -> None:
    values = [float(n) for n in range(10)]
    assert of(keeping(realness=0.3), "realness", values) == [n >= 7 for n in range(10)]
    assert of(keeping(duplicate=0.3), "duplicate", values) == [n < 3 for n in range(10)]
    assert of(keeping(own=0.3), "rhyme", values) == [n >= 7 for n in range(10)]
    banded = keeping(perplexity_low=0.2, perplexity_high=0.9)
    assert of(banded, "perplexity", values) == [2 <= n < 9 for n in range(10)]


def test_a_share_of_a_few_rounds_up_and_one_or_equal_samples_are_all_kept() -> None:
    assert of(keeping(realness=0.01), "realness", [0.2, 0.4, 0.3]) == [False, True, False]
    assert of(keeping(realness=0.01), "realness", [0.2]) == [True]
    assert of(keeping(repetition=0.1), "repetition", [0.5] * 5) == [True] * 5
    assert of(keeping(realness=0.5), "realness", []) == []


def test_what_could_not_be_scored_passes_no_cut_by_it() -> None:
    nan = float("nan")
    assert of(keeping(perplexity_high=0.5), "perplexity", [nan, 3, 2]) == [False, False, True]
    assert of(keeping(realness=0.5), "realness", [nan, nan]) == [False, False]


def test_a_cut_by_ratings_spares_what_nobody_rated() -> None:
    nan = float("nan")
    recipe = keeping(rating=0.5)
    assert of(recipe, "rating", [nan, 5, 1, nan]) == [True, True, False, True]
    assert of(recipe, "rating", [nan, nan]) == [True, True]
    assert passing_all(recipe, {}, 2).tolist() == [True, True]
    assert missing_scores(recipe, ["length"]) == []
    assert missing_scores(keeping(reward=0.5), ["length"]) == ["reward"]
    table = yields([sample(" a", rating=2.0), sample(" b", rating=4.0), sample(" c")], recipe)
    [row] = table["filters"]
    assert (table["kept"], row["dropped"], row["least"], row["greatest"]) == (2, 1, 4.0, 4.0)
    assert [one["score"] for one in row["examples"]] == [2.0]


def test_cuts_meet_and_two_that_contradict_each_other_leave_nothing() -> None:
    scores = {"realness": np.array([0.1, 0.9]), "likelihood": np.array([-1.0, -2.0])}
    recipe = keeping(realness=0.5, likelihood=0.5)
    assert passing_all(recipe, scores, 2).tolist() == [False, False]
    assert {name: mask.sum() for name, mask in passing(recipe, scores, 2).items()} == {
        "realness": 1,
        "likelihood": 1,
    }


@given(VALUES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_larger_share_never_keeps_less(values: np.ndarray, one: float, other: float) -> None:
    small, large = sorted((one, other))
    for name in ("realness", "repetition", "rhyme"):
        field = "own" if name == "rhyme" else name
        few = np.array(of(keeping(**{field: small}), name, values), dtype=bool)
        many = np.array(of(keeping(**{field: large}), name, values), dtype=bool)
        assert not (few & ~many).any()
        assert few.sum() >= small * (~np.isnan(values)).sum() - 1e-6 or small == 1


@given(VALUES, st.floats(0, 0.5), st.floats(0.5, 1), st.randoms())
def test_a_band_holds_the_middle_and_no_order_of_the_pool_decides(
    values: np.ndarray, low: float, high: float, random: Random
) -> None:
    recipe = keeping(length_low=low, length_high=high)
    mask = np.array(of(recipe, "length", values), dtype=bool)
    order = list(range(len(values)))
    random.shuffle(order)
    again = of(recipe, "length", values[order]) if len(order) else []
    assert again == mask[order].tolist()


def test_a_score_that_the_pool_lacks_is_told() -> None:
    recipe = keeping(realness=0.5, own=0.9)
    assert missing_scores(recipe, ["contamination", "length"]) == ["realness", "own"]
    assert missing_scores(recipe, ["realness", "rhyme"]) == []
    with pytest.raises(InputError, match="keep_realness: the pool has no scores"):
        passing_all(recipe, {}, 3)
    with pytest.raises(InputError, match="keep_realness: the pool has scores 'length'"):
        passing_all(recipe, {"length": np.zeros(3)}, 3)


def test_a_share_of_nothing_and_a_band_upside_down_are_refused() -> None:
    for wrong in ({"keep_realness": 0}, {"keep_own": 1.1}, {"keep_length_low": 0.6}):
        with pytest.raises(ValidationError):
            Recipe.model_validate(wrong)


def test_without_a_pool_the_cuts_decide_nothing() -> None:
    fields = Recipe().model_dump()
    unused = idle({**fields, "source": "text"}) - idle({**fields, "source": "sample"})
    assert unused == {name for name in fields if name.startswith("keep_")}


def test_the_table_tells_what_each_filter_dropped_with_the_furthest_examples() -> None:
    pool = numbered(
        good(10),
        realness=[n / 10 for n in range(10)],
        length=[40.0, 41.0, 42.0, 43.0, 44.0, 45.0, 46.0, 47.0, 48.0, 1.0],
        contamination=[0.0] * 8 + [0.9, 0.0],
    )
    table = yields(pool, keeping(realness=0.5, length_low=0.2))
    assert json.loads(json.dumps(table)) == table
    assert (table["samples"], table["kept"]) == (10, 4)
    by_name = {row["filter"]: row for row in table["filters"]}
    assert by_name.keys() == {"contamination", "realness", "length"}
    assert by_name["contamination"]["dropped"] == 1
    assert [one["score"] for one in by_name["contamination"]["examples"]] == [0.9]
    real = by_name["realness"]
    assert (real["dropped"], real["dropped_alone"], real["yield"]) == (4, 4, pytest.approx(5 / 9))
    assert [one["score"] for one in real["examples"]] == [0.0, 0.1, 0.2]
    assert len(real["examples"]) == EXAMPLES
    assert real["examples"][0]["completion"] == pool[0].completion
    assert (real["least"], real["greatest"]) == (0.4, 0.9)
    assert [one["score"] for one in by_name["length"]["examples"]] == [1.0]


def test_the_table_of_no_samples_and_of_nothing_left_is_a_table() -> None:
    assert yields([], Recipe()) == {"samples": 0, "kept": 0, "filters": []}
    spoilt = [sample(" a", contamination=1.0), sample(" b", contamination=0.5)]
    table = yields(spoilt, Recipe())
    assert (table["kept"], table["filters"][0]["yield"]) == (0, 0.0)
    unscored = [sample(" a"), sample(" b", realness=0.5)]
    [row] = yields(unscored, keeping(realness=0.9))["filters"]
    assert (row["dropped"], row["examples"][0]["score"]) == (1, None)
    assert np.isnan(columns(unscored)["realness"][0])
