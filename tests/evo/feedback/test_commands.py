"""`evo feedback` from the command line, on a run that was searched before."""

import json
import signal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from evo.cli import main
from evo.history import front
from fitness.feedback.items import read_items
from fitness.feedback.store import FOLDER, Store
from fitness.reward.model import LEAST
from tests.evo.facts import read
from tests.evo.feedback.sitting import facts, opened, run_with_samples
from tests.fitness.feedback.people import pairs as couples
from tests.fitness.feedback.people import preferred, rated, singles
from tests.fitness.quickstart import CORPUS


def judged(run: Path, folder: Path) -> Path:
    """The run with five items of ones own, judged by Ada, one of them by Bob too."""
    pairs = [f'{{"prompt": "bug {n}: n.", "completions": [" a fault", " x"]}}' for n in range(4)]
    own = folder / "own.jsonl"
    own.write_text("\n".join([*pairs, '{"prompt": "hack: n.", "completion": " chop"}']))
    with opened(run, "--items", own, "--repeat", "1"):
        pass
    with Store(run / FOLDER) as store:
        for name in ("Ada", "Bob"):
            while (item := store.current(name)) is not None:
                if item.pair:
                    store.judge(item.id, name, "preference", "first")
                elif name == "Ada":
                    store.judge(item.id, name, "rating", 2)
                    store.judge(item.id, name, "correction", " a quick piece of work")
                    store.finish(item.id, name)
                else:
                    store.judge(item.id, name, "skip", None)
    return run


def test_drafts_of_the_front_on_the_selection_split_are_shown(tmp_path: Path) -> None:
    run = run_with_samples(tmp_path / "run")
    with opened(run, "--pairs", "1") as (process, url):
        body = json.dumps({"annotator": "Ada"}).encode()
        request = Request(url + "look", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=90) as answer:
            assert "answer of" in json.load(answer)["screen"]["item"]["drafts"][0]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    items = read_items(run / FOLDER).values()
    texts = [draft.text for item in items for draft in item.drafts]
    assert all("selection answer" in text for text in texts)
    members = set(front(read(run))["individual"])
    assert {d.individual for item in items for d in item.drafts} == members
    assert sum(item.pair for item in items) == (3 if len(members) > 1 else 0)
    assert {item.origin for item in items} == {"asked"}


def test_named_individuals_are_shown_and_none_twice(tmp_path: Path) -> None:
    run = run_with_samples(tmp_path / "run")
    for named, pairs in (("0,3", 0), ("3,4", 9), ("3,4", 9)):
        with opened(run, "--individuals", named, "--pairs", pairs):
            pass
    items = read_items(run / FOLDER)
    assert len(items) == 6 + 3 + 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--individuals", "99"], "no individual '99'"),
        (["--individuals", "bset"], "name numbers, `best` or `front`"),
        (["--items", "nowhere.jsonl"], "cannot be read"),
        (["--repeat", "2"], "from 0 to 1"),
        (["--release", "Eve"], "'Eve' has no item"),
        (["--criteria", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--port", "99999"], "--port"),
    ],
)
def test_what_cannot_be_opened_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    run = run_with_samples(tmp_path / "run")
    assert main(["feedback", str(run), *options]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], ["report"], ["export", "--as", "rating"], ["import"]):
        file = ["x"] if arguments[:1] in (["export"], ["import"]) else []
        assert main(["feedback", *arguments, str(tmp_path), *file]) == 2
        assert "is not a run folder" in capsys.readouterr().err


def test_a_run_without_samples_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_samples(tmp_path / "run")
    path = run / "ledger.jsonl"
    path.write_text(path.read_text().replace('"samples"', '"other"'))
    assert main(["feedback", str(run)]) == 2
    assert "--items FILE" in capsys.readouterr().err


def test_the_report_counts_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judged(run_with_samples(tmp_path / "run"), tmp_path)
    assert main(["feedback", "report", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["items"], found["judged"]) == (5, 5)
    counts: dict[str, Any] = found["annotators"]
    assert counts["Ada"]["rating"] == counts["Ada"]["correction"] == counts["Bob"]["skip"] == 1
    assert counts["Ada"]["preference"] == counts["Bob"]["preference"] == 4
    assert found["agreement"]["preference"] == {"alpha": None, "items": 4}
    assert main(["feedback", "report", str(run)]) == 0
    assert "not defined" in capsys.readouterr().out


def test_criteria_of_a_file_are_asked_for_and_their_agreement_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_samples(tmp_path / "run")
    own = tmp_path / "own.jsonl"
    own.write_text("".join(f'{{"prompt": "p{n}", "completion": "c{n}"}}\n' for n in range(2)))
    (tmp_path / "c.json").write_text('{"coherence": "Does it follow?"}')
    with opened(run, "--items", own, "--criteria", tmp_path / "c.json", "--raters", 2):
        pass
    with opened(run, "--items", own):  # which keeps what the last session asked for
        pass
    with Store(run / FOLDER) as store:
        for name in ("Ada", "Bob"):
            while (item := store.current(name)) is not None:
                store.judge(item.id, name, "rating/coherence", int(item.prompt[1]) + 1)
                store.judge(item.id, name, "rating", 3)
                store.finish(item.id, name)
    assert main(["feedback", "report", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agreement"]["rating/coherence"] == {"alpha": 1.0, "items": 2}
    assert found["agreement"]["rating"] == {"alpha": None, "items": 2}
    assert found["annotators"]["Bob"]["rating/coherence"] == 2
    assert main(["feedback", "report", str(run)]) == 0
    assert "rating/coherence (ordinal)" in capsys.readouterr().out


def test_the_report_tells_how_well_judgements_are_foretold_and_how_many_more_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_samples(tmp_path / "run")
    assert main(["feedback", "report", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["reward"]
    assert found == {"judgements": 0, "least": LEAST, "learned": False}
    with Store(run / FOLDER) as store:
        both = [*singles(60), *couples(20)]
        store.take_in("told", both, [*rated(both[:60]), *preferred(both[60:])])
    assert main(["feedback", "report", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["reward"]
    assert (found["judgements"], found["learned"]) == (80, True)
    assert (found["held_out"]["pairs"], found["held_out"]["ratings"]) == (20, 60)
    assert [step["judgements"] for step in found["curve"]] == [16, 32, 64]
    assert main(["feedback", "report", str(run)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"{found['held_out']['accuracy']:.2f} of 20 preferences and corrections" in told
    assert f"known of drafts' differences: {found['known']:.0%}" in told


def test_what_was_exported_can_be_imported_into_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = judged(run_with_samples(tmp_path / "run"), tmp_path)
    other = run_with_samples(tmp_path / "other")
    file = str(tmp_path / "out.jsonl")
    assert main(["feedback", "export", str(run), "--as", "argilla", file]) == 0
    assert main(["feedback", "import", str(other), file]) == 0
    assert "10 judgements, 10 of them new; 5 new items" in capsys.readouterr().out
    assert main(["feedback", "import", str(other), file]) == 0
    assert "0 of them new; 0 new items" in capsys.readouterr().out
    assert [fact["fact"] for fact in facts(other)] == ["imported"]
    assert main(["feedback", "export", str(run), "--as", "label", file]) == 2
    assert "no judgements that make records of shape label" in capsys.readouterr().err


def test_of_a_corrupt_file_nothing_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_samples(tmp_path / "run")
    file = tmp_path / "given.jsonl"
    file.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p", "chos\n')
    assert main(["feedback", "import", str(run), str(file)]) == 2
    assert "given.jsonl:2: is not JSON" in capsys.readouterr().err
    assert read_items(run / FOLDER) == {}
    assert not (run / FOLDER).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "run", "bad.jsonl"],
        ["import", "run", "gone.jsonl"],
        ["import", "run", "folder"],
        ["open", "run", "--items", "bad.jsonl"],
        ["open", "run", "--items", "gone.jsonl"],
        ["open", "run", "--pool", "bad.jsonl"],
        ["open", "run", "--criteria", "bad.jsonl"],
        ["open", "run", "--criteria", "list.yaml"],
        ["open", "run", "--criteria", "blank.yaml"],
        ["judge", "run", "--with", "gone"],
        ["refine", "run", "--with", "gone", "--to", "refined"],
        ["export", "run", "--as", "rating", "to.jsonl"],
    ],
)
def test_a_file_that_cannot_be_read_leaves_the_run_as_it_was(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    run_with_samples(tmp_path / "run")
    (tmp_path / "bad.jsonl").write_text("torn")
    (tmp_path / "list.yaml").write_text("[coherence]")
    (tmp_path / "blank.yaml").write_text("coherence: ' '")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))

    assert main(["feedback", *arguments]) == 2
    assert sorted(tmp_path.rglob("*")) == before


SPEC = """\
name: people
model: {{base: quickstart}}
sources:
  people: {{path: preference.jsonl, kind: preference}}
  corrected: {{path: completion.jsonl, kind: completion}}
domains:
  target:
    selection: {{path: {corpus}/held_out/jargon.selection.jsonl, limit: 5}}
    test: {{path: {corpus}/held_out/jargon.test.jsonl, limit: 5}}
recipe: {{sequence_length: 32, batch_size: 2, method: preference}}
genome: {{mixture: {{type: simplex, floor: 0.2}}}}
objectives: {{target/loss: minimize}}
baselines: [uniform]
search: {{strategy: random, population: 2, replicates: 1}}
budget: {{evaluations: 2, tokens: 256}}
resources: {{workers: 1}}
comparison: {{seeds: 1}}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_search_learns_from_what_people_said(tmp_path: Path) -> None:
    run = judged(run_with_samples(tmp_path / "run"), tmp_path)
    for shape in ("preference", "completion"):
        file = str(tmp_path / f"{shape}.jsonl")
        assert main(["feedback", "export", str(run), "--as", shape, file]) == 0
    (tmp_path / "search.yaml").write_text(SPEC.format(corpus=CORPUS))
    searched = tmp_path / "searched"
    assert main(["launch", str(tmp_path / "search.yaml"), "--run", str(searched)]) == 0
    evaluations = [fact for fact in read(searched) if fact["fact"] == "evaluation"]
    assert {fact["status"] for fact in evaluations} == {"ok"}
    trained = [fact["details"]["shares"] for fact in evaluations if fact["fidelity"] == 1]
    assert trained
    assert all(min(shares["people"], shares["corrected"]) > 0 for shares in trained)
