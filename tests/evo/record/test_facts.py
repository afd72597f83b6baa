"""Kinds of facts: one declaration each, read by their keys, with defaults for optional ones."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

import evo
from evo.record.facts import KINDS, Fact, cost, details, launch_of, mixture, samples, typed
from evo.record.ledger import Ledger
from evo.record.soundness import check
from tests.evo.facts import read
from tests.evo.synthetic_ledger import ledger

LOST = {"individual": 0, "seed": 0, "split": "selection", "attempt": 1}
ROOMS = ("history", "report", "progress", "export", "feedback", "rounds")


def evaluation(**values: Any) -> Any:
    """An evaluation of a synthetic ledger with other values."""
    facts = typed(ledger(evaluations=4, population=4, seeds=1))
    return {**next(fact for fact in facts if fact["fact"] == "evaluation"), **values}


def test_every_fact_of_a_ledger_is_of_a_declared_kind() -> None:
    facts = ledger(evaluations=12, population=4, seeds=1)
    assert {fact["fact"] for fact in facts} <= KINDS.keys()
    assert set(KINDS.values()) == set(get_args(Fact))
    for fact in facts:
        check(fact)


def test_a_fact_is_the_line_itself_so_that_unknown_keys_and_kinds_are_kept(tmp_path: Path) -> None:
    search, later = ledger(evaluations=4, population=4)[0], {"fact": "a_later_kind", "novel": [1]}
    with Ledger.create(tmp_path, {k: v for k, v in search.items() if k != "fact"}) as opened:
        opened.append("winner_was", **{k: v for k, v in later.items() if k != "fact"})
        opened.append("lost", **{**LOST, "brand": "new"})
    first, unknown, lost = read(tmp_path)
    assert launch_of([first, unknown, lost]) is first
    assert dict(unknown) == {**later, "fact": "winner_was"}
    assert dict(lost) == {"fact": "lost", **LOST, "brand": "new"}


@pytest.mark.parametrize("absent", [{}, {"details": None, "cost": {}}])
def test_what_an_old_evaluation_lacks_is_empty(absent: dict[str, Any]) -> None:
    fact: Any = {k: v for k, v in evaluation().items() if k not in ("details", "cost")} | absent
    check(fact)
    assert (details(fact), cost(fact), samples(fact)) == ({}, {}, {})


def test_samples_have_one_form_whoever_asked_for_them() -> None:
    one, other = {"prompt": "a", "output": "b"}, {"reference": ["c", "d"]}  # alternatives
    for each in (one, one | {"reference": "c"}, one | other):
        answered, written = ({"samples": made} for made in ({"cards": [each]}, [each]))
        check(evaluation(details=answered))
        check(evaluation(details=written))
        assert samples(evaluation(details=answered)) == {"cards": [each]}
        assert samples(evaluation(details=written)) == {"": [each]}


def test_a_mixture_that_a_genome_lacks_is_empty() -> None:
    assert mixture({"mixture": {"a": 1.0}}) == {"a": 1.0}
    assert mixture({"learning_rate": 0.1}) == {}


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("search.rungs", {"search": {"rungs": "half"}}),
        ("budget.evaluations", {"budget": {"evaluations": -1}}),
        ("sources.a.kind", {"sources": {"a": {"kind": 3}}}),
        ("rounds.limit", {"rounds": {"limit": "many"}}),
        ("aggregates", {"aggregates": 3}),
        ("aggregates.q", {"aggregates": {"q": {"mean": {"target/loss": -1}}}}),
        ("aggregates.q", {"aggregates": {"q": {}}}),
        ("aggregates.q", {"aggregates": {"q": {"max": ["*/loss"]}}}),
    ],
)
def test_what_is_read_of_a_recorded_spec_is_checked(key: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"config\.{re.escape(key)}"):
        check({**ledger(evaluations=4)[0], "config": wrong})


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_has_defaults_of_its_own_for_facts_or_the_recorded_spec(room: str) -> None:
    own = re.compile(r"""\.get\(["'](details|cost|config)["']|spec\([^)]*\)(\.get\(|\[)""")
    for file in sorted(Path(evo.__path__[0], room).rglob("*.py")):
        found = own.search(file.read_text(encoding="utf-8"))
        assert found is None, (file, found)


def test_a_simulation_has_a_score_for_each_mixture_or_none_at_all() -> None:
    fact: dict[str, Any] = {
        **{"fact": "simulation", "number": 0, "seed": 0, "experts": [0, 1], "sources": ["a", "b"]},
        **{"mixtures": [{"a": 1.0}, {"b": 1.0}], "status": "ok", "started": 1.0, "finished": 2.0},
    }
    check({**fact, "scores": []})
    check({**fact, "scores": [{"target/loss": 4.0}, {}]})
    with pytest.raises(ValueError, match="`simulation`: 1 scores of 2 mixtures"):
        check({**fact, "scores": [{"target/loss": 4.0}]})
