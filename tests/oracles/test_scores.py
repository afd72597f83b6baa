"""BLEU and chrF against sacrebleu; ROUGE and spans against the examples of their packages."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness.checks.rouge import common_length
from fitness.data.prompts import Prompts
from fitness.metrics import score
from fitness.metrics.generated import bleu, bleu_by_prompt, chrf
from fitness.metrics.spans import Tagged, spans, tag_scores

# Lin's example sentences: "ROUGE", 2004, sec. 3.1.
LIN = "police killed the gunman"


def test_chrf_is_sacrebleus() -> None:
    import sacrebleu

    outputs, references = ["the cat sat", "a dog"], ["the cat sat down", "a fog"]

    assert chrf(outputs, references) == sacrebleu.corpus_chrf(outputs, [references]).score
    assert 0 < chrf(outputs, references) < 100
    assert chrf(references, references) == 100
    assert chrf(["", ""], references) == 0


def test_bleu_is_sacrebleus_with_one_reference_or_several() -> None:
    import sacrebleu

    outputs = ["the cat sat on the mat today", "It was a good, if long, day."]
    first = ["the cat sat on a mat today", "It was a good, long day."]
    second = ["a cat sat on the mat", None]
    several = [(first[0], "a cat sat on the mat"), first[1]]

    assert bleu(outputs, first) == sacrebleu.corpus_bleu(outputs, [first]).score
    assert bleu(outputs, several) == sacrebleu.corpus_bleu(outputs, [first, second]).score
    assert 0 < bleu(outputs, first) < bleu(outputs, several) < 100
    assert bleu(first, first) == pytest.approx(100)
    assert bleu(["", ""], first) == 0


def test_bleu_by_prompt_is_the_jackknife_of_sacrebleus() -> None:
    import sacrebleu

    references = ["the cat sat on the mat", "it was a long day", "the dog ran away", "so it was"]
    outputs = ["the cat sat on a mat", "it was a long", "the dog ran away", "it was so"]
    found = bleu_by_prompt([], references, outputs)

    def whole(places: list[int]) -> float:
        chosen = [[texts[place] for place in places] for texts in (outputs, references)]
        return float(sacrebleu.corpus_bleu(chosen[0], [chosen[1]]).score)

    every = list(range(4))
    without = [whole([other for other in every if other != place]) for place in every]
    assert found == pytest.approx([4 * whole(every) - 3 * one for one in without])
    assert bleu_by_prompt([], ["a b"], ["a b"]) == pytest.approx([bleu(["a b"], ["a b"])])


@pytest.mark.parametrize(
    ("reference", "output", "one", "two", "longest"),
    [
        ("testing one two", "testing", 1 / 2, 0, 1 / 2),
        ("testing one two", "testing one", 4 / 5, 2 / 3, 4 / 5),
        ("testing one two", "testing two", 4 / 5, 0, 4 / 5),
        ("testing one two", "", 0, 0, 0),
        (("first text", "first something"), "text first", 1, 0, 0.5),
        (LIN, "police kill the gunman", 3 / 4, 1 / 3, 3 / 4),
        (LIN, "the gunman kill police", 3 / 4, 1 / 3, 1 / 2),
        ("The cat's snake_case, 12!", "the CAT s snake case 12", 1, 1, 1),
        ("Straße нет", "strasse нет", 1, 1, 1),  # which rouge-score reads as "stra e"
        ("", "", 0, 0, 0),
    ],
)
def test_rouge_gives_the_values_of_its_paper_and_of_rouge_score(
    reference: str, output: str, one: float, two: float, longest: float
) -> None:
    scores = score(["rouge_1", "rouge_2", "rouge_l"], Prompts([""], [reference]), [output])
    found = [scored.value for scored in scores.values()]
    assert found == pytest.approx([one, two, longest])


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_the_longest_common_subsequence_is_that_of_its_recursive_definition(
    one: str, other: str
) -> None:
    @cache
    def longest(n: int, m: int) -> int:
        if not n or not m:
            return 0
        if one[n - 1] == other[m - 1]:
            return longest(n - 1, m - 1) + 1
        return max(longest(n - 1, m), longest(n, m - 1))

    assert common_length(list(one), list(other)) == longest(len(one), len(other))


MISC = ["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"]
PERSON = ["B-PER", "I-PER", "O"]
TWO = ["O", "O", "B-MISC", "I-MISC", "B-MISC", "O", "O"]


@pytest.mark.parametrize(
    ("wanted", "predicted", "precision", "recall", "f1", "accuracy"),
    [  # of seqeval's README and docstrings, but for the last three
        ([MISC, PERSON], [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], PERSON],
         0.5, 0.5, 0.5, 0.8),
        ([TWO, PERSON], [[*TWO[:5], "I-MISC", "O"], PERSON], 2 / 3, 2 / 3, 2 / 3, 0.9),
        ([["B-NP", "I-NP", "O"]], [["I-NP", "I-NP", "O"]], 1, 1, 1, 2 / 3),
        ([["B-A", "I-B", "O"]], [["B-A", "B-B", "O"]], 1, 1, 1, 2 / 3),
        ([["B-A", "I-A", "O"]], [["B-A", "O", "B-B"]], 0, 0, 0, 1 / 3),
        ([["O", "O"], ["B-A"]], [["O", "O"], ["O"]], 0, 0, 0, 2 / 3),
    ],
)  # fmt: skip
def test_spans_are_scored_as_seqeval_does(
    wanted: list[list[str]],
    predicted: list[list[str]],
    precision: float,
    recall: float,
    f1: float,
    accuracy: float,
) -> None:
    scores = {"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy}
    pairs = zip(wanted, predicted, strict=True)
    found = tag_scores([Tagged(np.zeros(len(one)), one, other) for one, other in pairs])
    assert {name: found[name] for name in scores} == pytest.approx(scores)


@pytest.mark.parametrize(
    ("wanted", "predicted", "micro", "weighted"),
    [  # as seqeval 1.2.2 gives them: f1_score(wanted, predicted, average=...)
        ([["B-A", "O", "B-A", "O", "B-B"], PERSON],
         [["B-A", "O", "B-A", "O", "O"], ["B-PER", "O", "B-A"]], 0.5, 0.4),
        ([["B-A"], ["O", "B-A"]], [["B-B"], ["O", "B-A"]], 0.5, 2 / 3),  # B is not there
        ([["O", "O"]], [["B-A", "O"]], 0, 0),
        ([["O", "O"]], [["O", "O"]], 0, 0),
    ],
)  # fmt: skip
def test_micro_and_weighted_f1_are_those_of_seqeval(
    wanted: list[list[str]], predicted: list[list[str]], micro: float, weighted: float
) -> None:
    pairs = zip(wanted, predicted, strict=True)
    found = tag_scores([Tagged(np.zeros(len(one)), one, other) for one, other in pairs])
    assert found["f1"] == found["f1_micro"] == pytest.approx(micro)
    assert found["f1_weighted"] == pytest.approx(weighted)


def test_spans_are_those_of_seqevals_example() -> None:
    assert spans(["B-PER", "I-PER", "O", "B-LOC"]) == {("PER", 0, 2), ("LOC", 3, 4)}
