"""Requirements on samples: limits, the most of a prompt, and more for hard prompts."""

from typing import Any

import pytest
from pydantic import ValidationError

from fitness.data.documents import Source
from fitness.data.requirements import Requirements
from fitness.data.samples import Sample


def sample(prompt: str, number: int, right: float | None, round: int = 1) -> Sample:
    scores = {} if right is None else {"right": right}
    return Sample(prompt, f"answer {number}", 0, 0, round=round, scores=scores)


def numbers(samples: list[Sample]) -> list[int]:
    return [int(one.completion.split()[1]) for one in samples]


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (1, [2]),
        (0.5, [1, 2]),
        (">= 0.5", [1, 2]),
        ("<= 0.5", [0, 1]),
        ("<=-1", []),
        (" >= 1e-9 ", [1, 2]),
    ],
)
def test_limits_are_absolute_and_may_leave_nothing(wanted: float | str, kept: list[int]) -> None:
    pool = [sample("p", number, score) for number, score in enumerate((0.0, 0.5, 1.0, None))]
    settings = Requirements(require={"own.checks:right": wanted})
    assert numbers(settings.learned(pool)) == kept
    without = {one.id for one in pool[:2]}
    assert numbers(settings.learned(pool, without)) == [one for one in kept if one > 1]


def test_a_prompt_has_at_most_so_many_the_latest_round_first() -> None:
    pool = [sample("p", 0, 1), sample("p", 1, 1), sample("p", 2, 0, 2), sample("p", 3, 1, 2)]
    pool += [sample("q", 4, 1)]
    settings = Requirements(require={"right": 1}, most_per_prompt=2)
    assert numbers(settings.learned(pool)) == [0, 3, 4]
    assert numbers(Requirements(most_per_prompt=1).learned(pool)) == [2, 4]
    assert settings.learned([]) == []


def test_hard_prompts_keep_more() -> None:
    easy = [sample("easy", number, 1) for number in range(8)]
    hard = [sample("hard", 10 + number, float(number < 3)) for number in range(8)]
    settings = Requirements(require={"right": 1}, most_per_prompt=4, by_difficulty=True)
    # 4 times 0 of 8, at least one; 4 times 5 of 8 is 2.5, rounded up
    assert numbers(settings.learned([*easy, *hard])) == [0, 10, 11, 12]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"require": {"right": "half"}}, "require.right is 'half'; write the least score"),
        ({"require": {"right": ">= many"}}, "write the least score"),
        ({"require": {"right": float("nan")}}, "finite"),
        ({"most_per_prompt": 0}, "greater than or equal to 1"),
        ({"by_difficulty": True}, "by_difficulty changes most_per_prompt, which is missing"),
    ],
)
def test_requirements_that_say_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Requirements.model_validate(given)


def test_only_a_pool_has_requirements() -> None:
    with pytest.raises(ValidationError, match="require is for sources of kind sample, this one is"):
        Source(path="a.txt", require={"right": 1})
    assert Source(path="a.jsonl", kind="sample", require={"right": 1}).limits()[0].value == 1
