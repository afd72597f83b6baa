"""Trackers beside a driver: one that is down, a driver that is killed, and a real MLflow server."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from evo.cli import BAD_INPUT, DONE, main
from evo.record.ledger import read
from evo.tracking.records import evaluations, searches
from tests.evo.driving import evo, start, wait_until
from tests.evo.here import Here
from tests.evo.toy import write_spec
from tests.evo.tracking import readers
from tests.evo.tracking.test_trackers import named

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries
PORT_SECONDS = 120


@contextmanager
def server(folder: Path, port: int) -> Iterator[str]:
    """A real MLflow server on this machine."""
    pytest.importorskip("flask", reason="the MLflow server is not installed")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PORT_SECONDS
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            assert process.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()
        log.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_a_tracker_that_is_down_stops_no_search_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evo.run.Cluster", Here)
    monkeypatch.chdir(tmp_path)
    trackers = f"track={{mlflow: {{uri: 'http://127.0.0.1:{free_port()}'}}, tensorboard: {{}}}}"
    spec = write_spec(tmp_path, evaluations=6)
    assert main(["launch", str(spec), "--run", "run", "--set", trackers]) == DONE
    told = capsys.readouterr().err
    assert "evo: warning: track.mlflow: MlflowException" in told
    assert "run --to mlflow` sends the rest" in told
    assert "evo: tracked by tensorboard: tensorboard --logdir" in told
    [(search, _, facts)] = searches(tmp_path / "run")
    names = {"search", *(named(one) for one in evaluations(search, facts))}
    assert set(readers.tensorboard(tmp_path / "run" / "tensorboard")) == names
    monkeypatch.setattr("evo.run.Cluster", None)  # nothing is evaluated
    assert main(["resume", "run"]) == DONE
    assert "evo: tracked by tensorboard" in capsys.readouterr().err


def test_a_launch_that_is_refused_tracks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evo.run.Cluster", None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    spec = write_spec(tmp_path)
    assert main(["launch", str(spec), "--run", "run", "--set", "track={wandb: {}}"]) == BAD_INPUT
    assert "no credentials for Weights & Biases" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_whose_driver_was_killed_is_tracked_once(tmp_path: Path) -> None:
    spec, run, port = write_spec(tmp_path, evaluations=8), tmp_path / "run", free_port()
    tracking = ("--set", f"track.mlflow={{uri: 'http://127.0.0.1:{port}'}}")
    driver = start("launch", spec, "--run", run, *tracking, cwd=tmp_path, TOY_SECONDS=0.3)
    wait_until(driver, run, '"fact":"evaluation"', 3)
    children = psutil.Process(driver.pid).children()
    followers = [one for one in children if "evo.tracking.follower" in one.cmdline()]
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert followers
    _, alive = psutil.wait_procs(followers, timeout=60)
    assert not alive
    with server(tmp_path, port) as url:
        done = evo("resume", run, cwd=tmp_path)
        assert f"tracked by mlflow: {url}/#/experiments/1/runs/" in done.stderr, done.stderr
        again = evo("track", run, cwd=tmp_path)
        assert "mlflow: nothing new" in again.stdout, again.stderr
        found = readers.mlflow(url)
    [(search, _, facts)] = searches(run)
    wanted = evaluations(search, facts)
    assert set(found) == {"run", *(one.name for one in wanted)}
    for one in wanted:
        assert found[one.name] == {name: [(0, value)] for name, value in one.metrics.items()}
    assert read(run)[-1]["fact"] == "finished"
