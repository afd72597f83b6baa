"""Texts that exist elsewhere already: near copies in the pool, copies of sources, held-out text."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fitness.samples.contamination import CONTAMINATED, contaminated, contamination
from fitness.samples.duplicates import completion_shingles, copied, duplicates
from fitness.text import shingles, words
from tests.fitness.samples.pools import JARGON, good, sample

WORDS = st.text("abc ", max_size=24)


def changed(text: str, every: int) -> str:
    said = text.split(" ")
    return " ".join("zebra" if place % every == every - 1 else w for place, w in enumerate(said))


def test_the_first_of_a_group_of_near_copies_is_no_duplicate_and_the_others_are() -> None:
    pool = good(20)
    near = replace(pool[3], completion=changed(pool[3].completion, 12), prompt="another prompt of")
    loud = replace(pool[5], completion=pool[5].completion.upper() + "!")
    found = duplicates([*pool, near, loud])
    assert max(found[:20]) < 0.2
    assert 0.5 < found[20] < 1
    assert found[21] == 1


def test_a_pool_of_one_text_keeps_the_first_and_an_empty_completion_is_no_copy() -> None:
    assert duplicates([sample(" all the same here")] * 50) == [0.0] + [1.0] * 49
    assert duplicates([sample(""), sample("", "a prompt")]) == [0.0, 0.0]
    assert duplicates([]) == []
    assert duplicates([sample(" yes", "is it")]) == [0.0]


def test_an_answer_of_one_word_is_a_copy_only_after_like_words() -> None:
    found = duplicates([sample(" noun", "the dog barks"), sample(" noun", "a cat sleeps")])
    assert found == [0.0, 0.0]
    assert duplicates([sample(" noun", "the dog barks"), sample(" noun", "big dog barks")])[1] == 1


@given(st.lists(WORDS, max_size=8), st.integers(0, 3))
@settings(max_examples=40)
def test_what_comes_later_changes_no_earlier_likeness(texts: list[str], seed: int) -> None:
    pool = [sample(text) for text in texts]
    found = duplicates(pool, seed=seed)
    assert all(0 <= value <= 1 for value in found)
    assert found[:3] == duplicates(pool[:3], seed=seed)


def test_a_copied_stretch_is_found_in_a_long_document_and_scattered_words_are_not() -> None:
    document = " ".join(JARGON)
    inside = sample(" " + " ".join(JARGON[7].split()[10:40]))
    half = sample(" ".join(JARGON[7].split()[10:25]) + " and then all of this was never said there")
    apart = sample(" ".join(" ".join(text.split()[:3]) for text in JARGON[20:30]))
    sets = [completion_shingles(one) for one in (inside, half, apart)]
    found = copied(sets, [document])
    assert found[0] == 1
    assert 0.4 < found[1] < 0.7
    assert found[2] < 0.3, "ten runs of three words from all over a text are no copy of a place"
    assert copied(sets, []) == [0, 0, 0]


@given(WORDS, WORDS)
@settings(max_examples=60)
def test_no_place_holds_more_than_the_whole_text_does(text: str, reference: str) -> None:
    one = shingles(words(text))
    share = copied([one], [reference])[0]
    everywhere = len(one & shingles(words(reference))) / len(one) if one else 0.0
    # of fewer than three words a text is one shingle, which no reference is searched for
    assert 0 <= share <= everywhere or (share == 0 and len(words(text)) < 3)


def test_held_out_text_is_found_with_changes_as_a_part_and_behind_a_prompt() -> None:
    held_out, others = JARGON[40:60], good(20)
    copies = [
        sample(changed(" ".join(text.split()[5:45]), 9), "Something else: ") for text in held_out
    ]
    asked = [sample(" something of its own, of which nobody knew", text) for text in held_out]
    part = sample(" it is said " + " ".join(held_out[0].split()[10:18]) + " by many of us")
    scores = contamination([*others, *copies, *asked, part], held_out)
    assert max(scores[:20]) < CONTAMINATED <= min(scores[20:])


def test_short_prompts_count_whole_and_labels_do_not() -> None:
    evaluated = ["grok (verb.cognition)", "grok: to understand it fully", "noun", "a big dog"]
    pool = [
        sample(" to understand it, fully.", "GROK"),
        sample(" noun", "house"),
        sample(" a big dog", "what is it?"),
        sample(" to eat it", "grok:"),
        sample(" understand it", "grok: to"),
    ]
    found = contaminated(pool, evaluated)
    assert [one.id in found for one in pool] == [True, False, False, False, True]


def test_a_template_that_many_evaluation_texts_share_is_no_secret() -> None:
    template = "Translate the following sentence from English to German, please, and say why:"
    evaluated = [f"{template} {text[:60]}" for text in JARGON[:20]]
    own = sample(" Guten Morgen, sagte die Katze.", f"{template} good morning, said the cat.")
    assert contamination([own], evaluated)[0] < CONTAMINATED
    assert contamination([own], evaluated[:5])[0] == 1, "of few texts it is a copy"
    assert contamination([sample(evaluated[3])], evaluated)[0] >= CONTAMINATED


def test_texts_without_spaces_are_compared_by_their_characters() -> None:
    held_out = "大規模言語モデルの評価に使う文章は、学習に使ってはならない。"
    other = "猫は窓辺で眠り、犬は庭を走り回っている。"
    scores = contamination([sample(held_out[:20]), sample(other)], [held_out])
    assert scores[0] >= CONTAMINATED > scores[1]
    assert words("Naïve CAFÉ, 3rd") == ["naïve", "café", "3rd"]
    assert duplicates([sample(other), sample(other[:12] + "眠らない")])[1] > 0.3


def test_no_evaluation_texts_and_no_samples_find_nothing() -> None:
    assert contamination(good(2), []) == [0.0, 0.0]
    assert contamination([], JARGON) == []
    assert contamination([sample("")], ["", "a"]) == [0.0]
