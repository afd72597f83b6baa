"""The verdict on rounds, from ledgers made up for it: nothing is dressed up."""

from pathlib import Path
from typing import Any

import pytest

from evo.history.rounds import Round, verdict
from evo.planning.controls import NOTHING_GENERATED

CONFIG = {
    "name": "rounds",
    "objectives": {"target/loss": "minimize"},
    "sources": {"real": {"path": "real.jsonl"}, "pool": {"path": "pool.jsonl", "kind": "sample"}},
    "search": {"replicates": 1},
    "rounds": None,
}


def evaluation(individual: int, seed: int, split: str, loss: float) -> dict[str, Any]:
    return {
        "fact": "evaluation",
        **{"individual": individual, "seed": seed, "fidelity": 1.0, "split": split},
        **{"status": "ok", "measurements": {"target/loss": loss}, "cost": {}, "details": {}},
        **{"message": "", "worker": "w", "started": 1.0, "finished": 2.0},
    }


def round_of(
    number: int,
    *,
    share: float,
    selected: float,
    without: float,
    tested: float,
    control: float | None = None,
    **pool: Any,
) -> Round:
    """Its winner, individual 1, has a share of the pool; individual 0 has none."""
    genomes = [{"mixture": {"real": 1 - s, "pool": s}} for s in (0.0, share)]
    facts: list[Any] = [{"fact": "search", "format": 1, "config": CONFIG, "time": 0.0}]
    for id, genome in enumerate(genomes):
        head = {"fact": "individual", "id": id, "genome": genome, "parents": []}
        facts.append({**head, "operator": "known", "generation": 0, "learned_from": None})
    facts += [evaluation(0, 0, "selection", without), evaluation(1, 0, "selection", selected)]
    facts.append({"fact": "winner", "individual": 1, "split": "selection", "seeds": 1})
    facts += [evaluation(1, seed, "test", tested + 0.001 * seed) for seed in range(5)]
    if control is not None:
        named = {"id": -3, "name": NOTHING_GENERATED, "individual": 1, "genome": genomes[0]}
        facts.append({"fact": "control", **named})
        facts += [evaluation(-3, seed, "test", control + 0.001 * seed) for seed in range(5)]
    fact: Any = {
        "fact": "round",
        **{"round": number, "individual": 1, "genome": genomes[1]},
        **{"loss": selected, "violation": 0.0, **({"pool": pool} if pool else {})},
    }
    return Round(number, Path(f"round-{number}"), facts, fact)


def base_of(loss: float) -> Round:
    """Round 0: the untouched base."""
    facts: list[Any] = [{"fact": "search", "format": 1, "config": CONFIG, "time": 0.0}]
    head = {"fact": "individual", "id": 0, "genome": {"mixture": {"real": 1.0, "pool": 0.0}}}
    facts.append({**head, "parents": [], "operator": "untouched base", "generation": 0})
    facts += [{**evaluation(0, seed, "test", loss), "fidelity": 0.0} for seed in range(5)]
    fact: Any = {
        "fact": "round",
        **{"round": 0, "individual": 0, "loss": loss, "violation": 0.0},
        "measurements": {"target/loss": loss},
    }
    return Round(0, Path("round-0"), facts, fact)


def test_rounds_after_a_base_that_generated_are_held_against_it():
    base = base_of(4.5)
    later = round_of(1, share=0.4, selected=4.0, without=4.1, tested=4.2)
    told = verdict([base, later])
    assert told.tone == "good"
    assert "winner of round 1" in told.text
    assert "better than the untouched base (4.5" in told.text
    assert verdict([base]).text.startswith("One round is over; the untouched base has target/loss")
    worse = verdict([base_of(3.0), later])
    assert worse.tone == "bad"
    assert (
        "No later round found a better model than the untouched base: target/loss 3" in worse.text
    )
    assert base.shares == {"real": 0.0, "generated": 0.0, "people": 0.0}


FIRST = {"share": 0.0, "selected": 4.0, "without": 4.1, "tested": 4.2}


def test_a_pool_that_helped_is_said_to_have_with_its_control():
    second = round_of(2, share=0.3, selected=3.9, without=4.0, tested=4.1, control=4.15)
    found = verdict([round_of(1, **FIRST), second])
    assert found.tone == "good"
    assert "0.1000 better than that of round 1" in found.text
    assert "with it the winner is clearly better (0.0500" in found.notes[0]
    assert not any("Warning" in note for note in found.notes)


def test_a_pool_that_helped_what_chose_it_but_not_the_test_is_warned_of():
    second = round_of(2, share=0.3, selected=3.9, without=4.0, tested=4.25, control=4.2)
    found = verdict([round_of(1, **FIRST), second])
    assert found.tone == "bad"
    (warning,) = [note for note in found.notes if note.startswith("Warning, round 2")]
    assert "0.1000 better on the selection split" in warning
    assert "0.0500 worse than its own recipe without them" in warning


def test_where_no_round_beat_the_first_it_is_said_that_the_pool_did_not_help():
    second = round_of(2, share=0.0, selected=4.0, without=4.1, tested=4.2)
    found = verdict([round_of(1, **FIRST), second])
    assert (found.tone, found.text[:40]) == ("bad", "No later round found a better model than")


def test_a_better_round_without_any_of_the_pool_does_not_count_for_it():
    second = round_of(2, share=0.0, selected=3.9, without=4.1, tested=4.0)
    found = verdict([round_of(1, **FIRST), second])
    assert found.tone == "mixed"
    assert found.text.endswith("their share of its mixture is 0.")


@pytest.mark.parametrize(("rounds", "said"), [(0, "No round is over yet."), (1, "One round is")])
def test_before_there_is_anything_to_compare_nothing_is_claimed(rounds: int, said: str):
    found = verdict([round_of(1, **FIRST)][:rounds])
    assert (found.tone, found.text[: len(said)]) == ("open", said)


def test_what_collapsed_is_told():
    pool: dict[str, Any] = {"collapsed": True, "diversity": {"distinct_ratio": 0.31}, "pool": 0}
    found = verdict([round_of(1, **FIRST, **pool)])
    assert "31% of the distinct pairs of words" in found.notes[0]
