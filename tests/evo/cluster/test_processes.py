"""Several processes for each individual, by a real Ray: what a kill of any of them changes."""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
import ray
import torch
from safetensors.torch import save_file

from evo.cli import BAD_INPUT, main
from evo.cluster.machine import fitting
from evo.cluster.queue import Cluster, Lost
from evo.config import Resources
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status
from tests.evo.driving import evaluators, evo, start, wait_until, workers_of
from tests.evo.facts import read
from tests.fitness.quickstart import CORPUS, small_recipe, small_task

TOKENS = 1920


def write_spec(folder: Path) -> Path:
    def text(name: str, limit: int | None = None) -> dict[str, object]:
        return {"path": str(CORPUS / name), "limit": limit}

    spec = folder / "search.yaml"
    held_out = {s: text(f"held_out/jargon.{s}.jsonl", 20) for s in ("selection", "test")}
    spec.write_text(
        json.dumps(
            {
                "name": "processes",
                "model": {"base": "quickstart"},
                "sources": {n: text(f"sources/{n}.jsonl") for n in ("jargon", "devil")},
                "domains": {"target": held_out},
                "recipe": {"batch_size": 5, "sequence_length": 48, "dropout": 0.1},
                "genome": {"mixture": {"type": "simplex"}},
                "objectives": {"target/loss": "minimize"},
                "baselines": ["uniform"],
                "search": {"population": 4, "parallel": 2, "replicates": 1, "rungs": [0.5]},
                "budget": {"evaluations": 4, "tokens": TOKENS},
                "resources": {"workers": 1, "processes": 2, "sharding": "full"},
                "comparison": {"seeds": 1},
            }
        )
    )
    return spec


def outcome(run: Path) -> list[str]:
    return sorted(
        repr([fact[name] for name in ("individual", "fidelity", "split", "status", "measurements")])
        for fact in read(run)
        if fact["fact"] == "evaluation"
    )


@pytest.mark.slow
def test_the_death_of_one_process_or_of_the_driver_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, calm, harmed = write_spec(tmp_path), tmp_path / "calm", tmp_path / "harmed"
    done = evo("launch", spec, "--run", calm)
    assert done.returncode == 0, done.stderr
    driver = start("launch", spec, "--run", harmed)
    wait_until(driver, harmed, '"evaluation"', 2)
    first, second = workers_of(driver)
    second.kill()
    wait_until(driver, harmed, '"lost"', 1)
    wait_until(driver, harmed, '"evaluation"', 4)
    assert not first.is_running(), "the whole worker was replaced"
    living = workers_of(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    psutil.wait_procs(living, timeout=200)
    assert not any(process.is_running() for process in living)
    for setting, decides in (
        ("processes=3", "decides which process adds up which sums"),
        ("sharding=none", "resources.sharding decides the order of sums"),
    ):
        assert main(["resume", str(harmed), "--set", f"resources.{setting}"]) == BAD_INPUT
        assert decides in capsys.readouterr().err
    done = evo("resume", harmed)
    assert done.returncode == 0, done.stderr
    assert outcome(harmed) == outcome(calm)


@pytest.mark.slow
def test_one_process_that_fails_or_hangs_ends_the_evaluation_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evo.cluster.queue.GRACE_SECONDS", 0.5)
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    save_file({"weight": torch.zeros(1)}, artifacts / "state-1-0-1.safetensors")  # and no header
    task = small_task(tmp_path, artifacts=artifacts, processes=2, timeout=60.0)
    recipe = small_recipe().model_dump(mode="json")
    cluster = Cluster(Resources(workers=1, processes=2, timeout=task.timeout), task)

    def answer(spec: EvaluationSpec) -> Evaluation | Lost:
        cluster.submit(spec)
        while not (answers := cluster.poll(1.0)):
            pass
        return answers[0]

    def workers() -> list[psutil.Process]:
        return evaluators(psutil.Process())

    try:
        by_one = answer(EvaluationSpec(1, recipe, 0, continue_from=0.5))
        assert isinstance(by_one, Evaluation)
        assert by_one.status is Status.ERROR
        assert "state.load" in by_one.message, "what the second process said"
        unharmed = answer(EvaluationSpec(2, recipe, 0))
        assert isinstance(unharmed, Evaluation)
        assert unharmed.status is Status.OK, unharmed.message
        former = workers()
        assert len(former) == 2, "those of the first worker are gone"
        former[-1].suspend()
        cluster._resources = cluster._resources.model_copy(update={"timeout": 5.0})
        by_none = answer(EvaluationSpec(3, recipe, 0))
        assert isinstance(by_none, Evaluation)
        assert by_none.status is Status.TIMED_OUT
        _, alive = psutil.wait_procs(former, timeout=120)
        assert alive == []
        groups = ray.util.placement_group_table().values()
        assert [group["state"] for group in groups if group["state"] != "REMOVED"] in (
            ["CREATED"],
            ["PENDING"],
        )
        latter = workers()
    finally:
        cluster.close()
    _, alive = psutil.wait_procs(latter, timeout=120)
    assert alive == []


def test_room_is_counted_in_processes() -> None:
    offers = [{"CPU": 4.0}, {"CPU": 3.0}]
    assert fitting(Resources(processes=3, cpus=1), offers) == 2
    assert fitting(Resources(processes=3, cpus=2), offers) == 1, "on two machines together"
    with pytest.raises(InputError, match=r"4 processes of 2 CPUs and 0 GPUs.* room for 3"):
        fitting(Resources(processes=4, cpus=2), offers)
