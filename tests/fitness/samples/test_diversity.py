"""A collapse shows in fewer different words and in texts alike."""

import math

import pytest

from fitness.samples.diversity import diversity, entropy, passages, self_bleu
from tests.fitness.samples.pools import JARGON


def test_entropy_is_that_of_the_words():
    assert entropy(["a b", "c d"]) == pytest.approx(math.log(4))
    assert entropy(["a a a"]) == 0.0
    assert entropy([]) == 0.0


def test_texts_that_are_alike_have_a_high_self_bleu():
    texts = list(JARGON[:8])
    alike = self_bleu([texts[0]] * 8)
    assert alike == pytest.approx(1.0)
    assert self_bleu(texts) < 0.5 * alike
    assert self_bleu(texts[:1]) == 0.0


def test_passages_are_as_long_as_what_they_stand_beside():
    real = ["one two three", "four five"]
    assert passages(real, ["a b", "c d", "e"]) == ["one two", "three four", "five"]
    assert passages(real, ["a b", "c d e f", "g"]) == ["one two"]  # then there is none left
    assert passages([], ["a"]) == []


def test_a_collapsed_pool_is_told_from_real_text():
    real = list(JARGON[:10])
    same = diversity(real, real)
    assert same["distinct_ratio"] == pytest.approx(1.0)
    assert same["entropy_ratio"] == pytest.approx(1.0)
    loops = [" ".join(text.split()[:3] * 10) for text in real]
    collapsed = diversity(loops, real)
    assert collapsed["distinct_ratio"] < 0.6
    assert collapsed["entropy_ratio"] < 1.0
