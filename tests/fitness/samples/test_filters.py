"""Filters by name: models, own functions, bad input, and what is stored with a sample."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fitness.data.documents import Source
from fitness.data.prompts import Prompts
from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement
from fitness.filters import CONTAMINATION, FILTERS, MODELS, needs
from fitness.inference.likelihood import perplexity
from fitness.models.base import Base
from fitness.reward.model import LEAST
from fitness.samples.references import drawn, evaluated_texts, texts_of
from fitness.samples.scoring import Given, scored
from tests.fitness.feedback.people import known, liking, rated, singles, texts
from tests.fitness.quickstart import CORPUS
from tests.fitness.samples.pools import JARGON, good, sample


def test_every_filter_scores_every_sample_and_each_score_is_one_that_recipes_know(
    base: Base,
) -> None:
    pool = [replace(one, reference="1") for one in good(6)]
    drafts = [Item(one.prompt, (Draft(one.completion),)) for one in pool]
    judged = singles(LEAST)
    given = Given(
        base=base,
        second=base,
        real=JARGON[40:],
        training=lambda: JARGON[20:],
        evaluated=JARGON[:1],
        items=known([*judged, *drafts]),
        judgements=rated([*judged, *drafts]),
    )
    found = scored(pool, FILTERS, given)
    assert all(one.scores.keys() == FILTERS.keys() for one in found)
    assert found[0].scores[CONTAMINATION] == 1
    assert found[0].scores["likelihood"] == pytest.approx(-math.log(found[0].scores["perplexity"]))
    assert [(one.prompt, one.completion) for one in found] == [
        (one.prompt, one.completion) for one in pool
    ]


def test_worker_and_driver_each_add_their_own_scores(base: Base) -> None:
    pool = good(3)
    with_model = [name for name in FILTERS if needs(name) in MODELS]
    assert with_model == ["perplexity", "likelihood"]
    first = scored(pool, ["perplexity"], Given(base=base))
    both = scored(first, ["length", "repetition"], Given())
    assert both[1].scores.keys() == {"perplexity", "length", "repetition"}


def test_a_loop_has_a_low_perplexity_and_shuffled_words_a_high_one(base: Base) -> None:
    [plain] = good(1)
    words = plain.completion.split()
    loop = sample(" " + " ".join(words[:4] * 10), plain.prompt)
    order = np.random.default_rng(0).permutation(words)
    noise = sample(" " + " ".join(order), plain.prompt)
    low, middle, high = (
        one.scores["perplexity"]
        for one in scored([loop, plain, noise], ["perplexity"], Given(base=base))
    )
    assert low < middle < high


def test_nothing_written_has_no_perplexity_and_100_kb_are_cut_to_the_context(base: Base) -> None:
    pool = [sample(""), sample("word " * 20_000, "long " * 20_000), sample(" text")]
    found = scored(pool, ["perplexity", "length"], Given(base=base))
    assert found[0].scores == {"length": 0.0}
    assert found[1].scores["length"] == 20_000
    assert all(one.scores["perplexity"] >= 1 for one in found[1:])
    assert perplexity(-1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_own_functions_are_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_filters.py").write_text(
        "def vowels(prompts, completions):\n"
        "    return [sum(c in 'aeiou' for c in text) for text in completions]\n"
        "def short(prompts, completions):\n    return [1.0]\n"
        "def wrong(prompts, completions):\n    return ['a' for _ in prompts]\n"
        "def endless(prompts, completions):\n    return [float('inf') for _ in prompts]\n"
        "def alone(prompts, completions):\n    return 3\n"
        "def length(prompts, completions):\n    return [1.0 for _ in prompts]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = [sample(" aeiou"), sample(" xyz")]
    found = scored(pool, ["own_filters:vowels"], Given())
    assert [one.scores["vowels"] for one in found] == [5, 0]
    told = {
        "short": "1 numbers for 2 samples",
        "wrong": "gave 'a'",
        "endless": "gave inf",
        "alone": "1 numbers for 2",
        "length": "one of this name already",
        "vowel": "has no 'vowel'.*did you mean 'vowels'",
    }
    for name, message in told.items():
        with pytest.raises(InputError, match=message):
            scored(pool, [f"own_filters:{name}"], Given())
    del sys.modules["own_filters"]


def test_what_people_said_of_a_sample_is_its_rating_and_what_they_would_say_its_reward() -> None:
    pool = [sample(text, f"pool {n}:") for n, text in enumerate(texts(120)[60:])]
    mine, other = (Item(one.prompt, (Draft(one.completion),)) for one in pool[:2])
    both = Item(pool[2].prompt, (Draft(pool[2].completion), Draft(" x")))
    judged = [*singles(60), mine, other, both]
    judgements = [
        *rated(judged[:60]),
        *rated([mine], "Ada", -1),
        *rated([mine], "Bob", -2),
        Judgement(other.id, "Ada", "critique", "bad"),
        Judgement(both.id, "Ada", "preference", "first"),
        Judgement(mine.id, "Ada", "rating/wit", 1),
        Judgement(other.id, "Ada", "rating/wit", 5),
        Judgement(other.id, "Bob", "rating/wit", 4),
    ]
    given = Given(items=known(judged), judgements=judgements)
    pool.append(replace(pool[0], suffix=" and more"))
    found = scored(pool, ["reward", "rating", "rating/wit", "raters"], given)
    assert [one.scores.get("rating/wit") for one in found[:3]] == [1, 4.5, None]
    assert [one.scores.get("raters") for one in found[:3]] == [1, 2, None], "wit has one of two"
    assert [one.scores.get("rating") for one in found[:3]] == [3.5, None, None]
    assert "rating" not in found[-1].scores, "which nobody saw with what follows"
    best = [one.scores["reward"] for one in found if liking(one.completion) == 5]
    rest = [one.scores["reward"] for one in found if liking(one.completion) < 5]
    assert np.median(best) > max(np.quantile(rest, 0.75), 0)
    few = Given(items=known(judged), judgements=judgements[: LEAST - 1])
    with pytest.raises(InputError, match=f"too little to learn from; it takes {LEAST} ratings"):
        scored(pool, ["reward"], few)
    assert not any(one.scores for one in scored(pool, ["rating"], Given()))


def test_unknown_filters_and_missing_models_are_told() -> None:
    with pytest.raises(InputError, match=r"filter 'realnes': unknown.*did you mean 'realness'"):
        scored(good(1), ["realnes"], Given())
    with pytest.raises(InputError, match="unknown"):
        scored([], ["realnes"], Given())
    with pytest.raises(InputError, match="no module 'nowhere'"):
        needs("nowhere:at_all")
    with pytest.raises(InputError, match="'likelihood': needs a model"):
        scored(good(1), ["likelihood"], Given())


def test_an_empty_pool_stays_empty(base: Base) -> None:
    assert scored([], FILTERS, Given(base=base, second=base)) == []


def test_all_that_is_measured_on_is_collected_once(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        '{"prompt": [{"role": "user", "content": "Say it"}], "chosen": [{"role": "assistant", '
        '"content": "It"}], "rejected": [{"role": "assistant", "content": "No"}]}\n'
    )
    held_out = [
        (Source(path="held_out/jargon.test.jsonl"), None),
        (Source(path=str(pairs), kind="preference"), None),
    ]
    asked = [Prompts(["a?", "b?"], ["A", "B"]), Prompts(["a?"], ["A"])]
    found = evaluated_texts(held_out, asked, CORPUS)
    assert found[-5:] == ["Say it It No", "a?", "b?", "a? A", "b? B"]
    assert len(found) == 87 + 5


def test_documents_are_drawn_evenly_and_in_one_pass() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros(10)
    for _ in range(400):
        for text in drawn(iter("abcdefghij"), 3, rng):
            counts["abcdefghij".index(text)] += 1
    assert counts.sum() == 1200
    assert counts.min() > 80
    assert drawn(["a"], 3, rng) == ["a"]
    assert list(texts_of(Source(path="held_out/jargon.selection.jsonl"), CORPUS)) == JARGON


def test_a_sample_keeps_the_scores_it_had() -> None:
    before = Sample("a", " b", 1, 2, scores={"rating": 4.0})
    assert scored([before], ["length"], Given())[0].scores == {"rating": 4.0, "length": 1.0}
