"""Judgements out as records, and back in."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from fitness.errors import InputError
from fitness.feedback.conversion import ALL_SHAPES, records
from fitness.feedback.importing import Found, read_judgements
from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement

ONE = Item("p", (Draft("draft", 1, 0),), "set")
TWO = Item("q", (Draft("x", 1, 0), Draft("y", 2, 0)), "set")
TIED = Item("r", (Draft("x"), Draft("y")))
ITEMS = {item.id: item for item in (ONE, TWO, TIED)}
SAID = [
    Judgement(ONE.id, "Ada", "rating", 4),
    Judgement(ONE.id, "Bob", "rating", 3),
    Judgement(ONE.id, "Ada", "labels", ["dull", "long"]),
    Judgement(ONE.id, "Ada", "correction", "better"),
    Judgement(ONE.id, "Ada", "critique", "dull"),
    Judgement(TWO.id, "Ada", "preference", "second"),
    Judgement(TIED.id, "Ada", "preference", "tie"),
]


def plain(shape: str, **more: Any) -> list[dict[str, Any]]:
    """The records without what says whose they are."""
    return [
        {name: value for name, value in record.items() if name not in ("item", "annotator")}
        for record in records(ITEMS, SAID, shape, **more)
    ]


def read(folder: Path, *lines: Any, known: dict[str, Item] = ITEMS, **more: Any) -> Found:
    path = folder / "given.jsonl"
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return read_judgements(path, known, annotator="Eve", annotators=("Ada", "Bob"), **more)


def test_judgements_become_the_records_of_each_kind_of_source() -> None:
    assert plain("preference") == [
        {"prompt": "p", "chosen": "better", "rejected": "draft"},
        {"prompt": "q", "chosen": "y", "rejected": "x"},
    ]
    assert plain("completion") == [{"prompt": "p", "completion": "better"}]
    assert [r["label"] for r in plain("rating")] == [True, False]
    assert [r["label"] for r in plain("rating", threshold=3)] == [True, True]
    assert plain("rating")[0] == {"prompt": "p", "completion": "draft", "label": True, "rating": 4}
    assert [(r["text"], r["label"]) for r in plain("label")] == [
        ("draft", "dull"),
        ("draft", "long"),
    ]
    assert plain("critique") == [{"prompt": "p", "draft": "draft", "critique": "dull"}]


def test_a_record_of_argilla_holds_everybodys_responses() -> None:
    one, two, tied = records(ITEMS, SAID, "argilla")
    assert set(one) == {
        *("id", "fields", "metadata", "suggestions", "responses", "vectors", "_server_id")
    }
    assert one["fields"] == {"prompt": "p", "draft": "draft"}
    assert [answer["value"] for answer in one["responses"]["rating"]] == [4, 3]
    users = [uuid.UUID(answer["user_id"]) for answer in one["responses"]["rating"]]
    assert users[0] != users[1]
    assert two["fields"] == {"prompt": "q", "draft_a": "x", "draft_b": "y"}
    assert [two["responses"]["preference"][0]["value"], tied["responses"]["preference"]] == [
        "B",
        [{"value": "tie", "user_id": str(users[0])}],
    ]


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_every_shape_comes_back_as_what_was_said(tmp_path: Path, shape: str) -> None:
    found = read(tmp_path, *records(ITEMS, SAID, shape))
    kinds = {
        "preference": ("correction", "preference"),
        "completion": ("correction",),
        "rating": ("rating",),
        "label": ("labels",),
        "critique": ("critique",),
        "argilla": ("rating", "labels", "correction", "critique", "preference"),
        "judgement": ("rating", "labels", "correction", "critique", "preference"),
    }[shape]
    lost_tie = shape == "preference"
    expected = [j for j in SAID if j.kind in kinds and not (lost_tie and j.value == "tie")]
    assert sorted(map(repr, found.judgements)) == sorted(map(repr, expected))
    assert found.items == ()


def test_argillas_one_list_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "argilla.json"
    path.write_text(json.dumps(records(ITEMS, SAID, "argilla"), indent=1))
    found = read_judgements(path, ITEMS, annotator="Eve", annotators=("Ada", "Bob"))
    assert sorted(map(repr, found.judgements)) == sorted(map(repr, SAID))
    path.write_text('[\n{"fields": }\n]')
    with pytest.raises(InputError, match=r"argilla\.json:2: is not JSON"):
        read_judgements(path, ITEMS, annotator="Eve")


def test_a_preference_counts_for_the_drafts_in_whatever_order_they_are_known(
    tmp_path: Path,
) -> None:
    for chosen, rejected, side in (("x", "y", "first"), ("y", "x", "second")):
        found = read(tmp_path, {"prompt": "q", "chosen": chosen, "rejected": rejected})
        assert found == Found((), (Judgement(TWO.id, "Eve", "preference", side),))
        fields = {"prompt": "q", "draft_a": chosen, "draft_b": rejected}
        answer = {"value": "A", "user_id": "12345678-1234-5678-1234-567812345678"}
        given = read(tmp_path, {"fields": fields, "responses": {"preference": [answer]}})
        assert given.judgements[0].value == side


def test_what_is_not_known_is_added_where_the_record_holds_it(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"prompt": "new", "completion": "c", "label": False},
        {"text": "t", "label": 3},
        {"prompt": "new", "draft": "c", "critique": "no"},
        {"prompt": "new", "chosen": "a", "rejected": "b"},
    )
    assert [(i.prompt, [d.text for d in i.drafts]) for i in found.items] == [
        ("new", ["c"]),
        ("", ["t"]),
        ("new", ["a", "b"]),
    ]
    assert [(j.kind, j.value) for j in found.judgements] == [
        ("rating", 1),
        ("labels", ["3"]),
        ("critique", "no"),
        ("preference", "first"),
    ]


def test_responses_that_were_not_submitted_do_not_count(tmp_path: Path) -> None:
    answers = [
        {"value": 5, "user_id": "u", "status": "submitted"},
        {"value": 1, "user_id": "v", "status": "discarded"},
        {"value": 1, "user_id": "w", "status": "draft"},
    ]
    fields = {"prompt": "p", "draft": "draft"}
    found = read(tmp_path, {"fields": fields, "responses": {"rating": answers}})
    assert found.judgements == (Judgement(ONE.id, "u", "rating", 5),)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{torn", "is not JSON"),
        ("[1]", "not an object"),
        ({"question": "q"}, "of no shape among"),
        ({"prompt": "p", "completion": "better"}, "as preference"),
        ({"prompt": "p", "completion": "draft", "item": ONE.id}, "as it stands"),
        ({"prompt": "p", "completion": "draft", "label": "good"}, "true .good. or false"),
        ({"prompt": "p", "completion": "draft", "label": True, "rating": 9}, "1 to 5"),
        ({"prompt": "q", "chosen": "x", "rejected": "x"}, "equal"),
        ({"prompt": "q", "chosen": "x", "rejected": 3}, "must be a string"),
        ({"prompt": "q", "chosen": "x", "rejected": "z", "item": TWO.id}, "drop `item`"),
        ({"prompt": "p", "draft": "draft", "critique": "no", "annotator": ""}, "annotator"),
        ({"prompt": "p", "completion": "draft", "label": False}, "a second rating by 'Eve'"),
        ({"fields": {"prompt": "p"}}, "no column 'draft'"),
        (
            {"fields": {"prompt": "p", "draft": "d"}, "responses": {"ratng": []}},
            "did you mean 'rating'",
        ),
        (
            {"fields": {"prompt": "p", "draft": "d"}, "responses": {"rating": [4]}},
            "lacks its `value`",
        ),
    ],
)
def test_a_faulty_record_is_named_by_file_and_line(tmp_path: Path, line: Any, told: str) -> None:
    good = {"prompt": "p", "completion": "draft", "label": True}
    with pytest.raises(InputError, match=rf"given\.jsonl:2: .*{told}"):
        read(tmp_path, good, line)


def test_a_file_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no judgements"):
        read(tmp_path)
    with pytest.raises(InputError, match="holds no judgements"):
        read(tmp_path, {"fields": {"prompt": "p", "draft": "d"}, "responses": {}})
