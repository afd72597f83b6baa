"""Use of imported scores: recalls, guided proposals, and resumes without the old folders."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.cli import DONE, main
from evo.reuse.imports import Import
from evo.reuse.use import guides_of, recall_of
from fitness.errors import InputError
from fitness.evaluation import EvaluationSpec
from fitness.models import weights
from tests.evo.facts import read
from tests.evo.reuse.searches import TASK, imports, search, spec
from tests.evo.search.test_loop import InProcess, outcome

HEALTHY = ("[x, y, broken]", "[x, y]")
LONGER = ("tokens: 1", "tokens: 2")


def evaluations(run: Path) -> list[Any]:
    return [fact for fact in read(run) if fact["fact"] == "evaluation"]


def test_the_same_search_again_evaluates_nothing_and_ends_the_same(tmp_path: Path) -> None:
    path = spec(tmp_path, HEALTHY, replicates=2)
    cluster = InProcess(TASK)
    winner = search(tmp_path / "first", path)
    assert search(tmp_path / "second", path, [tmp_path / "first"], cluster) == winner
    assert cluster.asked == []
    first, second = (evaluations(tmp_path / name) for name in ("first", "second"))
    assert [one["measurements"] for one in first] == [one["measurements"] for one in second]
    assert all(one["details"]["recalled"] == "first" for one in second)
    assert not any(one["cost"] for one in second)


def test_other_objectives_and_aggregates_are_made_of_what_is_recalled(tmp_path: Path) -> None:
    mean = "aggregates: {quality: {mean: [target, general], relative_to: base}}\n"
    search(tmp_path / "first", spec(tmp_path, HEALTHY, more=mean))
    changed = ("{target: minimize, general: minimize}", "{quality: minimize}")
    mean = mean.replace("[target, general]", "{target: 3, general: 1}")
    cluster = InProcess(TASK)
    run = tmp_path / "second"
    search(run, spec(tmp_path, HEALTHY, changed, more=mean), [tmp_path / "first"], cluster)
    recalled = [one for one in evaluations(run) if "recalled" in one["details"]]
    assert len(recalled) > 6
    for one in recalled:
        values = one["measurements"]
        wanted = 0.75 * values["target"] / 5 + 0.25 * values["general"] / 2
        assert values["quality"] == pytest.approx(wanted)


def test_a_guide_of_another_budget_leads_to_what_was_best_there(tmp_path: Path) -> None:
    search(tmp_path / "first", spec(tmp_path, HEALTHY, evaluations=24))
    path = spec(tmp_path, HEALTHY, LONGER, more="seed: 5000\n", strategy="surrogate")
    best = {}
    for name, earlier in {"alone": [], "guided": [tmp_path / "first"]}.items():
        search(tmp_path / name, path, earlier)
        own = [one for one in evaluations(tmp_path / name) if one["split"] == "selection"]
        ok = [one["measurements"] for one in own if one["fidelity"] == 1 and one["individual"] < 6]
        best[name] = min(one["target"] for one in ok if one["general"] <= 2.9)
    assert best["guided"] < best["alone"] - 0.05
    bred = [one for one in read(tmp_path / "guided") if one["fact"] == "individual"]
    assert bred[0]["operator"] == "guide: first"
    assert bred[0]["parents"] == []


@pytest.mark.parametrize("changes", [(), (LONGER,)])
def test_a_resume_needs_the_ledger_alone_and_proposes_the_same(
    tmp_path: Path, changes: tuple[tuple[str, str], ...]
) -> None:
    first, whole = tmp_path / "first", tmp_path / "whole"
    search(first, spec(tmp_path, HEALTHY))
    path = spec(tmp_path, HEALTHY, *changes, strategy="surrogate", evaluations=16)
    search(whole, path, [first], InProcess(TASK, random.Random(1)))
    assert read(whole)[1]["fact"] == "imported"
    shutil.rmtree(first)
    lines = (whole / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for number in (2, 9, 25):
        run = tmp_path / f"cut-{number}"
        run.mkdir()
        (run / "ledger.jsonl").write_bytes(b"".join(lines[:number]))
        search(run, path, cluster=InProcess(TASK, random.Random(number), size=3))
        assert outcome(run) == outcome(whole)


def recipes(path: Path, found: Import) -> dict[int, dict[str, Any]]:
    """Recipes of the evaluations to recall on the selection split, by individual."""
    config = configuration.load(path)
    records = [one for one in found.fact["recalled"] if one["fidelity"]]
    return {one["individual"]: configuration.decode(config, one["genome"]) for one in records}


def kept(run: Path, number: int) -> Path:
    """A checkpoint of an individual."""
    folder = weights.folder_of(run / "artifacts", number)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    return folder


def test_checkpoints_are_copied_unless_they_have_links_or_code(tmp_path: Path) -> None:
    path, first = spec(tmp_path, HEALTHY), tmp_path / "first"
    search(first, path)
    kept(first, 0)
    (kept(first, 1) / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    linked = kept(first, 2) / "model.safetensors"
    linked.unlink()
    linked.symlink_to("/etc/passwd")
    [found] = imports(path, first)
    config = configuration.load(path)
    artifacts = tmp_path / "run" / "artifacts"
    recall = recall_of(config, [found.fact], artifacts)
    for number in range(4):
        recalled = recall(EvaluationSpec(10 + number, recipes(path, found)[number], 0))
        assert recalled is not None
        assert recalled.spec.individual == 10 + number
    assert [one.name for one in artifacts.iterdir()] == ["individual-10"]
    assert (artifacts / "individual-10" / "model.safetensors").read_text() == "weights"


def test_what_cannot_be_recalled_is_asked_for(tmp_path: Path) -> None:
    path = spec(tmp_path, HEALTHY)
    search(tmp_path / "first", path)
    [found] = imports(path, tmp_path / "first")
    config = configuration.load(path)
    recall = recall_of(config, [found.fact], tmp_path / "artifacts")
    recipe = recipes(path, found)[0]
    assert recall(EvaluationSpec(0, recipe, 0)) is not None
    assert recall(EvaluationSpec(0, {**recipe, "rate": recipe["rate"] * (1 + 1e-9)}, 0)) is None
    assert recall(EvaluationSpec(0, recipe, 1)) is None
    assert recall(EvaluationSpec(0, recipe, 0, 0.5)) is None
    assert recall(EvaluationSpec(0, recipe, 0, parents=(3,))) is None
    assert recall(EvaluationSpec(0, {}, 0, 0.0)) is not None


def test_a_changed_ledger_is_refused(tmp_path: Path) -> None:
    path = spec(tmp_path, HEALTHY, strategy="surrogate")
    search(tmp_path / "first", path)
    [found] = imports(path, tmp_path / "first")
    fact = dict(found.fact)
    fact["guide"] = [{**fact["guide"][0], "genome": {"mixture": "much"}}]
    with pytest.raises(InputError, match=r"imported of first has a genome.*restore the ledger"):
        guides_of(configuration.load(path), [fact])


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_real_search_recalls_another_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real fine-tunes: the same search with more slots, of which the first are recalled."""
    tiny = ["budget.tokens=6144", "search.population=4", "comparison.seeds=1", "prompts={}"]
    tiny += ["search.simulate=off"]
    tiny += [
        f"domains.{d}.{s}.limit=4" for d in ("target", "general") for s in ("selection", "test")
    ]
    settings = [word for override in tiny for word in ("--set", override)]
    first, run = tmp_path / "first", tmp_path / "run"
    few = [*settings, "--set", "budget.evaluations=5"]
    assert main(["launch", "quickstart", "--run", str(first), *few]) == DONE
    more = ["quickstart", *settings, "--set", "budget.evaluations=7", "--from", str(first)]
    capsys.readouterr()
    assert main(["launch", *more, "--dry-run"]) == DONE
    said = "--from first: 4 individuals to recall, 4 as a guide, 0 refused"
    assert said in " ".join(capsys.readouterr().out.split())
    assert main(["launch", *more, "--run", str(run)]) == DONE
    assert said in " ".join(capsys.readouterr().err.split())
    old = {str(one["measurements"]) for one in evaluations(first)}
    recalled = [one for one in evaluations(run) if "recalled" in one["details"]]
    assert len([one for one in recalled if one["fidelity"] and one["split"] == "selection"]) >= 3
    assert {str(one["measurements"]) for one in recalled} <= old
    assert any(one["split"] == "test" for one in recalled)
    shutil.rmtree(first)
    assert main(["export", str(run), "--to", str(tmp_path / "model")]) == DONE
