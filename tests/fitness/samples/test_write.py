"""Generation of samples: where they begin, where they end, and that they are repeatable."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from fitness.data.prompts import Prompts
from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.inference.sampling import ROWS, continued
from fitness.inference.streams import RowNumbers
from fitness.models.base import Base
from fitness.samples.passages import around
from fitness.samples.write import Generation, write

DOCUMENTS = ["abbrev: n. Common abbreviation for this", "bug: n. An unwanted property of a program"]
PROMPTS = Prompts(["Category: artifact\n"], [""])


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


def test_what_is_written_in_parts_is_what_is_written_at_once(base: Base) -> None:
    count = 2 * ROWS + 6
    settings = Generation(from_nothing=1, from_prompts=1, max_new_tokens=6)

    def written(first: int, samples: int) -> list[Sample]:
        part = settings.model_copy(update={"samples": samples})
        return write(
            base, part, prompts=PROMPTS, documents=DOCUMENTS, individual=0, seed=3, first=first
        )

    whole = written(0, count)
    assert len({one.completion for one in whole}) > ROWS
    for cuts in ([0, 1, 5, ROWS, 70], [0, ROWS + 3, 2 * ROWS, 70]):
        parts = [written(a, b - a) for a, b in itertools.pairwise(cuts)]
        assert [one for part in parts for one in part] == whole


def test_each_prompt_gets_as_many_samples_with_its_reference(base: Base) -> None:
    prompts = Prompts(["bug: ", "hack: "], [("n.", "v."), ""])
    settings = Generation(per_prompt=3, max_new_tokens=4)
    found = write(base, settings, prompts=prompts, individual=0, seed=1)
    assert [one.prompt for one in found] == ["bug: "] * 3 + ["hack: "] * 3
    assert [one.reference for one in found] == [("n.", "v.")] * 3 + [""] * 3
    assert len({one.completion for one in found}) > 2, "each is sampled anew"
    again = settings.model_copy(update={"samples": 8})
    longer = write(base, again, prompts=prompts, individual=0, seed=1)
    assert longer[:6] == found
    assert [one.prompt for one in longer[6:]] == ["bug: "] * 2, "the prompts begin again"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_prompt": 2, "from_documents": 1}, "from_documents is 1; leave one of them out"),
        ({"per_prompt": 0}, "greater than or equal to 1"),
        ({"from_documents": 0}, "are all 0"),
    ],
)
def test_beginnings_that_contradict_each_other_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Generation.model_validate(settings)


def test_a_row_is_sampled_by_its_numbers_alone(base: Base) -> None:
    numbers = np.random.default_rng(0).random((6, 8))
    encoded = [[5, 9, 200], [7]] * 3

    def sampled(rows: list[int]) -> list[list[int]]:
        answers = continued(
            base.model, [encoded[row] for row in rows], lambda place: numbers[rows[place]],
            ends=(base.tokenizer.eos_token_id,), max_new_tokens=8, temperature=1.0, top_p=0.9,
        )  # fmt: skip
        return [answer.tokens for answer in answers]

    together = sampled(list(range(6)))
    assert len(set(map(tuple, together))) == 6
    assert sampled([3, 0]) == [together[3], together[0]]


def test_numbers_draw_tokens_as_often_as_they_are_probable() -> None:
    probabilities = torch.tensor([[0.1, 0.0, 0.6, 0.3, 0.0]])
    numbers = np.array([[*(np.arange(1000) + 0.5) / 1000, 1 - 1e-12]])
    with RowNumbers(numbers, torch.device("cpu")):
        tokens = [int(torch.multinomial(probabilities, 1)) for _ in range(1001)]
    assert np.bincount(tokens, minlength=5).tolist() == [100, 0, 600, 301, 0]


def test_a_prompt_too_long_for_the_model_is_told_as_the_model_saw_it(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fitness.samples.write.ROWS", 2)
    long = "Grüße, " * 400 + "and so on: ü"
    settings = Generation(samples=1, from_prompts=1, from_documents=0, max_new_tokens=8)
    (cut,) = write(base, settings, prompts=Prompts([long], [""]), individual=0, seed=0)
    assert long.endswith(cut.prompt)
    room = base.model.config.max_position_embeddings - settings.max_new_tokens
    assert room - 4 < len(base.tokenizer(cut.prompt)["input_ids"]) <= room + 1
    (again,) = write(base, settings, prompts=Prompts([cut.prompt], [""]), individual=0, seed=0)
    assert again == cut


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
        ({"from_prompts": 1}, "from_prompts is 1, and there are no prompts"),
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


def test_a_gap_within_a_real_text_is_filled(base: Base) -> None:
    text = " ".join(f"word{n}" for n in range(60)) + "\n"
    texts = [text, "one two three", "too short"]
    settings = Generation(
        samples=40, from_documents=1, infill=3, opening_words=5, infill_words=7, max_new_tokens=4
    )
    found = write(base, settings, documents=texts, individual=0, seed=0)
    filled = [one for one in found if one.way == "infill"]
    assert 20 < len(filled) < 38
    assert {one.begun for one in found} == {"document"}
    assert {one.suffix for one in found if one.way == "forward"} == {""}
    lengths = set()
    for one in filled:
        if one.prompt == "one":
            assert one.suffix == " three"
            continue
        first, last = text.index(one.prompt), text.index(one.suffix)
        gap = text[first + len(one.prompt) : last]
        assert len(gap.split()) == 7
        assert gap.startswith(" word")
        lengths |= {len(one.prompt.split()), len(one.suffix.split())}
        assert one.text == one.prompt + one.completion + one.suffix
    assert max(lengths) == 5
    part = settings.model_copy(update={"samples": 3})
    assert write(base, part, documents=texts, individual=0, seed=0, first=9) == found[9:12]


def test_a_gap_is_asked_for_in_the_form_that_is_taught(base: Base) -> None:
    asked: list[list[int]] = []

    def watched(model: Any, encoded: list[list[int]], numbers: Any, **settings: Any) -> Any:
        asked.extend(encoded)
        return continued(model, encoded, numbers, **settings)

    settings = Generation(samples=1, infill=1, from_documents=0, max_new_tokens=1)
    (one,) = write(base, settings, documents=DOCUMENTS, individual=0, seed=0, answer=watched)
    told = base.tokenizer.decode(asked[0], clean_up_tokenization_spaces=False)
    assert told == f"<PRE>{one.prompt}<SUF>{one.suffix}<MID>"


def test_a_passage_too_long_for_the_model_is_cut_at_its_two_ends(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fitness.samples.write.ROWS", 2)
    text = "Grüße und Küsse an alle, " * 500
    settings = Generation(
        samples=4, infill=1, from_documents=0, opening_words=900, max_new_tokens=8
    )
    for one in write(base, settings, documents=[text], individual=0, seed=0):
        around = len(
            base.tokenizer(one.prompt)["input_ids"] + base.tokenizer(one.suffix)["input_ids"]
        )
        assert 512 - 8 - 15 - 8 < around <= 512 - 8 - 15 + 2
        assert one.prompt in text
        assert one.suffix in text
    narrow = settings.model_copy(update={"max_new_tokens": 500})
    with pytest.raises(InputError, match="leaves no room for text around a gap"):
        write(base, narrow, documents=[text], individual=0, seed=0)
    with pytest.raises(InputError, match="no documents of three words or more"):
        write(base, settings, documents=["a b"], individual=0, seed=0)


def test_words_of_a_text_without_spaces_have_gaps_too() -> None:
    text = "天地玄黄宇宙洪荒日月盈昃辰宿列张" * 200
    for seed in range(20):
        before, behind = around(text, 3, 2, np.random.default_rng(seed))
        assert 0 < len(before) <= 3 * 16
        assert 0 < len(behind) <= 3 * 16
        assert before in text
        assert behind in text
