"""A real search whose trainer is a command, killed with its driver and resumed."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from evo.cli import DONE, main
from tests.evo.driving import evo, start, wait_until
from tests.evo.facts import read
from tests.evo.search.test_loop import outcome

pytestmark = pytest.mark.slow
TRAINER = """\
import json, os, signal, sys
from pathlib import Path
asked = json.load(open(sys.argv[1]))
if "HANG" in os.environ and asked["individual"] >= 3:
    (Path(os.environ["HANG"]) / str(os.getpid())).touch()
    signal.pause()
rate, texts = asked["recipe"]["rate"], [json.loads(line) for line in open(asked["data"])]
words = {word for row in texts for word in row["text"].split()}
loss = abs(rate - 0.3) + 10 / (10 + len(words)) + asked["seed"] / 1e6
json.dump({"loss": loss, "words": len(words)}, open(sys.argv[2], "w"))
"""
SPEC = """\
name: own
model: {{base: quickstart}}
evaluator:
  command: [{python}, trainer.py, "{{recipe}}", "{{measurements}}"]
  data: jsonl
sources:
  jargon: {{path: {corpus}/jargon.jsonl, limit: 50}}
  devil: {{path: {corpus}/devil.jsonl, limit: 50}}
recipe: {{sequence_length: 32}}
genome:
  mixture: {{type: simplex}}
  rate: {{type: float, low: 0, high: 1}}
objectives: {{loss: minimize}}
baselines: [proportional]
search: {{strategy: nsga2, population: 4, parallel: 2}}
budget: {{evaluations: 6, tokens: 640}}
resources: {{workers: 1}}
comparison: {{seeds: 1}}
"""


def write_spec(folder: Path) -> Path:
    import evo.quickstart

    corpus = Path(evo.quickstart.__file__).parent / "corpus" / "sources"
    (folder / "trainer.py").write_text(TRAINER)
    spec = folder / "own.yaml"
    spec.write_text(SPEC.format(python=sys.executable, corpus=corpus))
    return spec


def is_alive(process: str) -> bool:
    try:
        return psutil.Process(int(process)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("here")
def test_a_killed_search_takes_its_commands_along_and_resumes_to_the_same_run(
    tmp_path: Path,
) -> None:
    spec, undisturbed, run = write_spec(tmp_path), tmp_path / "undisturbed", tmp_path / "run"
    assert main(["launch", str(spec), "--run", str(undisturbed)]) == DONE
    (hanging := tmp_path / "hanging").mkdir()
    driver = start("launch", spec, "--run", run, HANG=hanging)
    wait_until(driver, run, '"fact":"evaluation"', 4)
    deadline = time.monotonic() + 360
    while not (trainers := os.listdir(hanging)):
        assert time.monotonic() < deadline
    assert all(map(is_alive, trainers))
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    while any(map(is_alive, os.listdir(hanging))):
        assert time.monotonic() < deadline
    resumed = evo("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(run) == outcome(undisturbed)
    evaluations = [fact for fact in read(run) if fact["fact"] == "evaluation"]
    assert {fact["status"] for fact in evaluations} == {"ok"}
    assert {fact["measurements"]["words"] == 0 for fact in evaluations if not fact["fidelity"]} == {
        True
    }
    assert all(fact["measurements"]["words"] > 50 for fact in evaluations if fact["fidelity"])
