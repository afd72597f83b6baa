"""The reward model: what it learns from, what it makes of texts it has not seen, what it knows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement, Kind
from fitness.models.base import Base
from fitness.reward.comparisons import said
from fitness.reward.model import LEAST, Reward, enough, fitted, folds_of
from tests.fitness.feedback.people import (
    corrected,
    known,
    liking,
    pairs,
    preferred,
    rated,
    singles,
    texts,
    wrong,
)

UNSEEN = texts(220)[160:]


def reward_of(items: list[Item], judgements: list[Judgement], **settings: Any) -> Reward:
    found = fitted(known(items), judgements, **{"seed": 0, **settings})
    assert found is not None
    return found


def agreement(reward: Reward) -> float:
    """Rank correlation of the rewards of unseen texts with how people like them."""
    means, _ = reward.scores(["word:"] * len(UNSEEN), UNSEEN)
    return float(spearmanr(means, [liking(text) for text in UNSEEN]).statistic)


@pytest.mark.parametrize("kind", ["rating", "preference", "correction"])
def test_each_kind_of_judgement_teaches_what_people_like(kind: str) -> None:
    items = pairs(40) if kind == "preference" else singles(60)
    say = {"rating": rated, "preference": preferred, "correction": corrected}[kind]
    reward = reward_of(items, say(items))
    assert agreement(reward) > 0.7
    held_out = reward.held_out
    if kind == "rating":
        assert held_out.ratings == 60
        assert held_out.correlation is not None
        assert held_out.correlation > 0.7
        assert (held_out.pairs, held_out.accuracy) == (0, None)
    else:
        assert held_out.pairs == len(say(items))
        assert held_out.accuracy is not None
        assert held_out.accuracy > 0.85


def test_people_who_like_the_opposite_teach_the_opposite() -> None:
    items = [*singles(40), *pairs(20)]
    judgements = [*rated(items[:40]), *preferred(items[40:])]
    assert agreement(reward_of(items, wrong(judgements))) < -0.7


def test_one_who_is_lenient_and_one_who_is_strict_are_understood() -> None:
    """Ada rates good texts low, Bob bad ones high: by value alone the bad ones would win."""
    items = singles(90)
    best = [one for one in items if liking(one.drafts[0].text) == 5]
    rest = [one for one in items if liking(one.drafts[0].text) < 5]
    ada = [*rated(best, "Ada", -3), *rated(rest[:20], "Ada", -3)]
    bob = [*rated(rest[20:], "Bob", 2), *rated(best[:10], "Bob", 2)]
    assert agreement(reward_of(items, [*ada, *bob])) > 0.6


def test_skips_critiques_and_labels_say_nothing() -> None:
    items = singles(60)
    empty: tuple[tuple[Kind, Any], ...] = (
        ("critique", "bad"),
        ("labels", ["off"]),
        ("skip", None),
    )
    others = [Judgement(one.id, "Bob", kind, value) for one in items for kind, value in empty]
    one, same = (reward_of(items, [*rated(items), *more]) for more in ([], others))
    assert one.judgements == same.judgements == 60
    assert not enough(known(items), others)
    for found, again in zip(one.scores(["a"], [" b"]), same.scores(["a"], [" b"]), strict=True):
        np.testing.assert_array_equal(found, again)


def test_too_few_judgements_and_those_that_tell_nothing_apart_teach_nothing() -> None:
    items = singles(60)
    assert fitted({}, [], seed=0) is None
    assert fitted(known(items), rated(items[: LEAST - 1]), seed=0) is None
    assert fitted(known(items), rated(items[:LEAST]), seed=0) is not None
    same = [replace(one, value=3) for one in rated(items)]
    assert fitted(known(items), same, seed=0) is None
    ties = [Judgement(one.id, "Ada", "preference", "tie") for one in pairs(30)]
    assert fitted(known(pairs(30)), ties, seed=0) is None


def test_uncertainty_falls_with_judgements_and_is_larger_for_what_is_unlike_them() -> None:
    items = singles(120)
    few, many = (reward_of(items, rated(items[:count])) for count in (24, 120))
    asked = ["word:"] * len(UNSEEN)
    assert many.scores(asked, UNSEEN)[1].mean() < 0.8 * few.scores(asked, UNSEEN)[1].mean()
    strange = ["x = [1, 2]\nprint(x)\n" * 5]
    assert many.scores([""], strange)[1][0] > many.scores(asked, UNSEEN)[1].max()


def test_a_judged_text_is_scored_by_a_model_that_did_not_learn_from_it() -> None:
    """A favourite that nothing else explains is not known by what was said of itself."""
    items = singles(60)
    plain = [replace(one, value=1 + 4 * (place == 0)) for place, one in enumerate(rated(items))]
    reward = reward_of(items, plain)
    text = items[0].drafts[0].text
    mean, _ = reward.scores([items[0].prompt], [text])
    leaked, _ = reward.whole.of(reward.traits.of([items[0].prompt], [text]))
    assert mean[0] < leaked[0]
    elsewhere, _ = reward.scores(["another prompt"], [text])
    assert elsewhere[0] < leaked[0], "whatever prompt it follows"


def test_what_is_compared_or_equal_is_left_out_together() -> None:
    items = [*pairs(20), Item("again", (Draft(pairs(1)[0].drafts[0].text),))]
    every = said(known(items), [*preferred(items[:20]), Judgement(items[20].id, "B", "rating", 3)])
    folds = folds_of(every, np.random.default_rng(0))
    for one in every:
        if one.other is not None:
            assert folds[one.text.completion.strip()] == folds[one.other.completion.strip()]
    assert set(folds.values()) == {0, 1, 2, 3, 4}
    alone = [Item("", (Draft(text),)) for text in texts(30)]
    every = said(known(alone), rated(alone))
    assert len(set(folds_of(every, np.random.default_rng(0)).values())) == 5, "of one prompt too"


def test_the_same_judgements_give_the_same_rewards_and_nothing_gives_nothing() -> None:
    items = singles(40)
    one, again = (reward_of(items, rated(items)) for _ in range(2))
    for found, same in zip(
        one.scores([""] * 60, UNSEEN), again.scores([""] * 60, UNSEEN), strict=True
    ):
        np.testing.assert_array_equal(found, same)
        assert np.isfinite(found).all()
    assert one.scores([], [])[0].shape == (0,)
    means, deviations = one.scores(["", ""], ["", "word " * 20_000])
    assert np.isfinite([means, deviations]).all()


def test_all_that_was_said_may_be_of_one_pair(base: Base) -> None:
    [item] = pairs(1)
    judgements = [
        replace(one, annotator=f"person {n}") for n in range(LEAST) for one in preferred([item])
    ]
    reward = reward_of([item], judgements)
    first, second = reward.whole.of(
        reward.traits.of([item.prompt] * 2, [draft.text for draft in item.drafts])
    )[0]
    assert (first > second) == (judgements[0].value == "first")
    assert reward.held_out.accuracy == 0.5, "left out, nothing is known"


def test_how_likely_a_model_finds_a_text_can_be_what_people_like(base: Base) -> None:
    """Shuffled words have the same words, length and end; only their order is bad."""
    rng = np.random.default_rng(0)
    items = []
    for n, text in enumerate(texts(3 * 60)[::3]):
        words = text.strip().rstrip(".").split()
        shuffled = " " + " ".join(rng.permutation(words)) + "."
        items.append(Item(f"word {n}:", tuple(map(Draft, (text, shuffled)))))
    judgements = [Judgement(one.id, "Ada", "preference", "first") for one in items]
    blind, sighted = (reward_of(items, judgements, base=given) for given in (None, base))
    assert sighted.held_out.accuracy is not None
    assert blind.held_out.accuracy is not None
    assert sighted.held_out.accuracy > max(0.85, blind.held_out.accuracy)
