"""Pairs of right and wrong samples of one prompt."""

from fitness.data.samples import Sample
from fitness.samples.pairs import pairs


def sample(prompt: str, text: str, *, ended: bool = True) -> Sample:
    return Sample(prompt, text, 0, 0, ended=ended)


def test_each_right_answer_is_paired_with_a_wrong_one_to_the_same_prompt() -> None:
    pool = [
        *(sample("p", "right 1"), sample("p", "wrong 1"), sample("p", "right 2")),
        *(sample("p", "wrong 2"), sample("p", "wrong 3"), sample("p", "wrong", ended=False)),
        *(sample("q", "right 3"), sample("r", "wrong 4")),
    ]
    right = {one.id for one in pool if one.completion.startswith("right")}
    found = [(one["prompt"], one["chosen"], one["rejected"]) for one in pairs(pool, right, 9)]
    assert found == [
        ("p", "right 1", "wrong 1"),
        ("p", "right 2", "wrong 2"),
        ("p", "right 1", "wrong 3"),
    ]
    assert len(pairs(pool, right, 2)) == 2
    assert pairs(pool, right, 0) == pairs([], right, 9) == []
