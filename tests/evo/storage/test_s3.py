"""A mirror on a real S3 server: searches, the commands that read it, and all that can be wrong."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import tests.evo.rounds.scenario as scenario
from evo.cli import BAD_INPUT, DONE, main
from evo.storage.fetch import readable
from fitness.remote.fetched import fetched
from tests.evo.driving import environment, wait_until
from tests.evo.facts import read
from tests.evo.search.test_loop import outcome
from tests.evo.storage.conftest import SECRET, Bucket, driver
from tests.evo.toy import write_spec
from tests.fitness.quickstart import CORPUS, DATA, MODEL

EVALUATIONS = 24
SPEC = f"""\
name: by-url
model: {{base: quickstart}}
{DATA}recipe: {{learning_rate: 1e-3, sequence_length: 48, batch_size: 4}}
genome:
  mixture: {{type: simplex}}
objectives: {{target/loss: minimize}}
baselines: [uniform]
search: {{strategy: nsga2, population: 4, replicates: 1, simulate: off}}
budget: {{evaluations: 5, tokens: 576}}
resources: {{workers: 1}}
comparison: {{seeds: 1}}
"""


def launch(spec: Path, run: Path, *overrides: str) -> int:
    settings = [word for one in overrides for word in ("--set", one)]
    return main(["launch", str(spec), "--run", str(run), *settings])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return write_spec(tmp_path, evaluations=EVALUATIONS)


@pytest.mark.usefixtures("here")
def test_a_mirrored_run_is_read_by_url_as_its_folder_is(
    spec: Path, tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert launch(spec, run, f"mirror={bucket.url}") == DONE
    shown = {}
    for place in (str(run), f"{bucket.url}/run"):
        capsys.readouterr()
        for command in (["status", "--json"], ["history", "--csv", "-"], ["compare", "--json"]):
            assert main([command[0], place, *command[1:]]) == DONE
        shown[place] = capsys.readouterr().out
        assert main(["report", place]) == DONE
        assert f"run:    {place}" in capsys.readouterr().out
    here, there = shown.values()
    assert here == there.replace(str(readable(f"{bucket.url}/run")), str(run))
    content = [bucket.store().read(name) for name in bucket.store().sizes()]
    content += [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    assert not [one for one in content if SECRET.encode() in one]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("url", "variables", "message"),
    [
        ("s3://nowhere/runs", {}, r"there is no such bucket; make it"),
        (
            "s3://searches/runs",
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            r"no credentials .*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
        ),
        (
            "s3://searches/runs",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            r"cannot be reached .*check the address and the network, or leave `mirror` out",
        ),
        ("s3://key:secret@searches/runs", {}, r"toy.yaml|may be a secret and would be recorded"),
        ("gs://searches/runs", {}, r"needs the package gcsfs; `pip install 'evomix\[gs\]'`"),
        ("http://searches/runs", {}, r"mirror: http://searches/runs: must begin with 's3://'"),
        ("runs", {}, r"mirror: runs: must begin with 's3://'"),
        ("s3://", {}, r"names no bucket or folder; write s3://bucket/path"),
        ("file:///nowhere/runs", {}, r"there is no such folder; make it"),
    ],
)
def test_an_unusable_mirror_is_refused_before_anything_trains(
    url: str,
    variables: dict[str, str],
    message: str,
    spec: Path,
    tmp_path: Path,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    monkeypatch.setenv("TOY_CALLS", str(calls))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    for command in (["launch", "--dry-run"], ["launch", "--run", str(tmp_path / "run")]):
        arguments = [command[0], str(spec), "--set", f"mirror={url}", *command[1:]]
        assert main(arguments) == BAD_INPUT
        error = capsys.readouterr().err
        assert re.search(message, error)
        assert "Traceback" not in error
        assert "key:secret" not in error
    assert list(calls.iterdir()) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("here")
def test_a_bucket_that_refuses_is_said_with_what_to_do(
    spec: Path, tmp_path: Path, bucket: Bucket, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import requests

    reset = f"{server}/moto-api/reset-auth"
    requests.post(reset, data="0", timeout=60).raise_for_status()
    try:
        assert launch(spec, tmp_path / "run", f"mirror={bucket.url}") == BAD_INPUT
    finally:
        requests.post(reset, data="1000000", timeout=60).raise_for_status()
    error = capsys.readouterr().err
    assert f"mirror: {bucket.url}: refused (" in error
    assert "check the credentials, and what they may do there" in error
    assert SECRET not in error


@pytest.mark.usefixtures("here")
def test_a_mirror_that_holds_another_run_is_refused_at_a_launch(
    spec: Path, tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(spec, tmp_path / "run", f"mirror={bucket.url}") == DONE
    assert launch(spec, tmp_path / "b" / "run", f"mirror={bucket.url}", "seed=3") == BAD_INPUT
    assert f"`evo resume {bucket.url}/run` continues it" in capsys.readouterr().err
    assert launch(spec, tmp_path / "other", f"mirror={bucket.url}", "seed=3") == DONE


@pytest.mark.usefixtures("here")
def test_a_resume_may_add_a_mirror_change_it_and_leave_it_out(
    spec: Path, tmp_path: Path, bucket: Bucket
) -> None:
    run, sizes = tmp_path / "run", lambda: bucket.store().sizes()
    assert launch(spec, run) == DONE
    assert sizes() == {}
    assert main(["resume", str(run), "--set", f"mirror={bucket.url}"]) == DONE
    assert {"run/ledger.jsonl", "run/config.yaml"} <= sizes().keys()
    before = sizes()
    more = ["--set", f"budget.evaluations={EVALUATIONS + 4}"]
    assert main(["resume", str(run), "--set", "mirror=null", *more]) == DONE
    assert sizes() == before


@pytest.mark.usefixtures("here")
def test_a_command_that_writes_into_the_run_refuses_a_url(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["feedback", "open", f"{bucket.url}/run"])
    assert "`evo resume` fetches a mirrored run, then name its folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_killed_on_one_machine_and_resumed_on_another_ends_as_the_undisturbed_one(
    spec: Path, tmp_path: Path, bucket: Bucket
) -> None:
    machines, calls = Machines(tmp_path, bucket, TOY_SECONDS="0.2"), tmp_path / "calls"
    calls.mkdir()
    whole = machines.undisturbed(spec)
    machines.variables["TOY_CALLS"] = str(calls)
    machines.killed(spec, "run", 8)
    there = readable(f"{bucket.url}/run")
    evaluated = [f for f in read(there) if f["fact"] == "evaluation"]
    assert 8 <= len(evaluated) < EVALUATIONS
    before = len(list(calls.iterdir()))
    run = machines.resumed("--set", "resources.workers=1", "--trust")
    assert outcome(run) == outcome(whole)
    every = [f for f in read(run) if f["fact"] == "evaluation"]
    keys = [(f["individual"], f["seed"], f["fidelity"], f["split"]) for f in every]
    assert len(keys) == len(set(keys))
    really = [sum("same_as" not in f["details"] for f in one) for one in (evaluated, every)]
    assert len(list(calls.iterdir())) - before == really[1] - really[0]
    assert bucket.store().read("run/ledger.jsonl") == (run / "ledger.jsonl").read_bytes()
    assert "run/lease.json" not in bucket.store().sizes()
    for path in [*run.rglob("*"), *(tmp_path / "cache").rglob("*")]:
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.mark.slow
def test_rounds_of_real_fine_tunes_move_to_another_machine_in_the_second_round(
    tmp_path: Path, bucket: Bucket
) -> None:
    spec = tmp_path / "rounds.yaml"
    spec.write_text(scenario.SPEC)
    machines = Machines(tmp_path, bucket)
    whole = machines.undisturbed(spec)
    machines.killed(spec, "run/round-2", 3)
    run = machines.resumed()
    for number in (1, 2):
        assert outcome(run / f"round-{number}") == outcome(whole / f"round-{number}")
    found = [[f for f in read(one) if f["fact"] == "round"] for one in (run, whole)]
    without_times = [[{**f, "time": 0} for f in one] for one in found]
    assert without_times[0] == without_times[1]


class Machines:
    """Machines with a folder each, in which `evo` is called; the first loses its folder."""

    def __init__(self, folder: Path, bucket: Bucket, **variables: str) -> None:
        self.folders = [folder / name for name in ("alone", "first", "second")]
        for one in self.folders:
            one.mkdir()
        self.bucket = bucket
        self.variables = environment(**bucket.variables, **variables)

    def undisturbed(self, spec: Path) -> Path:
        """The run of a search that nothing happens to, on a machine without a mirror."""
        self._call(self.folders[0], "launch", spec, "--run", "runs/run")
        return self.folders[0] / "runs" / "run"

    def killed(self, spec: Path, watched: str, count: int) -> None:
        """Launch, and kill the driver and delete its folder after so many evaluations."""
        mirror = ("--set", f"mirror={self.bucket.url}")
        command = driver("launch", spec, "--run", "runs/run", *mirror)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        place: dict[str, Any] = {"env": self.variables, "cwd": self.folders[1]}
        with subprocess.Popen(command, text=True, **place, **pipes) as running:
            wait_until(running, self.folders[1] / "runs" / watched, '"fact":"evaluation"', count)
            self._wait_for_copy(watched, running)
            os.kill(running.pid, signal.SIGKILL)
            running.communicate()
        shutil.rmtree(self.folders[1])

    def resumed(self, *more: str) -> Path:
        """The run after it was resumed to its end on the second machine."""
        self._call(self.folders[2], "resume", f"{self.bucket.url}/run", *more)
        return self.folders[2] / "runs" / "run"

    def _call(self, folder: Path, *arguments: object) -> None:
        done = subprocess.run(
            driver(*arguments),
            env=self.variables,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stderr + done.stdout

    def _wait_for_copy(self, watched: str, running: "subprocess.Popen[str]") -> None:
        """Return once the mirror has at least what the ledger has now."""
        size = (self.folders[1] / "runs" / watched / "ledger.jsonl").stat().st_size
        while self.bucket.store().sizes().get(f"{watched}/ledger.jsonl", 0) < size:
            assert running.poll() is None


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_search_reads_sources_and_the_model_from_a_bucket(
    tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched.cache_clear()
    store = bucket.store()
    for path in MODEL.iterdir():
        store.upload(f"model/{path.name}", path)
    store.upload("jargon.jsonl", CORPUS / "sources" / "jargon.jsonl")
    spec = tmp_path / "by-url.yaml"
    text = SPEC.replace("base: quickstart", f"base: '{bucket.url}/model'")
    spec.write_text(text.replace(f"{CORPUS}/sources/jargon.jsonl", f"{bucket.url}/jargon.jsonl"))
    assert launch(spec, tmp_path / "run", f"mirror={bucket.url}") == DONE
    assert read(tmp_path / "run")[0]["config"]["model"]["base"] == f"{bucket.url}/model"
    spec.write_text(SPEC)
    assert launch(spec, tmp_path / "local") == DONE
    assert outcome(tmp_path / "run") == outcome(tmp_path / "local")
    to = tmp_path / "model"
    shutil.rmtree(tmp_path / "run")
    capsys.readouterr()
    assert main(["export", f"{bucket.url}/run", "--to", str(to)]) == DONE
    assert "train" not in capsys.readouterr().err  # its checkpoint came from the mirror
    assert main(["export", str(tmp_path / "local"), "--to", str(tmp_path / "other")]) == DONE
    assert (to / "model.safetensors").read_bytes() == (
        tmp_path / "other" / "model.safetensors"
    ).read_bytes()
