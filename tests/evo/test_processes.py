"""Several processes for each individual, by a real Ray: what a kill of any of them changes."""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from evo.ledger import read
from evo.machine import fitting
from fitness.errors import InputError
from tests.evo.driving import evo, start, wait_until, workers_of
from tests.fitness.quickstart import CORPUS

TOKENS = 3840


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
                "resources": {"workers": 1, "processes": 2},
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
def test_the_death_of_one_process_or_of_the_driver_changes_nothing(tmp_path: Path) -> None:
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
    psutil.wait_procs(living, timeout=60)
    assert not any(process.is_running() for process in living)
    other = evo("resume", harmed, "--set", "resources.processes=1")
    assert "decides who adds up which sums" in other.stderr
    done = evo("resume", harmed)
    assert done.returncode == 0, done.stderr
    assert outcome(harmed) == outcome(calm)


def test_room_is_counted_in_processes() -> None:
    from evo.config import Resources

    offers = [{"CPU": 4.0}, {"CPU": 3.0}]
    assert fitting(Resources(processes=3, cpus=1), offers) == 2
    assert fitting(Resources(processes=3, cpus=2), offers) == 1, "on two machines together"
    with pytest.raises(InputError, match=r"4 processes of 2 CPUs and 0 GPUs.* room for 3"):
        fitting(Resources(processes=4, cpus=2), offers)
