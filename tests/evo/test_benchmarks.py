"""Searches with benchmarks as objectives: real ones on a real Ray, and what they refuse."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.cli import main
from evo.dry_run import plan
from evo.prepare.evaluated import evaluated
from evo.prepare.task import prepare
from fitness.cost import scoring_parts
from tests.evo.driving import ROOT, evo
from tests.evo.facts import read

SPEC = ROOT / "runs" / "benchmarks.yaml"
SMALL = [
    "benchmarks.glosses.limit=8",
    "benchmarks.general.limit=3",
    "budget={evaluations: 3, tokens: 3072}",
    "search={population: 3, parallel: 2, replicates: 1}",
    "comparison.seeds=1",
    "baselines=[uniform]",
]


def own_copy(folder: Path) -> Path:
    """The tracked spec's tasks, with data of their own, to be changed."""
    tasks = folder / "tasks"
    shutil.copytree(SPEC.parent / "benchmarks", tasks)
    corpus = ROOT / "evo" / "quickstart" / "corpus"
    for file in tasks.glob("*.yaml"):
        text = file.read_text("utf-8").replace("../../evo/quickstart/corpus", "data")
        file.write_text(text, encoding="utf-8")
    for name in ("prompts", "held_out"):
        shutil.copytree(corpus / name, tasks / "data" / name)
    return tasks


def test_the_dry_run_shows_the_documents_of_each_task(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    Console(width=120).print(plan(configuration.load(SPEC, SMALL)))
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if "/which" in line or "/prose" in line]
    assert [one for one in rows[0] if one in ("8", "documents")][:2] == ["8", "documents"]
    assert any("general/prose" in line and "3 documents" in line for line in out.splitlines())


def test_benchmarks_count_in_the_cost_and_their_texts_are_no_samples() -> None:
    config = configuration.load(SPEC, SMALL)
    parts = scoring_parts(prepare(config).task)
    flops, documents = parts["benchmarks.glosses"]
    assert documents == 16
    assert flops > parts["benchmarks.general"][0] > 0
    assert any("Category: artifact" in text for text in evaluated(config))


@pytest.mark.usefixtures("here")
def test_a_resume_with_other_documents_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, run = own_copy(tmp_path), tmp_path / "run"
    included = [f"benchmarks.{name}.include={tasks}" for name in ("glosses", "general")]
    settings = [word for one in [*SMALL, *included] for word in ("--set", one)]
    assert main(["launch", str(SPEC), "--run", str(run), *settings]) == 0
    data = tasks / "data" / "held_out" / "general.selection.jsonl"
    data.write_text(data.read_text("utf-8").replace("the", "thy"), encoding="utf-8")
    capsys.readouterr()
    assert main(["resume", str(run)]) == 2
    assert "benchmarks.general.prose changed; restore them" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_optimises_a_benchmark_and_its_export_scores_as_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fitness.benchmarks.test_scoring import by_lm_eval

    run, model = tmp_path / "run", tmp_path / "model"
    settings = [word for one in SMALL for word in ("--set", one)]
    done = evo("launch", SPEC, "--run", run, *settings)
    assert done.returncode == 0, done.stderr
    facts: Any = read(run)
    evaluations = [one for one in facts if one["fact"] == "evaluation"]
    assert {one["status"] for one in evaluations} == {"ok"}
    assert {one["split"] for one in evaluations} == {"selection", "test"}
    names = {"glosses/which/acc", "glosses/name/exact_match", "general/prose/bits_per_byte"}
    assert all(names <= one["measurements"].keys() for one in evaluations)
    items = evaluations[0]["details"]["items"]["glosses/which/acc"]
    assert (items["unit"], items["count"]) == ("document", 8)
    exported = evo("export", run, "--individual", 0, "--to", model)
    assert exported.returncode == 0, exported.stderr
    config = configuration.load(SPEC, SMALL)
    measured = next(
        one
        for one in evaluations
        if one["individual"] == 0 and one["split"] == "selection" and one["fidelity"] == 1
    )["measurements"]
    tasks = prepare(config).task.benchmark_tasks
    monkeypatch.chdir(SPEC.parent / "benchmarks")
    for name, known in tasks.items():
        for task, results in by_lm_eval(known, "selection", str(model)).items():
            for key, value in results.items():
                metric, _, of = key.partition(",")
                if of and not metric.endswith("_stderr"):
                    assert measured[f"{name}/{task}/{metric}"] == pytest.approx(value, rel=1e-4)
    report = evo("report", run)
    assert report.returncode == 0, report.stderr
    assert "glosses/which/acc" in (run / "report.html").read_text("utf-8")


def test_the_command_refuses_an_unknown_metric_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "objectives={glosses/which/accuracy: maximize}"
    assert main(["launch", str(SPEC), "--run", str(tmp_path / "run"), "--set", wrong]) == 2
    assert "unknown measurement glosses/which/accuracy" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
