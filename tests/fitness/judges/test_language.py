"""Refining by critiques: what is drawn, what is kept, and that nothing is asked twice."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fitness.errors import InputError
from fitness.facts import as_line
from fitness.judges.answers import Asked
from fitness.judges.language import (
    WORDINGS,
    Asking,
    Criticised,
    Refined,
    criticise,
    criticised_in,
    refine,
)
from fitness.judges.protocol import Answer
from fitness.judges.speakers import Local
from fitness.models.base import Base
from tests.fitness.judges.talking import talking

FEW = Asking(samples=2, max_new_tokens=6)
BUG = Criticised("bug: n.", " a small animal", "It should be about programs.", "Ada")
HACK = Criticised("hack: n.", " chop", "Too short {and} in braces.", "Bob")


@dataclass
class Counted:
    """A speaker whose calls are counted, and whose answers may be given."""

    inner: Local
    given: Sequence[str] = ()
    name: str = "counted"
    calls: list[str] = field(default_factory=list)
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        self.identity = self.inner.identity

    def answers(self, chats: Any, samples: int, **settings: Any) -> list[list[Answer]]:
        self.calls.append(f"answers {chats[0][0]['content']}")
        if self.given:
            return [[Answer(text, not text.endswith("...")) for text in self.given]]
        written = self.inner.answers(chats, samples, **settings)  # which is cut, as it never ends
        return [[answer._replace(ended=True) for answer in some] for some in written]

    def odds(self, chats: Any, this: str, other: str) -> list[float]:
        self.calls += [f"odds {chat[0]['content']}" for chat in chats]
        return self.inner.odds(chats, this, other)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    return Local(Base(talking(tmp_path_factory.mktemp("talking") / "model")), "quick")


def refined_in(folder: Path, speaker: Any, *some: Criticised, asking: Asking = FEW) -> Any:
    with Asked(folder, "asked") as asked:
        return [refine(speaker, one, asking, asked) for one in some]


def test_an_item_comes_out_the_same_whatever_else_is_asked(tmp_path: Path, local: Local) -> None:
    speaker = Counted(local)
    both = refined_in(tmp_path / "both", speaker, HACK, BUG)
    (alone,) = refined_in(tmp_path / "alone", speaker, BUG)
    assert both[1] == alone
    assert len(alone.refinements) == len(alone.odds) == 2
    other = Asking(samples=2, max_new_tokens=6, seed=1)
    assert refined_in(tmp_path / "other", speaker, BUG, asking=other)[0] != alone


def test_nothing_is_asked_twice_unless_something_changed(tmp_path: Path, local: Local) -> None:
    speaker = Counted(local)
    first = refined_in(tmp_path, speaker, BUG, HACK)
    asked = len(speaker.calls)
    assert refined_in(tmp_path, speaker, BUG, HACK) == first
    assert len(speaker.calls) == asked
    refined_in(tmp_path, speaker, BUG, asking=Asking(samples=1, max_new_tokens=6))
    assert len(speaker.calls) == asked + 1 + 2 * len(WORDINGS)


def test_every_wording_shows_prompt_draft_critique_and_refinement(
    tmp_path: Path, local: Local
) -> None:
    speaker = Counted(local, given=["a {good} answer"])
    refined_in(tmp_path, speaker, HACK)
    first, *asked = speaker.calls
    assert all(part in first for part in ("hack: n.", "chop", "Too short {and} in braces."))
    assert len(asked) == 2 * len(WORDINGS)
    for question in asked[len(WORDINGS) :]:
        assert all(part in question for part in ("hack: n.", "chop", "{and}", "a {good} answer"))


def test_odds_are_means_over_the_wordings_and_the_draft_is_asked_about_too(
    tmp_path: Path, local: Local
) -> None:
    (found,) = refined_in(tmp_path, Counted(local, given=["one", "two"]), BUG)

    def mean(text: str) -> float:
        chats = [
            [
                {
                    "role": "user",
                    "content": wording.format(
                        prompt="bug: n.",
                        draft="a small animal",
                        critique=BUG.critique,
                        refinement=text,
                    ),
                }
            ]
            for wording in WORDINGS
        ]
        return sum(local.odds(chats, "Yes", "No")) / len(chats)

    assert found.odds == pytest.approx([mean("one"), mean("two")], abs=1e-4)
    assert found.draft_odds == pytest.approx(mean("a small animal"), abs=1e-4)


def test_blank_equal_and_cut_refinements_and_the_draft_itself_are_no_candidates(
    tmp_path: Path, local: Local
) -> None:
    speaker = Counted(local, given=["", " \n", "a small animal\n", "an error", " an error"])
    (found,) = refined_in(tmp_path, speaker, BUG)
    assert found.refinements == (" an error",)  # parted from the prompt as the draft is
    (whole,) = refined_in(tmp_path / "cut", Counted(local, given=["an err...", "an error"]), BUG)
    assert (whole.refinements, whole.cut) == ((" an error",), 1)
    (none,) = refined_in(tmp_path / "none", Counted(local, given=["", "a small animal"]), BUG)
    assert (none.refinements, none.accepted(-99)) == ((), None)


def test_only_what_beats_the_threshold_and_the_draft_is_accepted() -> None:
    def accepted(odds: list[float], draft: float, threshold: float = 0.0) -> str | None:
        return Refined(BUG, ("a", "b"), tuple(odds), draft).accepted(threshold)

    assert accepted([0.5, 1.0], 0.2) == "b"
    assert accepted([0.5, 1.0], 1.0) is None
    assert accepted([-0.5, -1.0], -2.0) is None
    assert accepted([-0.5, -1.0], -2.0, threshold=-0.7) == "a"
    assert accepted([0.5, 1.0], 0.2, threshold=1.0) is None


def test_a_model_criticises_once(tmp_path: Path, local: Local) -> None:
    speaker = Counted(local)
    draft = Criticised("bug: n.", " a small animal")
    with Asked(tmp_path, "asked") as asked:
        first = criticise(speaker, draft, FEW, asked)
        assert criticise(speaker, draft, FEW, asked) == first
    assert len(speaker.calls) == 1
    assert first.critique == first.critique.strip() != ""
    assert first.annotator == "critic:counted"


def test_a_torn_line_is_asked_again_and_a_strange_one_is_refused(
    tmp_path: Path, local: Local
) -> None:
    (first,) = refined_in(tmp_path, local, BUG)
    path = tmp_path / "asked.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.warns(UserWarning, match="torn"):
        assert refined_in(tmp_path, local, BUG) == [first]
    assert path.read_bytes() == whole
    path.write_bytes(whole + as_line({"fact": "refined"}))
    with pytest.raises(InputError, match=r"asked\.jsonl:2: lacks"):
        refined_in(tmp_path, local, BUG)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"prompt": "p", "draft": "d"}', "no column 'critique'"),
        ('{"prompt": "p", "draft": "d", "critique": " "}', "is blank"),
        ('{"prompt": "p", "critique": "c"}', "no column 'draft'"),
        ('{"prompt": "p", "draft": 3, "critique": "c"}', "'draft' is 3"),
    ],
)
def test_a_file_of_critiques_is_checked(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "critiques.jsonl"
    path.write_text('{"prompt": "p", "draft": "d", "critique": "c"}\n' + line)
    with pytest.raises(InputError, match=rf"critiques\.jsonl:2: .*{told}"):
        list(criticised_in(path, critic=False))


def test_a_critic_needs_no_critiques(tmp_path: Path) -> None:
    path = tmp_path / "drafts.jsonl"
    path.write_text(
        '{"prompt": "p", "draft": "d"}\n{"prompt": "p", "draft": "e", "critique": null}\n'
        '{"prompt": "p", "draft": "f", "critique": "c", "annotator": "Ada"}\n'
    )
    found = list(criticised_in(path, critic=True))
    assert [(one.draft, one.critique, one.annotator) for one in found] == [
        ("d", "", ""),
        ("e", "", ""),
        ("f", "c", "Ada"),
    ]


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"temperature": -1}, {"temperature": "nan"}])
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Asking(**{name: float(value) for name, value in wrong.items()})  # type: ignore[arg-type]
