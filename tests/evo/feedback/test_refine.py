"""`evo feedback refine` and `judge`, by the quickstart's model and by a server that is told what to
say, since no model small enough for tests can refine."""

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evo.cli import main
from evo.feedback.summary import summarise
from fitness.data.documents import Source
from fitness.data.sources import tokenise
from fitness.errors import InputError
from fitness.feedback.items import Draft, Item, add_items, read_items
from fitness.feedback.judgements import Judgement
from fitness.feedback.store import FOLDER, Store
from fitness.judges.answers import Asked
from fitness.models.base import Base
from tests.evo.driving import start
from tests.evo.feedback.sitting import facts, run_with_samples
from tests.fitness.judges.talking import MODEL_NAME, SECRET, Served, serving, talking
from tests.fitness.quickstart import MODEL

COUNT = 4
CRITIQUE = "Say that it is an error."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking(tmp_path_factory.mktemp("talking") / "model")


@pytest.fixture(scope="module")
def base(model: Path) -> Base:
    return Base(model)


@pytest.fixture
def served(base: Base, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(base) as found:
        found.say = refiner
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of which Ada criticised four drafts, and corrected the last of them too."""
    found = run_with_samples(tmp_path / "run")
    add_items(found / FOLDER, [Item(f"bug {n}: n.", (Draft(f" a fly {n}"),)) for n in range(COUNT)])
    with Store(found / FOLDER) as store:
        for n in range(COUNT):
            item = store.current("Ada")
            assert item is not None
            store.judge(item.id, "Ada", "critique", CRITIQUE)
            if n == COUNT - 1:
                store.judge(item.id, "Ada", "correction", " an error, corrected")
            store.finish(item.id, "Ada")
    return found


def refiner(question: str, seed: int) -> str:
    """A model that can do it, but for the first draft."""
    if question.startswith("Write an excellent response"):
        return f"an error ({seed % 3})" if "bug 0" not in question else "no idea"
    return "Yes" if "New response: an error" in question else "No"


def refine(run: Path, speaker: str, to: Path, *options: object) -> int:
    given = ["feedback", "refine", run, "--with", speaker, "--to", to, *options]
    return main([str(one) for one in given])


def at(served: Served) -> str:
    return f"{served.url}#{MODEL_NAME}"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_accepted_refinements_become_records_that_a_search_can_learn(
    run: Path, served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "to"
    assert refine(run, at(served), to, "--samples", 3) == 0
    out = capsys.readouterr().out
    assert "3 (75 %)" in out
    assert "not accepted" in out
    completions, pairs = lines(to / "refinements.jsonl"), lines(to / "pairs.jsonl")
    assert [one["prompt"] for one in completions] == [f"bug {n}: n." for n in (1, 2, 3)]
    for n, completion, pair in zip((1, 2, 3), completions, pairs, strict=True):
        assert completion["completion"].startswith(" an error (")
        assert pair["chosen"] == completion["completion"]
        assert pair["rejected"] == f" a fly {n}"
        assert completion["critique"] == CRITIQUE
        assert CRITIQUE not in completion["prompt"] + completion["completion"]
        assert (completion["annotator"], completion["by"]) == ("Ada", MODEL_NAME)
    for name, kind, rows in (("refinements", "completion", 3), ("pairs", "preference", 6)):
        source = Source(path=str(to / f"{name}.jsonl"), kind=kind)
        assert tokenise("sources.refined", source, to, MODEL, tmp_path).documents == rows // (
            2 if kind == "preference" else 1
        )


def test_a_local_model_refines_to_the_same_files_for_the_same_seed(
    run: Path, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "given.jsonl"
    record = {"prompt": "bug: n.", "draft": " a fly", "critique": CRITIQUE, "annotator": "Bob"}
    file.write_text(json.dumps(record) + "\n")
    few = ("--critiques", file, "--samples", 6, "--max-new-tokens", 60, "--threshold=-99")
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert refine(run, str(model), tmp_path / name, *few, "--seed", seed) == 0
    one, same, other = (
        [(tmp_path / name / file).read_bytes() for file in ("refinements.jsonl", "pairs.jsonl")]
        for name in "abc"
    )
    assert one == same != other
    (fact,) = lines(tmp_path / "a" / "asked.jsonl")
    assert 0 < len(fact["said"]["refinements"]) == 6 - fact["said"]["cut"] < 6


def test_another_threshold_asks_nothing(run: Path, served: Served, tmp_path: Path) -> None:
    assert refine(run, at(served), tmp_path / "to") == 0
    asked = len(served.asked)
    assert refine(run, at(served), tmp_path / "to", "--threshold=-99") == 0
    assert len(served.asked) == asked
    assert refine(run, at(served), tmp_path / "to", "--seed", 1) == 0
    assert len(served.asked) == 2 * asked


def test_a_killed_run_goes_on_to_the_same_files_and_asks_nothing_twice(
    run: Path, served: Served, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert refine(run, at(served), whole) == 0
    all_asked = Counter(map(json.dumps, served.asked))
    assert set(all_asked.values()) == {1}
    served.asked.clear()
    reached, go_on = threading.Event(), threading.Event()

    def hanging(question: str, seed: int) -> str:
        if "bug 2" in question:
            reached.set()
            go_on.wait(60)
        return refiner(question, seed)

    served.say = hanging
    process = start("feedback", "refine", run, "--with", at(served), "--to", killed)
    try:
        assert reached.wait(60)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    go_on.set()
    before = Counter(json.dumps(one) for one in served.asked if "bug 2" not in json.dumps(one))
    assert not (killed / "refinements.jsonl").exists()
    assert len((killed / "asked.jsonl").read_text().splitlines()) == 2
    served.say = refiner
    served.asked.clear()
    assert refine(run, at(served), killed) == 0
    after = Counter(map(json.dumps, served.asked))
    assert before & after == Counter()
    assert all("bug 2" in one or "bug 3" in one for one in after)
    for name in ("refinements.jsonl", "pairs.jsonl", "asked.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_two_at_once_in_one_folder_are_refused(
    run: Path, served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Asked(tmp_path / "to", "asked"):
        assert refine(run, at(served), tmp_path / "to") == 2
    assert "is in use by process" in capsys.readouterr().err
    assert served.asked == []


def test_where_hardly_any_is_accepted_corrections_take_their_place(
    run: Path, served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.say = lambda question, seed: "No"
    to = tmp_path / "to"
    assert refine(run, at(served), to) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "People's corrections were written in their place: 1." in out
    (completion,), (pair,) = lines(to / "refinements.jsonl"), lines(to / "pairs.jsonl")
    assert completion["completion"] == pair["chosen"] == " an error, corrected"
    assert pair["rejected"] == " a fly 3"


def test_without_corrections_either_nothing_is_left_and_it_is_said(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, to, file = run_with_samples(tmp_path / "run"), tmp_path / "to", tmp_path / "given.jsonl"
    record = {"prompt": "bug 1: n.", "draft": " a fly", "critique": CRITIQUE}
    file.write_text(json.dumps(record) + "\n")
    assert refine(run, at(served), to, "--critiques", file) == 0
    assert len(lines(to / "refinements.jsonl")) == 1
    assert refine(run, at(served), to, "--critiques", file, "--threshold", 9) == 2
    assert "'quick' refined 0 of 1 drafts acceptably" in capsys.readouterr().err
    assert {path.name for path in to.iterdir()} & {"refinements.jsonl", "pairs.jsonl"} == set()


def test_a_run_without_critiques_says_what_to_do_and_a_critic_needs_none(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, to = run_with_samples(tmp_path / "run"), tmp_path / "to"
    assert refine(run, at(served), to) == 2
    assert "--critic" in capsys.readouterr().err

    def say(question: str, seed: int) -> str:
        if question.startswith("Write feedback"):
            return "  " if "to 0" in question else "It names no error."
        return refiner(question, seed)

    served.say = say
    assert refine(run, at(served), to, "--critic") == 0
    items = [item for item in read_items(run / FOLDER).values() if not item.pair]
    blank = sum("to 0" in item.drafts[0].text for item in items)
    found = lines(to / "refinements.jsonl")
    assert 0 < blank < len(items)
    assert len(found) == len(items) - blank
    assert {one["annotator"] for one in found} == {f"critic:{MODEL_NAME}"}
    assert "without a critique" in capsys.readouterr().out
    assert not (run / FOLDER / "judgements.jsonl").exists()  # a model's critiques are not people's


def test_what_a_server_refuses_is_left_out_and_asked_again_later(
    run: Path, model: Path, served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"prompt": "word " * 2000, "draft": "d", "critique": CRITIQUE}
    file = tmp_path / "given.jsonl"
    records = [long, {"prompt": "bug 1: n.", "draft": " a fly", "critique": CRITIQUE}]
    file.write_text("".join(json.dumps(one) + "\n" for one in records))
    few = ("--critiques", file, "--samples", 1, "--max-new-tokens", 4, "--threshold=-99")
    refine(run, str(model), tmp_path / "to", *few)
    told = " ".join("".join(capsys.readouterr()).split())
    assert "context of 1024" in told
    assert len((tmp_path / "to" / "asked.jsonl").read_text().splitlines()) == 1
    served.refusing = 400
    assert refine(run, at(served), tmp_path / "other") == 2
    assert "no draft could be refined" in capsys.readouterr().err


def test_the_key_is_in_no_file_and_no_output(
    run: Path,
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("THE_KEY", SECRET)
    served.key = SECRET
    served.say = lambda question, seed: f"{SECRET} {refiner(question, seed)}"
    options = ("--key-variable", "THE_KEY", "--threshold=-99")
    assert refine(run, at(served), tmp_path / "to", *options) == 0
    served.key = "another"
    assert refine(run, at(served), tmp_path / "other", *options) == 2
    out, err = capsys.readouterr()
    assert "THE_KEY" in err
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"***" in written
    assert SECRET not in out + err
    assert SECRET.encode() not in written


def judged_by_people(run: Path, pairs: int) -> None:
    """Judgements of a good and a bad draft each; Ada and Bob choose right, but for Bob's first."""
    items = [
        Item(f"hack {n}: n.", (Draft(f"good {n}"), Draft(f"bad {n}"))[:: 1 if n % 2 else -1])
        for n in range(pairs)
    ]
    add_items(run / FOLDER, items)
    with Store(run / FOLDER) as store:
        judgements = []
        for n, item in enumerate(items):
            good = "first" if item.drafts[0].text.startswith("good") else "second"
            bad = "second" if good == "first" else "first"
            judgements.append(Judgement(item.id, "Ada", "preference", good))
            judgements.append(Judgement(item.id, "Bob", "preference", bad if n == 0 else good))
        store.take_in("made", (), judgements)


def judge(run: Path, served: Served, *options: str) -> int:
    return main(["feedback", "judge", str(run), "--with", at(served), *options])


def prefers_good(question: str, _: int) -> str:
    return "First" if "First response: good" in question else "Second"


def test_a_judge_is_kept_apart_from_people_and_held_against_them(
    tmp_path: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_samples(tmp_path / "run")
    judged_by_people(run, 4)
    before = summarise(run)
    served.say = prefers_good
    assert judge(run, served, "--name", "quick one") == 0
    assert "judge:quick one" in capsys.readouterr().out
    found = summarise(run)
    assert found["agreement"] == before["agreement"]
    assert found["judged"] == before["judged"] == 4
    judged = found["judges"]["judge:quick one"]
    assert {k: judged[k] for k in ("pairs", "decided", "same")} == {
        "pairs": 8,
        "decided": 8,
        "same": 7,
    }
    assert found["annotators"]["judge:quick one"]["preference"] == 4
    path = tmp_path / "out.jsonl"
    assert main(["feedback", "export", str(run), "--as", "preference", str(path)]) == 0
    by_judge = [one for one in lines(path) if one["annotator"] == "judge:quick one"]
    assert len(by_judge) == 4
    assert all(one["chosen"].startswith("good") for one in by_judge)


def test_a_judge_that_goes_by_the_place_has_judged_nothing_but_ties(
    tmp_path: Path, served: Served
) -> None:
    run = run_with_samples(tmp_path / "run")
    judged_by_people(run, 3)
    served.say = lambda question, seed: "First"
    assert judge(run, served) == 0
    judged = summarise(run)["judges"][f"judge:{MODEL_NAME}"]
    assert (judged["pairs"], judged["decided"], judged["same"]) == (6, 0, 0)
    asked = [one["messages"][0]["content"] for one in served.asked]
    assert len(asked) == len(set(asked)) == 6
    assert judge(run, served) == 0  # again: nothing is asked, nothing is new
    assert len(served.asked) == 6
    assert [fact["fact"] for fact in facts(run)] == ["imported", "imported"]


def test_what_a_judge_has_judged_people_still_get(tmp_path: Path, served: Served) -> None:
    run = run_with_samples(tmp_path / "run")
    add_items(run / FOLDER, [Item("hack: n.", (Draft("good"), Draft("bad")))])
    served.say = prefers_good
    assert judge(run, served) == 0
    with Store(run / FOLDER) as store:
        assert store.progress("Ada") == {"mine": 0, "all": 0, "items": 1}
        with pytest.raises(InputError, match="are of models"):
            store.current("judge:me")
        item = store.current("Ada")
        assert item is not None
        store.judge(item.id, "Ada", "preference", "second")
        assert store.current("Bob") is None
    assert summarise(run)["judges"][f"judge:{MODEL_NAME}"]["same"] == 0


def test_pairs_of_a_run_nobody_looked_at_can_be_judged(
    tmp_path: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_samples(tmp_path / "run")
    served.say = lambda question, seed: "Second"
    assert judge(run, served) == 0
    assert sum(item.pair for item in read_items(run / FOLDER).values()) == 9
    assert "9 tie" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--with", "nowhere/at/all"], "no such folder"),
        (["--with", "http://localhost:1/v1"], "http://host:port/v1#model"),
        (["--with", str(MODEL)], "no chat template"),
        (["--with", "http://localhost:1#m", "--critiques", "nowhere"], "cannot be read"),
        (["--with", "http://localhost:1#m", "--temperature", "-1"], "temperature"),
    ],
)
def test_what_cannot_be_refined_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert main(["feedback", "refine", str(run), "--to", str(tmp_path / "to"), *options]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "to").exists()
