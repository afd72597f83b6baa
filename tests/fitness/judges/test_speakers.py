"""A local judge: the quickstart's model with a chat template, in this process."""

import math
from pathlib import Path

import pytest
import torch

from fitness.data.chats import rendered
from fitness.errors import InputError
from fitness.inference.connection import Refused
from fitness.judges.protocol import Answer
from fitness.judges.speakers import Local, says, speaker_of
from fitness.models.base import Base
from tests.fitness.judges.talking import talking
from tests.fitness.quickstart import MODEL

CHAT = [{"role": "user", "content": "What is a bug"}]
OTHER = [{"role": "user", "content": "hack: n. a much longer question than that one is"}]


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Local:
    return Local(Base(talking(tmp_path_factory.mktemp("talking") / "model")), "quick")


def test_the_same_seed_gets_the_same_answers_and_another_others(speaker: Local) -> None:
    def answers(seed: int, temperature: float = 1.0) -> list[list[Answer]]:
        return speaker.answers([CHAT], 3, temperature=temperature, max_new_tokens=6, seed=seed)

    state = torch.get_rng_state()
    assert answers(1) == answers(1) != answers(2)
    assert torch.equal(state, torch.get_rng_state())
    assert len(set(answers(1)[0])) == 3
    long = speaker.answers([CHAT], 12, temperature=1.0, max_new_tokens=60, seed=0)[0]
    assert {ended for _, ended in long} == {True, False}
    assert len({*answers(1, 0)[0], *answers(2, 0)[0]}) == 1


def test_odds_are_those_of_the_spelled_words_under_the_model(speaker: Local) -> None:
    model, tokenizer = speaker._base.model, speaker._base.tokenizer
    asked = tokenizer(rendered(tokenizer, CHAT, "", prompting=True), add_special_tokens=False)

    def probability(word: str) -> float:
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([asked["input_ids"] + ids])).logits[0].double()
        logps = torch.log_softmax(logits, -1)[len(asked["input_ids"]) - 1 :]
        return math.exp(sum(float(logps[place, token]) for place, token in enumerate(ids)))

    with torch.no_grad():
        yes, no = (
            sum(map(probability, (w, f" {w}", w.lower(), f" {w.lower()}"))) for w in ("Yes", "No")
        )
    alone, beside = speaker.odds([CHAT], "Yes", "No"), speaker.odds([OTHER, CHAT], "Yes", "No")
    assert alone[0] == pytest.approx(math.log(yes / no), abs=1e-4)
    assert beside[1] == pytest.approx(alone[0], abs=1e-4)
    assert speaker.odds([CHAT], "No", "Yes")[0] == pytest.approx(-alone[0], abs=1e-6)


def test_a_question_beyond_the_context_is_refused_not_cut(speaker: Local) -> None:
    chat = [{"role": "user", "content": "word " * 2000}]
    with pytest.raises(Refused, match="context of 1024"):
        speaker.answers([chat], 1, temperature=0, max_new_tokens=4, seed=0)
    with pytest.raises(Refused, match="leaves no room"):
        speaker.odds([chat], "Yes", "No")


def test_who_cannot_speak_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no chat template"):
        speaker_of(str(MODEL), key_variable="NONE")
    with pytest.raises(InputError, match="begins with http"):
        speaker_of("localhost:8000/v1#model", key_variable="NONE")
    with pytest.raises(InputError, match="no such folder"):
        speaker_of(str(tmp_path / "nowhere"), key_variable="NONE")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", True),
        (" yes, it does", True),
        ("YES.", True),
        ("Yesterday", False),
        ("No", False),
        ("", False),
        ("y", False),
    ],
)
def test_an_answer_says_a_word_if_it_begins_with_it(text: str, said: bool) -> None:
    assert says(text, "Yes") is said
