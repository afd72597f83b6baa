"""Real or generated: by a model that never saw the sample, its length, or the order of the pool."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.samples import discriminator
from fitness.samples.discriminator import realness, stretched
from tests.fitness.samples.pools import JARGON, good, sample


def loops(count: int) -> list[Sample]:
    return [
        replace(one, completion=" ".join(one.completion.split()[:3] * 12)) for one in good(count)
    ]


def test_repeated_loops_are_less_real_than_text_although_each_fold_is_blind_to_its_own() -> None:
    pool = [*good(30), *loops(30)]
    found = np.array(realness(pool, JARGON[40:], seed=0))
    assert (found[:30, None] > found[None, 30:]).mean() > 0.8


def test_a_score_does_not_follow_from_the_order_of_the_pool_but_from_the_seed() -> None:
    pool = [*good(12), *loops(12)]
    found = realness(pool, JARGON[40:], seed=3)
    assert found == realness(pool, JARGON[40:], seed=3)
    assert found[::-1] == realness(pool[::-1], JARGON[40:], seed=3)
    assert found != realness(pool, JARGON[40:], seed=4)


def test_no_sample_is_scored_by_a_model_that_learned_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Recording:
        def __init__(self) -> None:
            self.model = discriminator_model()

        def fit(self, vectors: Any, labels: np.ndarray) -> "Recording":
            self.learned = rows(vectors[labels == 0])
            self.model.fit(vectors, labels)
            return self

        def predict_proba(self, vectors: Any) -> Any:
            asked = rows(vectors)
            assert asked
            assert not asked & self.learned
            scored.append(len(asked))
            return self.model.predict_proba(vectors)

    def rows(vectors: Any) -> set[bytes]:
        return {row.toarray().tobytes() for row in vectors}

    scored: list[int] = []
    discriminator_model = discriminator._model
    monkeypatch.setattr(discriminator, "FEATURES", 2**10)
    monkeypatch.setattr(discriminator, "_model", Recording)
    pool = [*good(9), *good(5), *loops(3)]  # five of them twice
    found = realness(pool, JARGON[40:], seed=0)
    assert sum(scored) == 12
    assert len(scored) == 5
    assert found[:5] == found[9:14]


def test_lengths_of_real_text_are_those_of_the_samples() -> None:
    lengths = [3, 40, 400, 100_000]
    found = stretched(JARGON, lengths, np.random.default_rng(0))
    assert [len(text) for text in found[:3]] == pytest.approx(lengths[:3], abs=3)
    assert len(found[3]) == max(len(text.strip()) for text in JARGON), "the longest there is"
    everything = "\n".join(JARGON)
    assert all(text in everything for text in found)


def test_nothing_to_learn_from_is_chance_and_no_real_text_is_an_error() -> None:
    assert realness([sample(" one")], JARGON, seed=0) == [0.5]
    assert realness([sample(" same")] * 4, JARGON, seed=0) == [0.5] * 4
    assert realness([], [], seed=0) == []
    with pytest.raises(InputError, match="no real text"):
        realness(good(3), [" "], seed=0)


def test_two_samples_and_one_of_100_kb_are_scored() -> None:
    found = realness([sample(" x"), sample("word " * 20_000), sample("")], JARGON, seed=0)
    assert all(0 <= value <= 1 for value in found)
