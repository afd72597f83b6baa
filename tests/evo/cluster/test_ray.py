"""Ray on this machine: how it starts, who can reach it, and what is said where it fails."""

import json
import os
import re
from pathlib import Path
from typing import Any

import psutil
import pytest

from evo.cli import BAD_INPUT, STOPPED, main
from evo.cluster import connection, health, machine
from evo.cluster.connection import ClusterError
from evo.cluster.health import Liveness
from evo.config import Resources
from fitness.errors import InputError
from fitness.evaluation import Task
from tests.evo.driving import ROOT, evo, start, wait_until
from tests.evo.toy import write_spec


def test_a_folder_too_long_for_sockets_is_bad_input_that_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(deep))
    spec = write_spec(tmp_path)
    for line in (["--dry-run"], ["--run", str(tmp_path / "run")]):
        assert main(["launch", str(spec), *line]) == BAD_INPUT
        *phase, told = capsys.readouterr().err.splitlines()
        assert told.startswith("evo: TMPDIR is ")
        assert "set RAY_TMPDIR to a short folder, such as /tmp" in told
        assert "resume" not in told
        assert len(phase) <= 1
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    machine.check_temporary_folder()


def test_the_sockets_are_measured_as_ray_measures_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.utils import validate_socket_filepath

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for length in range(20, 80):
        folder = "/" + "d" * (length - 1)
        monkeypatch.setenv("TMPDIR", folder)
        name = machine.SOCKET.format(process=os.getpid())
        outcomes = []
        for check in (
            machine.check_temporary_folder,
            lambda path=f"{folder}/{name}": validate_socket_filepath(path),
        ):
            try:
                check()
            except (InputError, OSError):
                outcomes.append(False)
            else:
                outcomes.append(True)
        assert outcomes[0] == outcomes[1]


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("seconds", "comes"), [(95.0, True), (float("inf"), False)])
def test_a_node_that_is_slow_to_start_is_waited_for_three_times_as_long_as_ray_does(
    monkeypatch: pytest.MonkeyPatch, seconds: float, comes: bool
) -> None:
    from ray._private import services

    clock = Clock()
    begun = clock.now

    def ask(*_: Any) -> Any:
        if clock.now < begun + seconds:
            raise RuntimeError("not there")
        return {"node": 1}

    monkeypatch.setattr(services, "get_node", ask)
    monkeypatch.setattr(connection, "time", clock)
    with connection._patience(begun + connection.START_SECONDS):
        if comes:
            assert services.get_node("127.0.0.1:1", "id") == {"node": 1}
        else:
            with pytest.raises(RuntimeError, match="not there"):
                services.get_node("127.0.0.1:1", "id")
            assert clock.now >= begun + connection.START_SECONDS
    assert services.get_node is ask


class Died:
    """A node whose raylet has ended."""

    killed = 0

    def dead_processes(self) -> list[tuple[str, None]]:
        return [("log_monitor", None), ("raylet", None)]

    def kill_all_processes(self, check_alive: bool) -> None:
        Died.killed += 1


def test_a_raylet_that_gives_up_while_ray_starts_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray
    from ray._private import services
    from ray._private.node import Node

    def fails(*_: Any) -> None:
        raise RuntimeError("not there")

    attempts: list[str] = []

    def init(**_: Any) -> None:
        attempts.append("init")
        if len(attempts) < 3:
            Node.start_ray_processes(Died())
            services.get_node("127.0.0.1:1", "id")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(services, "get_node", fails)
    monkeypatch.setattr(Node, "start_ray_processes", lambda node: None)
    connection.connect(Resources(), Task("tests.evo.toy:score"), [])
    assert (len(attempts), Died.killed) == (3, 2)


@pytest.mark.parametrize(
    ("error", "raised", "told"),
    [
        (
            Exception("The current node timed out during startup. This could happen because"),
            ClusterError,
            r"^Ray did not start on this machine, for which it has 180 s .*timed out during",
        ),
        (
            PermissionError(13, "Permission denied", "/tmp/ray"),
            InputError,
            r"^Ray cannot use the folder .*Permission denied.*; set RAY_TMPDIR to",
        ),
    ],
)
def test_a_ray_that_does_not_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], told: str
) -> None:
    import ray

    def init(**_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(raised, match=told) as caught:
        connection.connect(Resources(), Task("tests.evo.toy:score"), [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (
            ClusterError("Ray did not start"),
            1,
            "evo: Ray did not start\nnothing was evaluated yet: launch again\n",
        ),
        (
            KeyboardInterrupt(),
            STOPPED,
            "evo: stopped; nothing was evaluated yet: launch again\n",
        ),
    ],
)
def test_a_launch_that_never_began_is_not_to_be_resumed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    told: str,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("evo.run.Cluster", fails)
    assert main(["launch", str(write_spec(tmp_path)), "--run", str(tmp_path / "run")]) == code
    assert capsys.readouterr().err.endswith(told)


class Pending:
    """A demand with the given answers, one after the other; the last one stays."""

    def __init__(self, *answers: int | None) -> None:
        self._answers = list(answers)

    def waiting(self) -> int | None:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def passing(
    monkeypatch: pytest.MonkeyPatch, demand: Pending, seconds: float, address: str = "a:6379"
) -> None:
    """Look every two seconds for so long whether there is room for two workers, none of which has
    started."""
    clock = Clock()
    monkeypatch.setattr(health, "time", clock)
    monkeypatch.setattr(health, "control_address", lambda: ("a", 6379))
    waiting = Liveness(Resources(workers=2, address=address))
    waiting._demand = demand  # type: ignore[assignment]
    while clock.now < 1000 + seconds:
        waiting.check_room(2, started=False)
        clock.sleep(2)


@pytest.mark.parametrize("address", ["local", "a:6379"])
def test_workers_that_start_slowly_are_not_said_to_wait_for_room(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    demand = Pending(None, 0, 1, 0)  # of two workers
    passing(monkeypatch, demand, 290, address)
    with pytest.raises(ClusterError, match="no worker has started within 300 s"):
        passing(monkeypatch, demand, 310, address)


def test_workers_without_room_are_said_to_wait_for_it_and_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passing(monkeypatch, Pending(0, 2), 12)
    with pytest.warns(UserWarning, match="no machine of the cluster has room for a worker"):
        passing(monkeypatch, Pending(2), 20)
    with (
        pytest.warns(UserWarning, match="has room"),
        pytest.raises(ClusterError, match="had room for a worker of 1 CPUs and 0 GPUs within 120"),
    ):
        passing(monkeypatch, Pending(2), 200)


@pytest.mark.slow
def test_ray_is_reached_from_this_machine_alone_and_its_end_is_one_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    driver = start(
        "launch", write_spec(tmp_path, evaluations=12), "--run", run, "--json", TOY_SECONDS=0.5
    )
    wait_until(driver, run, '"fact":"evaluation"', 2)
    processes = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    listening = [
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 3
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    [control] = [process for process in processes if process.name() == "gcs_server"]
    control.kill()
    text, _ = driver.communicate(timeout=120)
    assert driver.returncode == 1, text
    *facts, told, remedy = (line for line in text.splitlines() if "evo: note:" not in line)
    assert told == "evo: gcs_server, a process of Ray on this machine, has ended"
    assert remedy == f"resume with: evo resume {run}"
    assert json.loads(facts[0])["fact"] == "search"
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive
    resumed = evo("resume", run)
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.parametrize("name", ["numbers.py", "random/__init__.py"])
def test_a_folder_that_hides_pythons_own_modules_from_ray_is_refused(
    tmp_path: Path, name: str
) -> None:
    machine.check_import_paths([ROOT, ROOT / "runs", tmp_path])
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "turtle.py").touch()  # of Python too, but loaded by nobody
    machine.check_import_paths([tmp_path])
    (tmp_path / name).touch()
    wanted = f"{tmp_path / name}: hides Python's own module {name.split('.py')[0].split('/')[0]}"
    with pytest.raises(InputError, match=re.escape(wanted)):
        machine.check_import_paths([ROOT, tmp_path])
