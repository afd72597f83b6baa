"""Which items are asked next: the telling ones, apart from one another, and some blindly."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement
from fitness.reward.choice import ALIKE, chosen, compared, disagreement, information
from fitness.reward.model import Reward, fitted
from tests.fitness.feedback.people import known, pairs, preferred, rated, singles, texts

JUDGED = singles(60)
SAID = rated(JUDGED)
FRESH = [Item(f"new {n}:", (Draft(text),)) for n, text in enumerate(texts(200)[60:])]


@cache
def learned() -> Reward:
    """The reward model of all judgements; for all tests, since it takes longest."""
    found = fitted(known(JUDGED), SAID, seed=0)
    assert found is not None
    return found


def choose(
    candidates: list[Item], count: int, seed: int = 0, said: list[Judgement] = SAID, **more: Any
) -> list[Item]:
    rng = np.random.default_rng(seed)
    more = {"reward": learned() if said else None, **more}
    return chosen(candidates, count, items=known(JUDGED), judgements=said, rng=rng, **more)


def test_what_the_model_is_least_sure_of_comes_first_and_every_fifth_is_blind() -> None:
    reward = learned()
    found = choose(FRESH, 40)
    telling = information(FRESH, reward)
    worth = {one.id: value for one, value in zip(FRESH, telling, strict=True)}
    assert worth[found[0].id] == max(telling)
    picked = [worth[one.id] for place, one in enumerate(found) if (place + 1) % 5]
    blind = [worth[one.id] for place, one in enumerate(found) if not (place + 1) % 5]
    assert len(blind) == 8
    assert np.mean(picked) > np.mean(telling) > 0
    assert np.mean(blind) < np.mean(picked)


def test_two_drafts_that_seem_equal_tell_nothing_and_their_order_does_not_matter() -> None:
    reward = fitted(known(pairs(60)), preferred(pairs(60)), seed=0)
    assert reward is not None
    text = texts(400)[390]
    same = Item("p", (Draft(text), Draft(text + " ")))
    assert information([same], reward) == pytest.approx(0, abs=1e-6)
    [pair] = pairs(1)
    turned = Item(pair.prompt, pair.drafts[::-1])
    np.testing.assert_allclose(information([pair], reward), information([turned], reward))
    np.testing.assert_allclose(compared([pair], reward), -compared([turned], reward))


def test_a_sure_answer_tells_less_than_an_open_one() -> None:
    reward = learned()
    every = texts(200)[60:]
    sure = [Item("", tuple(map(Draft, every[n : n + 3 : 2]))) for n in range(0, 60, 3)]
    open_ones = [Item("", tuple(map(Draft, every[n : n + 4 : 3]))) for n in range(0, 60, 3)]
    assert np.median(information(sure, reward)) < np.median(information(open_ones, reward))


def test_items_taken_together_tell_more_than_those_that_tell_most_alone() -> None:
    """After the first is asked, one like it tells less: the rest of the batch is unlike it."""
    reward = learned()
    batch = [one for place, one in enumerate(choose(FRESH, 25)) if (place + 1) % 5]
    order = np.argsort(-information(FRESH, reward))
    greedy = [FRESH[place] for place in order[: len(batch)]]

    def told(items: list[Item]) -> float:
        """log det(1 + D S D'): the information of all of them, were each outcome open."""
        rows = compared(items, reward)
        inner = np.eye(len(items)) + rows @ reward.whole.covariance @ rows.T / 4
        return float(np.linalg.slogdet(inner)[1])

    assert told(batch) > told(greedy)


def test_no_two_that_are_nearly_the_same_and_none_that_was_judged() -> None:
    text = " ".join(texts(300)[290:294])
    alike = [Item(f"p{n}", (Draft(f" {text} and {n}"),)) for n in range(10)]
    assert len(choose(alike, 10)) == 1
    assert 0.5 < ALIKE < 1
    assert choose(JUDGED, 10) == []
    assert {one.id for one in choose([*JUDGED, *FRESH], 200)}.isdisjoint(known(JUDGED))
    assert len(choose([FRESH[0], FRESH[0]], 2)) == 1


def test_with_nothing_learned_yet_all_are_random() -> None:
    first = choose(FRESH, 20, said=[])
    assert first == choose(FRESH, 20, said=[])
    assert first != choose(FRESH, 20, seed=1, said=[])
    assert len({one.id for one in first}) == 20
    counts = np.zeros(10)
    for seed in range(200):
        for one in choose(FRESH[:10], 3, seed=seed, said=[]):
            counts[FRESH.index(one)] += 1
    assert counts.min() > 0.5 * counts.mean()


def test_no_candidates_none_asked_and_more_than_there_are() -> None:
    assert choose([], 5) == []
    assert choose(FRESH, 0) == []
    assert len(choose(FRESH[:7], 50)) == 7


def test_filters_that_disagree_of_an_item_make_it_worth_more() -> None:
    scores = [{"realness": 0.1 * n, "repetition": 0.1 * n, "length": 3.0} for n in range(5)]
    np.testing.assert_allclose(disagreement(scores), [1, 0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(disagreement([{}, {"realness": 1.0}]), [0, 0])
    dirty = [{"realness": 0.1 * n, "contamination": 0.5 - 0.1 * n} for n in range(5)]
    np.testing.assert_array_equal(disagreement(dirty), np.zeros(5))
    reward = learned()
    order = np.argsort(-information(FRESH, reward))
    second, last = (FRESH[order[place]] for place in (1, -1))
    found = {one.id: {"realness": 0.5, "repetition": 0.5} for one in FRESH}
    found[second.id] = {"realness": 1.0, "repetition": 1.0}
    found[last.id] = {"realness": 0.0, "repetition": 0.0}
    assert choose(FRESH, 1, reward=reward, scores=found) == [second]
