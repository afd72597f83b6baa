from pathlib import Path

import numpy as np
import pytest

from fitness.errors import InputError
from fitness.feedback.items import Draft, Item, add_items, items_of, own_items, read_items
from tests.evo.strange import without_sums

ANSWERS = {
    ("set", "p"): [Draft("x", 1, 0), Draft("y", 2, 0), Draft("x", 3, 0), Draft(" \n", 4, 0)],
    ("set", "q"): [Draft("x", 1, 0)],
}


def test_each_different_draft_is_an_item_and_different_drafts_make_pairs() -> None:
    items = items_of(ANSWERS, pairs=5, rng=np.random.default_rng(0))
    singles = sorted((i.prompt, i.drafts[0].text) for i in items if not i.pair)
    assert singles == [("p", "x"), ("p", "y"), ("q", "x")]
    (pair,) = [item for item in items if item.pair]
    assert [(d.text, d.individual) for d in pair.drafts] == [("x", 1), ("y", 2)]
    assert [i.id for i in items] == [
        i.id for i in items_of(ANSWERS, pairs=5, rng=np.random.default_rng(0))
    ]
    assert not [i for i in items_of(ANSWERS, pairs=0, rng=np.random.default_rng(0)) if i.pair]


def test_an_id_follows_from_the_texts_alone_in_either_order() -> None:
    one = Item("p", (Draft("a", 1), Draft("b", 2)), "set")
    assert one.id == Item("p", (Draft("b"), Draft("a"))).id
    assert one.id != Item("p", (Draft("a"), Draft("c"))).id
    assert Item("p", (Draft("a"),)).id != Item("pa", (Draft(""),)).id


def test_items_are_added_once_and_read_back_as_they_were(tmp_path: Path) -> None:
    items = items_of(ANSWERS, pairs=1, rng=np.random.default_rng(0))
    assert add_items(tmp_path, items[:2]) == 2
    with (tmp_path / "items.jsonl").open("a") as file:
        file.write('{"fact":"item","id":"12')  # the writer was killed
    with pytest.warns(UserWarning, match="torn last line"):
        assert add_items(tmp_path, items) == 2
    assert list(read_items(tmp_path).values()) == items


def test_an_item_that_was_changed_is_reported_with_its_line(tmp_path: Path) -> None:
    add_items(tmp_path, items_of(ANSWERS, pairs=1, rng=np.random.default_rng(0)))
    path = tmp_path / "items.jsonl"
    path.write_text(without_sums(path).replace('"text":"y"', '"text":"z"', 1))
    with pytest.raises(InputError, match=r"items\.jsonl:\d: .*digest.*restore"):
        read_items(tmp_path)


def test_ones_own_items_are_read_from_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(
        '{"prompt": "p", "completion": "a"}\n{"prompt": "p", "completions": ["a", "b"]}'
    )
    assert [[d.text for d in item.drafts] for item in own_items(path)] == [["a"], ["a", "b"]]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"prompt": "p"}', "needs either"),
        ('{"completion": "c"}', "no column 'prompt'"),
        ('{"prompt": "p", "completions": ["a"]}', "two texts"),
        ('{"prompt": "p", "completions": ["a", "a"]}', "equal"),
        ('{"prompt": "p", "completions": ["a", 3]}', "must be a string"),
        ('{"prompt": "p", "completion": " "}', "blank"),
        ('{"prompt": "p", "completion": "\\ud800"}', "surrogate"),
        ("[1]", "not an object"),
        ("{", "is not JSON"),
    ],
)
def test_a_faulty_item_is_named_by_file_and_line(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "p", "completion": "a"}\n' + line + "\n")
    with pytest.raises(InputError, match=rf"own\.jsonl:2: .*{told}"):
        list(own_items(path))


def test_a_file_without_items_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no items"):
        list(own_items(tmp_path / "own.jsonl"))
