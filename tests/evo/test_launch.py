"""Real searches on a real Ray, launched as a user does, and everything that can happen to them."""

import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from evo.cli import BAD_INPUT, DONE, main
from fitness.evaluation import Task
from tests.evo.driving import evo, facts_written, kill_group, start, wait_until, workers_of
from tests.evo.facts import read
from tests.evo.search.test_aggregation import with_aggregates
from tests.evo.search.test_loop import InProcess, outcome, search
from tests.evo.toy import write_spec

pytestmark = pytest.mark.slow
EVALUATIONS = 24


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The outcome of the toy search that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = write_spec(folder, evaluations=EVALUATIONS)
    search(folder / "run", spec, InProcess(Task("tests.evo.toy:score")))
    return outcome(folder / "run")


def test_more_workers_than_the_clock_is_made_for_make_the_same_run_and_are_told(
    tmp_path: Path, undisturbed: list[str]
) -> None:
    run = tmp_path / "run"
    done = evo("launch", write_spec(tmp_path, evaluations=EVALUATIONS, workers=8), "--run", run)
    assert done.returncode == 0, done.stderr
    assert "8 workers, but search.parallel is 4" in done.stderr
    assert outcome(run) == undisturbed


def test_a_killed_worker_is_replaced_and_nothing_else_changes(
    tmp_path: Path, undisturbed: list[str]
) -> None:
    run = tmp_path / "run"
    spec = write_spec(tmp_path, evaluations=EVALUATIONS)
    driver = start("launch", spec, "--run", run, TOY_SECONDS=0.2)
    for evaluations in (3, 9, 15):
        wait_until(driver, run, '"fact":"evaluation"', evaluations)
        random.Random(evaluations).choice(workers_of(driver)).kill()
    text, _ = driver.communicate(timeout=360)
    assert driver.returncode == 0, text
    assert outcome(run) == undisturbed
    assert facts_written(run, '"fact":"lost"') >= 1


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_says_how_to_resume_and_resuming_completes(
    tmp_path: Path, undisturbed: list[str], times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    spec = write_spec(tmp_path, evaluations=EVALUATIONS)
    driver = start("launch", spec, "--run", run, TOY_SECONDS=0.5)
    wait_until(driver, run, '"fact":"evaluation"', 3)
    assert main(["resume", str(run)]) == BAD_INPUT
    assert f"in use by process {driver.pid}" in capsys.readouterr().err
    for _ in range(times):
        kill_group(driver)
    text, _ = driver.communicate(timeout=200)
    assert driver.returncode == 130
    assert f"evo resume {run}" in text
    assert read(run)[-1]["fact"] == "stopped"
    assert facts_written(run, '"fact":"lost"') == 0
    assert evo("resume", run).returncode == 0
    assert outcome(run) == undisturbed


def test_an_evaluation_over_its_time_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    spec = write_spec(tmp_path, evaluations=6, timeout=3)
    spec.write_text(spec.read_text().replace("toy:score", "toy:hang"))
    done = evo("launch", spec, "--run", run)
    assert done.returncode == 0, done.stderr
    ends = [f["status"] for f in read(run) if f["fact"] == "evaluation" and f["fidelity"] == 1]
    assert ends.count("timed_out") >= 1
    assert ends.count("ok") >= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_stops_the_search_cleanly_and_room_lets_it_resume(
    tmp_path: Path, small_disk: Path
) -> None:
    spec = write_spec(tmp_path, evaluations=120)
    whole, run = tmp_path / "whole", small_disk / "run"
    search(whole, spec, InProcess(Task("tests.evo.toy:score")))
    assert (whole / "ledger.jsonl").stat().st_size > 64 * 1024
    stopped = evo("launch", spec, "--run", run)
    assert stopped.returncode == 1
    assert "No space left on device" in stopped.stderr
    assert f"evo resume {run}" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert 0 < facts_written(run, '"fact":"evaluation"') < 120
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    resumed = evo("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(run) == outcome(whole)


def test_json_prints_every_fact_and_nothing_else_and_aggregates_are_in_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    relative = "quality: {mean: [target, general], relative_to: base}"
    limit = "quality <= 1.5 * base, worst <= 6"
    spec = with_aggregates(tmp_path, relative, "worst: {max: target}", limit=limit, evaluations=6)
    done = evo("launch", spec, "--run", run, "--json")
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert printed == read(run)
    search(tmp_path / "again", spec, InProcess(Task("tests.evo.toy:score")))
    assert outcome(run) == outcome(tmp_path / "again")
    shown = {}
    for command in ("status", "history", "report"):
        assert main([command, str(run)]) == DONE
        shown[command] = capsys.readouterr().out
    assert re.search(r"winner .*: quality [01]\.\d+, general", shown["status"])
    assert "quality <= 1.5 (1.5 * base)" in shown["status"]
    assert "quality" in shown["history"]
    assert "quality" in shown["report"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "quality (times the base)" in page
    assert main(["compare", str(run), str(tmp_path / "again"), "--json"]) == DONE
    compared = json.loads(capsys.readouterr().out)
    assert compared["objectives"] == {"quality": "minimize", "general": "minimize"}


@pytest.mark.filterwarnings("ignore:.*torn last line")
def test_buckets_end_the_same_on_any_workers_and_resume_from_within_one(tmp_path: Path) -> None:
    """Real fine-tunes, two at a time on one base; cut where one of two had been written down."""
    tiny = ["budget.tokens=6144", "budget.evaluations=6", "search.population=4"]
    tiny += ["comparison.seeds=1", "recipe.adapter=lora", "prompts={}", "search.simulate=off"]
    tiny += [
        f"domains.{d}.{s}.limit=5" for d in ("target", "general") for s in ("selection", "test")
    ]
    settings = [word for override in tiny for word in ("--set", override)]
    whole, run = tmp_path / "whole", tmp_path / "run"
    launched = evo("launch", "quickstart", "--run", whole, *settings, "--set", "search.bucket=2")
    assert launched.returncode == 0, launched.stderr
    facts = read(whole)
    place = next(p for p, f in enumerate(facts) if f["fact"] == "evaluation" and f["fidelity"] == 1)
    assert facts[place]["started"] == facts[place + 1]["started"]  # of one bucket
    run.mkdir()
    lines = (whole / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[: place + 1]))
    resumed = evo("resume", run, "--set", "resources.workers=1")
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(run) == outcome(whole)


@pytest.mark.usefixtures("here")
def test_a_real_search_loses_a_worker_and_its_driver_and_ends_the_same(tmp_path: Path) -> None:
    """Real fine-tunes: a worker is killed in training, then the driver; then an export."""
    tiny = ["budget.tokens=6144", "budget.evaluations=7", "search.population=4"]
    tiny += ["comparison.seeds=1", "search.simulate=4"]
    tiny += ["genome.mixture.over=[jargon, devil, python]"]
    tiny += [
        f"domains.{d}.{s}.limit=4" for d in ("target", "general") for s in ("selection", "test")
    ]
    tiny += [f"prompts.{name}.limit=3" for name in ("jargon", "categories")]
    settings = [word for override in tiny for word in ("--set", override)]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert main(["launch", "quickstart", "--run", str(whole), *settings]) == DONE
    driver = start("launch", "quickstart", "--run", run, *settings)
    evaluations = 3
    while not facts_written(run, '"fact":"lost"'):  # a worker may have been free when it was killed
        wait_until(driver, run, '"fact":"evaluation"', evaluations)
        workers_of(driver)[0].kill()
        evaluations += 2
        wait_until(driver, run, '"fact":"evaluation"', evaluations)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    resumed = evo("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(run) == outcome(whole)
    assert (run / "report.html").stat().st_size > 1_000_000
    exported = evo("export", run, "--to", tmp_path / "model")
    assert exported.returncode == 0, exported.stderr
    assert {"model.safetensors", "recipe.yaml", "README.md", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "model").iterdir()
    }
