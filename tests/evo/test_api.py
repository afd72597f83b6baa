"""The Python API: a search, its results, its model, beside what the commands say."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_info
from transformers import AutoModelForCausalLM

import evo
from evo.cli import DONE, main
from evo.record.ledger import Ledger
from evo.run import evolve
from fitness.hardware import ONE_THREAD
from tests.evo.driving import ROOT
from tests.evo.here import Here
from tests.evo.synthetic_ledger import ledger
from tests.fitness.quickstart import CORPUS, MODEL

CAPTURED: Any = {"capture_output": True, "text": True, "timeout": 180, "check": False}

SPEC = f"""\
name: little
model: {{base: quickstart}}
sources:
  jargon: {{path: {CORPUS}/sources/jargon.jsonl}}
  devil: {{path: {CORPUS}/sources/devil.jsonl, limit: 100}}
domains:
  target:
    selection: {{path: {CORPUS}/held_out/jargon.selection.jsonl, limit: 8}}
    test: {{path: {CORPUS}/held_out/jargon.test.jsonl, limit: 8}}
recipe: {{batch_size: 4, sequence_length: 48}}
genome:
  mixture: {{type: simplex}}
  adapter: {{type: choice, options: [lora, none]}}
objectives: {{target/loss: minimize}}
baselines: []
search: {{strategy: nsga2, population: 4, replicates: 1}}
budget: {{evaluations: 4, tokens: 768}}
comparison: {{seeds: 1}}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "little.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def run(spec: Path) -> evo.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evo.run.Cluster", Here)
        return evo.launch(evo.load(spec, ["seed=3"]), spec.parent / "run", show="lines")


def test_a_finished_search_tells_its_results_as_the_commands_do(
    run: evo.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.state == "finished"
    assert run.config.seed == 3
    assert (
        len(run.history()) == 4 + 1 + 1 + 1
    )  # the search, the base, the winner and the base on the test split
    best, front = run.best(), run.front()
    assert front["individual"].tolist() == [best.individual]
    assert best.measurements["target/loss"] == front["target/loss"].iloc[0]
    assert best.recipe["batch_size"] == 4
    closing = run.comparison()
    assert set(closing["contender"]) == {"winner", "base"}
    assert main(["status", str(run.folder), "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["best"] == run.status()["best"]
    run.history().pop("status")
    assert "status" in run.history(), "a copy"


def test_a_model_is_the_one_that_is_exported(run: evo.Run, tmp_path: Path) -> None:
    model, tokenizer = run.load_model()
    folder = run.export(tmp_path / "model")
    known = AutoModelForCausalLM.from_pretrained(folder)
    assert not model.training
    prompt = tokenizer("A hacker is", return_tensors="pt")
    with torch.no_grad():
        found, expected, base = (
            one(**prompt).logits
            for one in (model, known, AutoModelForCausalLM.from_pretrained(MODEL))
        )
    assert torch.equal(found, expected)
    assert not torch.allclose(found, base)


def test_a_run_is_shown_in_a_notebook_and_as_a_page(run: evo.Run) -> None:
    page = run._repr_html_()
    assert "target/loss" in page
    assert "finished" in page
    assert run.figure().data
    assert run.report().read_text().startswith("<!doctype html>")
    with pytest.raises(evo.InputError, match=r"no figure 'frond' of .*; it has comparison, "):
        run.figure("frond")


def test_a_finished_run_is_opened_and_resumed_as_it_is(run: evo.Run) -> None:
    assert evo.open_run(str(run.folder)).best() == run.best()
    assert evo.resume(run.folder).state == "finished"


@pytest.mark.usefixtures("here")
def test_a_search_stopped_before_its_first_individual_says_so_and_is_resumed(
    spec: Path, tmp_path: Path, run: evo.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    config = evo.load(spec, ["seed=3"])
    monkeypatch.setattr("evo.run.evolve", stopped)
    with pytest.raises(KeyboardInterrupt):
        evo.launch(config, tmp_path / "run")
    begun = evo.open_run(tmp_path / "run")
    assert begun.state == "stopped"
    with pytest.raises(evo.InputError, match="no individual is the best: none has finished"):
        begun.best()
    assert len(begun.comparison()) == len(begun.front()) == 0
    threads: list[int] = []

    def counting(*given: Any, **named: Any) -> Any:
        threads.extend(one["num_threads"] for one in threadpool_info())
        return evolve(*given, **named)

    monkeypatch.setattr("evo.run.evolve", counting)
    found: list[evo.Run] = []
    thread = threading.Thread(target=lambda: found.append(evo.resume(begun.folder)))
    before = torch.get_num_threads()
    thread.start()
    thread.join()
    assert found[0].best() == run.best()
    assert set(threads) == {1}
    assert torch.get_num_threads() == before


def test_one_thread_is_for_a_while_and_for_libraries_that_are_loaded_meanwhile() -> None:
    code = (
        "import os, torch; torch.set_num_threads(2)\n"
        "from fitness.hardware import one_thread\n"
        "with one_thread(): print(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'])\n"
        "print(torch.get_num_threads(), os.environ.get('OMP_NUM_THREADS'))"
    )
    known = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=known, **CAPTURED)
    assert done.stdout.split() == ["1", "1", "2", "None"], done.stderr


def test_rounds_of_which_none_is_over_are_shown(tmp_path: Path) -> None:
    first, *_ = ledger()
    config = {**first["config"], "rounds": {"limit": 2}}
    Ledger.create(tmp_path, {**first, "config": config}).close()
    page = evo.open_run(tmp_path)._repr_html_()
    assert "No round is over yet" in page


def test_an_error_shows_no_password(spec: Path) -> None:
    with pytest.raises(evo.InputError) as told:
        evo.load(spec, ["model.server=http://ada:hunter2hunter2@host:1/v1"])
    assert "hunter2" not in str(told.value)
    assert issubclass(evo.ClusterError, Exception)
    with pytest.raises(AttributeError, match="no attribute 'launhc'"):
        _ = evo.launhc


@pytest.mark.parametrize(
    ("folder", "told"), [("none", "no such folder|no run"), (".", "no run|no ledger|not a run")]
)
def test_a_folder_without_a_run_is_refused(tmp_path: Path, folder: str, told: str) -> None:
    with pytest.raises(evo.InputError, match=told):
        evo.open_run(tmp_path / folder)


def test_a_typo_in_a_spec_is_told_with_its_line(spec: Path) -> None:
    with pytest.raises(evo.InputError, match=r"budget.evaluation.*did you mean|evaluations"):
        evo.launch(evo.load(spec, ["budget.evaluation=3"]))


@pytest.mark.usefixtures("here")
def test_the_program_of_the_reference_runs(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my-search").mkdir()
    (tmp_path / "my-search/search.yaml").write_text(spec.read_text())
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.startswith("A hacker is")
    assert evo.open_run("runs/mine").state == "finished"
