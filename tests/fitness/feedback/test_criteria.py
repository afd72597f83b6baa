"""Ratings by named criteria, both bad, and changes of what was said, in the store and out of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from fitness.errors import InputError
from fitness.feedback.agreement import agreement, compared
from fitness.feedback.conversion import records
from fitness.feedback.importing import read_judgements
from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement, checked, guidelines
from fitness.feedback.store import FILE, Conflict, Store, read_standing
from fitness.judges.pairs import with_people
from fitness.reward.comparisons import said
from tests.fitness.feedback.test_store import PAIRS, SINGLES, rate, store

CRITERIA = {"coherence": "Do the sentences follow?", "relevance": "Is it an answer?"}
ONE, TWO = SINGLES[0], PAIRS[0]
KNOWN = {item.id: item for item in (ONE, TWO)}


def by_kind(folder: Path) -> list[tuple[str, str, Any]]:
    return [(j.annotator, j.kind, j.value) for j in read_standing(folder).judgements()]


def test_a_rating_names_its_criterion_and_is_there_again_after_a_restart(tmp_path: Path) -> None:
    with store(tmp_path, [ONE], criteria=CRITERIA) as it:
        assert it.current("Ada") == ONE
        for kind, value in (("rating/coherence", 2), ("rating/relevance", 5), ("rating", 3)):
            it.judge(ONE.id, "Ada", kind, value)
        it.judge(ONE.id, "Ada", "rating/coherence", 4)
        with pytest.raises(
            InputError, match=r"no criterion 'coherense'.* did you mean 'coherence'"
        ):
            it.judge(ONE.id, "Ada", "rating/coherense", 4)
    wanted = [("rating/coherence", 4), ("rating/relevance", 5), ("rating", 3)]
    assert by_kind(tmp_path) == [("Ada", *one) for one in wanted]
    with Store(tmp_path) as again:
        assert again.standing.settings.criteria == CRITERIA
        again.undo("Ada")
    assert ("Ada", "rating/coherence", 2) in by_kind(tmp_path)


@pytest.mark.parametrize(
    ("item", "kind", "value", "told"),
    [
        (ONE, "rating/coherence", 6, "1 to 5"),
        (ONE, "rating/", 3, "kind of judgement 'rating/'"),
        (ONE, "rating/a b", 3, "kind of judgement"),
        (ONE, "rating/<b>", 3, "kind of judgement"),
        (TWO, "rating/coherence", 3, "is of one draft"),
    ],
)
def test_a_rating_that_cannot_be_is_refused(item: Item, kind: str, value: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        checked(item, "Ada", kind, value)


@pytest.mark.parametrize(
    "given", [{}, ["coherence"], {"a b": "x"}, {"a": " "}, {"a": 3}, {3: "x"}, {"a": "x" * 2001}]
)
def test_criteria_are_names_with_guidelines(given: Any) -> None:
    with pytest.raises(InputError, match=r"^criteria\.yaml: "):
        guidelines(given, "criteria.yaml")


def test_agreement_is_by_criterion() -> None:
    values = [("rating/coherence", (1, 1), (4, 4)), ("rating", (1, 5), (5, 1))]
    every = [
        Judgement(item.id, by, kind, value)
        for kind, *units in values
        for item, unit in zip(SINGLES, units, strict=False)
        for by, value in zip(("Ada", "Bob"), unit, strict=True)
    ]
    assert compared(every) == ["rating", "preference", "rating/coherence"]
    assert agreement(every, "rating/coherence").alpha == 1
    overall = agreement(every, "rating").alpha
    assert overall is not None
    assert overall < 0


def test_a_store_from_before_there_were_criteria_is_read(tmp_path: Path) -> None:
    with store(tmp_path, [ONE], labels=("dull",), repeat=0.5, seed=3) as it:
        rate(it, "Ada", 2)
    lines = []
    for line in (tmp_path / FILE).read_text().splitlines():
        fact = json.loads(line)
        for name in ("criteria", "raters", "crc"):
            fact.pop(name, None)
        lines.append(json.dumps(fact))
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    standing = read_standing(tmp_path)
    assert (standing.settings.criteria, standing.settings.raters) == ({}, 1)
    assert (standing.settings.labels, standing.settings.seed) == (("dull",), 3)
    assert by_kind(tmp_path) == [("Ada", "rating", 2)]


def test_each_item_is_handed_to_as_many_as_are_to_rate_it(tmp_path: Path) -> None:
    with store(tmp_path, SINGLES, raters=3, repeat=1) as it:
        for name in ("Ada", "Bob", "Cy"):
            for _ in SINGLES:
                rate(it, name)
        assert it.current("Di") is None
    assert {len(by) for by in read_standing(tmp_path).holders.values()} == {3}
    with pytest.raises(InputError, match="at least one rater"):
        store(tmp_path / "none", raters=0)


def test_what_one_said_can_be_changed_and_nothing_is_lost(tmp_path: Path) -> None:
    with store(tmp_path, SINGLES[:2]) as it:
        first, second = rate(it, "Ada", 2), rate(it, "Ada", 3)
        assert it.judged_by("Ada") == [second, first]
        assert it.current("Ada") is None
        it.reopen(first.id, "Ada")
        assert it.current("Ada") == first
        assert it.progress("Ada")["mine"] == 1
        it.judge(first.id, "Ada", "rating", 5)
        it.finish(first.id, "Ada")
        for by, message in (("Bob", "have not judged"), ("judge:m", "have not judged")):
            with pytest.raises(InputError, match=message):
                it.reopen(first.id, by)
        with pytest.raises(Conflict):
            it.judge(first.id, "Ada", "rating", 1)
    assert by_kind(tmp_path) == [("Ada", "rating", 5), ("Ada", "rating", 3)]
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [one["value"] for one in lines if one["fact"] == "judgement"] == [2, 3, 5]


def test_a_skip_that_is_changed_counts_no_more_until_that_is_undone(tmp_path: Path) -> None:
    with store(tmp_path, [TWO]) as it:
        assert it.current("Ada") == TWO
        it.judge(TWO.id, "Ada", "skip", None)
        it.reopen(TWO.id, "Ada")
        it.judge(TWO.id, "Ada", "preference", "neither")
        assert [j.value for j in it.judgements()] == ["neither"]
        it.undo("Ada")
        assert [j.kind for j in it.judgements()] == ["skip"]
    assert by_kind(tmp_path) == [("Ada", "skip", None)]


def test_both_bad_rejects_both_and_prefers_none(tmp_path: Path) -> None:
    every = [
        Judgement(TWO.id, "Ada", "preference", "neither"),
        Judgement(TWO.id, "judge:m", "preference", "first"),
    ]
    bad = every[:1]
    assert records(KNOWN, bad, "preference") == []
    rejected = [(one["completion"], one["label"]) for one in records(KNOWN, bad, "rating")]
    assert rejected == [("a", False), ("b", False)]
    assert said(KNOWN, bad) == [], "of no use to the reward model"
    found = with_people(every)["judge:m"]
    assert (found.pairs, found.decided) == (1, 0)
    path = tmp_path / "given.jsonl"
    for shape in ("rating", "argilla", "judgement"):
        path.write_text("".join(json.dumps(one) + "\n" for one in records(KNOWN, bad, shape)))
        again = read_judgements(path, KNOWN, annotator="Eve", annotators=["Ada"])
        assert again.judgements == tuple(bad)


@pytest.mark.parametrize("shape", ["argilla", "judgement"])
def test_ratings_by_criteria_are_exported_and_imported(tmp_path: Path, shape: str) -> None:
    every = [checked(ONE, "Ada", kind, 2) for kind in ("rating", "rating/coherence", "rating/b-c")]
    path = tmp_path / "given.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records(KNOWN, every, shape)))
    found = read_judgements(path, {}, annotator="Eve", annotators=["Ada"])
    assert sorted(map(repr, found.judgements)) == sorted(map(repr, every))
    assert [one["label"] for one in records(KNOWN, every, "rating")] == [False], "the overall one"


@pytest.mark.parametrize(
    ("drafts", "told"),
    [("d0", "list of one text or two"), ([], "list of one text"), ([3], "must be a string")],
)
def test_judgements_of_no_drafts_are_refused(tmp_path: Path, drafts: Any, told: str) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(json.dumps({"prompt": "p", "drafts": drafts, "kind": "rating", "value": 3}))
    with pytest.raises(InputError, match=told):
        read_judgements(path, {}, annotator="Eve")


def test_judgements_of_a_pair_known_in_the_other_order_keep_their_draft(tmp_path: Path) -> None:
    turned = Item(TWO.prompt, (Draft("b"), Draft("a")))
    path = tmp_path / "given.jsonl"
    line = {"prompt": TWO.prompt, "drafts": ["b", "a"], "kind": "preference", "value": "first"}
    path.write_text(json.dumps({**line, "item": turned.id}))
    found = read_judgements(path, KNOWN, annotator="Eve")
    assert found.judgements == (Judgement(TWO.id, "Eve", "preference", "second"),)
