"""What a model writes by itself: where it begins, where it ends, and that it is repeatable."""

import pytest

from fitness.errors import InputError
from fitness.feedback.generate import Generation, write
from fitness.models import Base

DOCUMENTS = ["abbrev: n. Common abbreviation for this", "bug: n. An unwanted property of a program"]
PROMPTS = ["Category: artifact\n"]


def test_samples_begin_as_the_weights_say_and_follow_from_the_seed(base: Base) -> None:
    settings = Generation(
        samples=60, from_prompts=1, from_documents=2, from_nothing=1, opening_words=3,
        max_new_tokens=4,
    )  # fmt: skip

    def written(seed: int) -> list[tuple[str, str]]:
        found = write(base, settings, prompts=PROMPTS, documents=DOCUMENTS, individual=7, seed=seed)
        assert {(one.individual, one.seed, one.round) for one in found} == {(7, seed, 1)}
        assert {one.begun: one.prompt for one in found}.keys() == {"prompt", "document", "nothing"}
        openings = {one.prompt for one in found if one.begun == "document"}
        assert openings == {"abbrev: n. Common", "bug: n. An"}
        assert {one.prompt for one in found if one.begun == "nothing"} == {""}
        assert 15 < sum(one.begun == "document" for one in found) < 45
        return [(one.prompt, one.completion) for one in found]

    assert written(1) == written(1)
    assert written(1) != written(2)


def test_an_opening_of_a_document_keeps_its_line_breaks_and_indents(base: Base) -> None:
    code = "def f(x):\n    if  x:\n        return 1\n"
    settings = Generation(samples=2, opening_words=4, max_new_tokens=1)
    found = write(base, settings, documents=[code], individual=0, seed=0)
    assert {one.prompt for one in found} == {"def f(x):\n    if  x:"}
    empty = write(base, settings, documents=[" \n"], individual=0, seed=0)
    assert {one.prompt for one in empty} == {""}


def test_what_the_model_ends_itself_is_told_apart(base: Base) -> None:
    short, long = (Generation(samples=8, max_new_tokens=tokens) for tokens in (1, 100))
    cut = write(base, short, documents=DOCUMENTS, individual=0, seed=0)
    assert not any(one.ended for one in cut if one.completion)
    whole = write(base, long, documents=DOCUMENTS, individual=0, seed=0)
    assert any(one.ended for one in whole)
    assert all("<|" not in one.completion for one in whole)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"from_prompts": 1}, "from_prompts is 1, and there are no prompts to go on from"),
        ({"max_new_tokens": 10**6}, "leaves no room for a prompt"),
    ],
)
def test_what_cannot_be_written_is_told(base: Base, settings: dict[str, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        write(base, Generation(**settings), documents=DOCUMENTS, individual=0, seed=0)


@pytest.mark.parametrize("settings", [{"samples": 0}, {"from_documents": 0}, {"temperature": -1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"samples|all 0|temperature"):
        Generation(**settings)
