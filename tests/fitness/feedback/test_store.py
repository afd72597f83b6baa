import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fitness.errors import InputError
from fitness.feedback.items import Draft, Item, add_items
from fitness.feedback.standing import Settings
from fitness.feedback.store import Conflict, Store, read_standing

SINGLES = [Item(f"p{n}", (Draft(f"d{n}"),)) for n in range(6)]
PAIRS = [Item(f"q{n}", (Draft("a"), Draft("b"))) for n in range(6)]


def store(folder: Path, items: list[Item] = SINGLES, **wanted: Any) -> Store:
    add_items(folder, items)
    found = Store(folder)
    found.set(Settings(**wanted))
    return found


def rate(store: Store, annotator: str, value: int = 4) -> Item:
    item = store.current(annotator)
    assert item is not None
    store.judge(item.id, annotator, "rating", value)
    store.finish(item.id, annotator)
    return item


def test_what_was_said_is_there_again_after_a_restart(tmp_path: Path) -> None:
    with store(tmp_path, labels=("long", "dull")) as first:
        item = first.current("Ada")
        assert item is not None
        for kind, value in [
            ("rating", 2),
            ("rating", 3),
            ("labels", ["dull"]),
            ("correction", "better"),
            ("critique", "it was worse"),
        ]:
            first.judge(item.id, "Ada", kind, value)
    with Store(tmp_path) as again:
        said = {kind: j.value for kind, j in again.standing.of(item.id, "Ada").items()}
        assert again.current("Ada") == item
    assert said == {
        "rating": 3,
        "labels": ["dull"],
        "correction": "better",
        "critique": "it was worse",
    }


def test_undo_goes_back_step_by_step_and_only_over_ones_own(tmp_path: Path) -> None:
    with store(tmp_path, labels=("dull",)) as it:
        first = rate(it, "Ada", 2)
        bobs = rate(it, "Bob")
        second = it.current("Ada")
        assert second is not None
        it.judge(second.id, "Ada", "rating", 1)
        it.judge(second.id, "Ada", "rating", 5)
        seen = []
        for _ in range(4):
            it.undo("Ada")
            current = it.current("Ada")
            assert current is not None
            said = {kind: j.value for kind, j in it.standing.of(current.id, "Ada").items()}
            seen.append((current.id, said))
        assert seen == [
            (second.id, {"rating": 1}),
            (second.id, {}),
            (first.id, {"rating": 2}),
            (first.id, {}),
        ]
        with pytest.raises(InputError, match="nothing to undo"):
            it.undo("Ada")
        assert [j.item for j in it.standing.judgements()] == [bobs.id]


def test_a_preference_or_a_skip_goes_on_and_can_be_undone(tmp_path: Path) -> None:
    with store(tmp_path, PAIRS) as it:
        first = it.current("Ada")
        assert first is not None
        it.judge(first.id, "Ada", "preference", "second")
        second = it.current("Ada")
        assert second not in (None, first)
        it.judge(second.id, "Ada", "skip", None)
        assert [j.kind for j in it.standing.judgements()] == ["preference", "skip"]
        it.undo("Ada")
        assert it.current("Ada") == second
        it.undo("Ada")
        assert it.current("Ada") == first
        assert it.standing.judgements() == []


def test_annotators_at_once_are_never_handed_the_same_item(tmp_path: Path) -> None:
    items = [Item(f"p{n}", (Draft("d"),)) for n in range(40)]
    had: dict[str, list[str]] = {name: [] for name in "ABCD"}
    with store(tmp_path, items) as it:

        def judge_all(name: str) -> None:
            while (item := it.current(name)) is not None:
                had[name].append(item.id)
                it.judge(item.id, name, "skip", None)

        threads = [threading.Thread(target=judge_all, args=(name,)) for name in had]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(id for items_of_one in had.values() for id in items_of_one) == sorted(
        item.id for item in items
    )


def test_the_repeated_share_is_handed_to_exactly_two(tmp_path: Path) -> None:
    items = [Item(f"p{n}", (Draft("d"),)) for n in range(60)]
    with store(tmp_path, items, repeat=0.3) as it:
        for name in ("Ada", "Bob", "Cyd"):
            while it.current(name) is not None:
                rate(it, name)
        counts = [len(holders) for holders in it.standing.holders.values()]
    assert len(counts) == 60
    assert set(counts) == {1, 2}
    assert 8 <= counts.count(2) <= 28


def test_the_order_of_a_pair_differs_by_annotator_and_stays(tmp_path: Path) -> None:
    with store(tmp_path, PAIRS) as it:
        orders = {name: [it.swapped(item, name) for item in PAIRS] for name in "ABCDEF"}
        assert orders == {name: [it.swapped(item, name) for item in PAIRS] for name in "ABCDEF"}
        shares = sum(map(sum, orders.values())) / 36
        assert 0.2 < shares < 0.8
        it.set(Settings(seed=1))
        assert orders != {name: [it.swapped(item, name) for item in PAIRS] for name in "ABCDEF"}


def test_what_was_left_unfinished_can_be_given_to_others(tmp_path: Path) -> None:
    with store(tmp_path, SINGLES[:1]) as it:
        item = it.current("Ada")
        assert item is not None
        assert it.current("Bob") is None
        with pytest.raises(InputError, match=r"'Adda'.*did you mean 'Ada'"):
            it.release("Adda")
        assert it.release("Ada") == 1
        assert it.current("Bob") == item
        with pytest.raises(Conflict):
            it.judge(item.id, "Ada", "rating", 3)


def test_items_that_others_append_are_handed_out_too(tmp_path: Path) -> None:
    with store(tmp_path, SINGLES[:1]) as it:
        rate(it, "Ada")
        assert it.current("Ada") is None
        add_items(tmp_path, SINGLES[1:2])
        assert it.current("Ada") == SINGLES[1]


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("rating", 0, "1 to 5"),
        ("rating", 6, "1 to 5"),
        ("rating", True, "1 to 5"),
        ("rating", "4", "1 to 5"),
        ("labels", "dull", "list of names"),
        ("labels", ["dul"], "did you mean 'dull'"),
        ("correction", " ", "not blank"),
        ("correction", "d0", "as it stands"),
        ("correction", "\ud800", "surrogate"),
        ("critique", 3, "not blank"),
        ("critique", "x" * 500_001, "500000"),
        ("preference", "first", "between two drafts"),
        ("skip", 1, "no value"),
        ("sneer", 1, "kind of judgement"),
    ],
)
def test_what_cannot_be_said_is_refused_and_not_written(
    tmp_path: Path, kind: str, value: Any, told: str
) -> None:
    with store(tmp_path, SINGLES[:1], labels=("dull",)) as it:
        item = it.current("Ada")
        assert item is not None
        before = (tmp_path / "judgements.jsonl").read_bytes()
        with pytest.raises(InputError, match=told):
            it.judge(item.id, "Ada", kind, value)
        with pytest.raises(InputError, match="first, or skip"):
            it.finish(item.id, "Ada")
    assert (tmp_path / "judgements.jsonl").read_bytes() == before


def test_two_cannot_write_one_run(tmp_path: Path) -> None:
    with store(tmp_path), pytest.raises(InputError, match="in use by process"):
        Store(tmp_path)
    Store(tmp_path).close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=1, max_value=120))
def test_a_tail_torn_anywhere_costs_the_line_it_is_in(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / str(cut)
    with store(folder) as it:
        rate(it, "Ada")
    path = folder / "judgements.jsonl"
    torn = path.read_bytes()[:-cut]
    path.write_bytes(torn)
    if torn.endswith(b"\n"):
        Store(folder).close()
    else:
        with pytest.warns(UserWarning, match="torn last line"):
            Store(folder).close()
    assert path.read_bytes() == torn[: torn.rfind(b"\n") + 1]


@pytest.mark.parametrize(
    "damage",
    [
        "{not json}",
        '{"fact": "undo", "annotator": "Eve"}',
        '{"fact": "guess"}',
        '{"fact": "judgement", "item": "x"}',
    ],
)
def test_damage_is_reported_with_file_line_and_remedy(tmp_path: Path, damage: str) -> None:
    with store(tmp_path) as it:
        rate(it, "Ada")
    path = tmp_path / "judgements.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], damage + "\n", *lines[1:]]))
    with pytest.raises(InputError, match=r"judgements\.jsonl:2: .*cut it before this line"):
        read_standing(tmp_path)


def test_a_lost_file_of_items_is_reported(tmp_path: Path) -> None:
    with store(tmp_path) as it:
        rate(it, "Ada")
    (tmp_path / "items.jsonl").unlink()
    with pytest.raises(InputError, match=r"items\.jsonl: lacks"):
        Store(tmp_path)


def test_every_line_is_a_fact_with_its_time(tmp_path: Path) -> None:
    with store(tmp_path, repeat=0.5) as it:
        rate(it, "Ada")
    facts = [json.loads(line) for line in (tmp_path / "judgements.jsonl").read_text().splitlines()]
    assert [fact["fact"] for fact in facts] == ["settings", "handed", "judgement", "next"]
    assert all(fact["time"] > 1e9 for fact in facts)
