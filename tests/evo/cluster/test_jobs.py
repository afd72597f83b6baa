"""`evo launch` as a job of a Ray cluster, by Ray's own job server, state API and metrics."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evo.cluster.gauges import GAUGES
from tests.evo.cluster.test_queue import Machines, environment, free_port, measured, toy_in_process
from tests.evo.driving import ROOT, facts_written
from tests.evo.facts import read
from tests.evo.toy import write_spec

pytest.importorskip("aiohttp_cors", reason="Ray's job server needs ray[default]")
pytestmark = pytest.mark.slow
SECONDS = 180


class JobServer(Machines):
    """A head of two CPUs with Ray's job server and metrics."""

    def __init__(self) -> None:
        self.web, self.metrics = free_port(), free_port()
        super().__init__(
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.web}",
            "--dashboard-agent-listen-port=0",
            f"--metrics-export-port={self.metrics}",
            "--num-cpus=2",
            PYTHONPATH=str(ROOT),
            RAY_metrics_report_interval_ms="500",
        )

    def ray(self, *arguments: object) -> str:
        """Output of a `ray` command against this cluster."""
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *map(str, arguments)],
            env={
                **environment(self),
                "RAY_AUTH_MODE": "token",
                "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.web}",
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, name: str, *command: object, **variables: str) -> None:
        evo = (sys.executable, "-m", "evo.cli", *command)
        runtime = json.dumps({"env_vars": {"HF_HUB_OFFLINE": "1", **variables}})
        options = ("--submission-id", name, "--no-wait", "--runtime-env-json", runtime)
        self.ray("job", "submit", *options, "--", *evo)

    def ended(self, name: str) -> str:
        """The state in which a job has ended."""
        state = ""

        def over() -> bool:
            nonlocal state
            state = self.ray("job", "status", name).lower()
            return any(
                f"'{name}' {word}" in state for word in ("succeeded", "failed", "was stopped")
            )

        until(over)
        return state


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    started = JobServer()
    try:
        yield started
    finally:
        started.stop()


def test_a_job_that_was_stopped_is_submitted_again_and_ends_as_the_undisturbed_search(
    tmp_path: Path, server: JobServer
) -> None:
    spec, run = write_spec(tmp_path, evaluations=12), tmp_path / "run"
    line = ("launch", spec, "--run", run, "--address", "auto", "--or-resume")
    server.submit("first", *line, TOY_SECONDS="1")
    until(lambda: facts_written(run, '"evaluation"') >= 4)
    server.ray("job", "stop", "first")
    assert "was stopped" in server.ended("first")
    assert read(run)[-1]["fact"] == "stopped"
    server.submit("second", *line)
    assert "succeeded" in server.ended("second")
    assert measured(run) == toy_in_process(tmp_path / "calm", spec)
    first, second = (server.ray("job", "logs", name) for name in ("first", "second"))
    assert "[0/12] launched:" in first
    assert f"stopped; resume with: evo resume {run}" in first
    assert f"resumed: {run}" in second
    assert "winner (individual" in second
    ours = [line for line in (first + second).splitlines() if " -- " not in line]
    assert "\x1b" not in "".join(ours), "no colours, no table that is drawn anew"


def test_workers_have_the_name_of_their_run_and_the_metrics_its_state(
    tmp_path: Path, server: JobServer
) -> None:
    spec, run = write_spec(tmp_path, evaluations=200), tmp_path / "named"
    line = ("launch", spec, "--run", run, "--address", "auto")
    server.submit("named", *line, TOY_SECONDS="0.5")
    until(lambda: facts_written(run, '"evaluation"') >= 6)
    actors = server.ray("list", "actors", "--address", server.address, "--filter", "state=ALIVE")
    for number in (1, 2):
        assert f"{tmp_path.name}/named/worker-{number}" in actors

    def scraped() -> dict[str, float]:
        lines = urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics").read()
        ours = [one for one in lines.decode().splitlines() if one.startswith("ray_evo_")]
        values = {
            one.split("{")[0] + (":target" if 'objective="target"' in one else ""): one
            for one in ours
            if 'run="named"' in one
        }
        return {name: float(one.rsplit(" ", 1)[1]) for name, one in values.items()}

    until(lambda: "ray_evo_best:target" in scraped())
    found = scraped()
    assert {name.removeprefix("ray_").split(":")[0] for name in found} == set(GAUGES)
    assert found["ray_evo_workers"] == 2
    assert 0 <= found["ray_evo_workers_busy"] <= 2
    assert found["ray_evo_evaluations_finished"] >= 1
    assert 3.5 < found["ray_evo_best:target"] < 6
    server.ray("job", "stop", "named")
    server.ended("named")
