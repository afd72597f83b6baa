"""Real Ray clusters on this machine: joining one, machines without the files, machines that die.

A machine is a node of Ray's; one that does not see the driver's files has a mount namespace of its
own. Every process is found again by a token in its environment, and killed by its number.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from evo.cli import DONE, main
from evo.cluster import machine, shipping
from fitness.data.sources import TokenFile
from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.remote.folders import COMPLETE
from tests.evo.driving import LEDGER, ROOT, evo, facts_written, start, wait_until
from tests.evo.facts import read
from tests.evo.search.test_loop import InProcess, search
from tests.evo.toy import write_spec

pytestmark = pytest.mark.slow
QUICKSTART = ROOT / "evo" / "quickstart"
RAY = Path(sys.executable).with_name("ray")
HIDING = "for folder; do mount -t tmpfs none $folder || exit 1; done"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Machines:
    """A head without CPUs, and nodes; all that they start carries the cluster's token."""

    def __init__(self, *options: str, port: int | None = None, **variables: str) -> None:
        self.token = secrets.token_hex(32)
        self.folder = tempfile.mkdtemp(prefix="evo", dir="/tmp")  # a socket's path must be short
        self.port, self.client_port = port or free_port(), free_port()
        head = ["--head", f"--port={self.port}", f"--ray-client-server-port={self.client_port}"]
        head += [f"--temp-dir={self.folder}"]
        head += options or ["--include-dashboard=false", "--num-cpus=0"]
        self.head = self._start(*head, hidden=(), **variables)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def add(self, cpus: int, *, hidden: tuple[Path, ...] = (), **variables: str) -> psutil.Process:
        """A node's raylet, once it runs; `hidden` folders are empty there."""
        joined = (f"--address={self.address}", f"--num-cpus={cpus}")
        return self._start(*joined, hidden=hidden, **variables)

    def _start(
        self, *options: str, hidden: tuple[Path, ...] = (), **variables: str
    ) -> psutil.Process:
        before = {raylet.pid for raylet in self._named("raylet")}
        command = [str(RAY), "start", "--disable-usage-stats", *options]
        if hidden:
            script = f"{HIDING}; exec {' '.join(command)}"
            command = ["unshare", "-m", "sh", "-c", script, "sh", *map(str, hidden)]
        subprocess.run(
            command,
            env={**environment(self), "RAY_AUTH_MODE": "token", **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=200,
        )
        [raylet] = [raylet for raylet in self._named("raylet") if raylet.pid not in before]
        return raylet

    def raylets(self) -> list[psutil.Process]:
        return self._named("raylet")

    def wait_for(self, count: int) -> None:
        """Return once so many machines are left."""
        deadline = time.monotonic() + 200
        while len(self.raylets()) != count:
            assert time.monotonic() < deadline, self.raylets()
            time.sleep(0.2)

    def _named(self, name: str) -> list[psutil.Process]:
        return [process for process in self.processes() if process.name() == name]

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("RAY_AUTH_TOKEN") == self.token:
                    found.append(process)
        return found

    def stop(self) -> None:
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(processes, timeout=5)
        shutil.rmtree(self.folder, ignore_errors=True)


def environment(machines: Machines) -> dict[str, str]:
    return {
        **os.environ,
        "RAY_AUTH_TOKEN": machines.token,
        "PYTHONPATH": "",  # what is not installed there must come from the driver
    }


@pytest.fixture
def machines() -> Iterator[Machines]:
    started = Machines()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def may_hide() -> None:
    script = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    if not shutil.which("unshare") or subprocess.run(script, capture_output=True).returncode:
        pytest.skip("mount namespaces are not permitted here")


def toy_in_process(folder: Path, spec: Path) -> list[Any]:
    search(folder, spec, InProcess(Task("tests.evo.toy:score")))
    return measured(folder)


def measured(run: Path) -> list[Any]:
    """All that a run measured; not the messages, which hold the paths of each machine."""
    evaluations = [fact for fact in read(run) if fact["fact"] == "evaluation"]
    names = ("individual", "seed", "fidelity", "split", "status", "measurements")
    return sorted(repr([fact[name] for name in names]) for fact in evaluations)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:{closed}", "nothing answers there .*refused.*; check host and port"),
        ("ray://nowhere.invalid:10001", "nothing answers there"),
        ("somewhere", "Invalid address format"),
        ("127.0.0.1:{silent}", "no Ray cluster answered within 3 s.*ray://host:10001"),
        ("ray://127.0.0.1:{silent}", "no Ray cluster answered within 3 s"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_an_error(
    address: str,
    told: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "silent" in address:  # whatever the time, no answer comes within it
        monkeypatch.setattr(machine, "ANSWER_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = {"closed": free_port(), "silent": silent.getsockname()[1]}
        with pytest.raises(InputError, match=told):
            machine.reach(address.format(**ports))
    assert capfd.readouterr() == ("", "")


def test_an_unreachable_cluster_ends_a_launch_with_code_2_and_nothing_written(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    done = evo(
        "launch", write_spec(tmp_path), "--run", run, "--address", f"127.0.0.1:{free_port()}"
    )
    assert done.returncode == 2
    *phases, told = done.stderr.splitlines()
    assert told.startswith("evo: resources.address '127.0.0.1:")
    assert [line.split(" (")[0] for line in phases if not line.startswith("evo: note")] == [
        "checking the model and the data",
        f"joining the Ray cluster at {told.split(chr(39))[1]}",
    ]
    assert not run.exists()


def test_a_joined_cluster_gives_the_local_outcome_and_a_wrong_token_an_error(
    tmp_path: Path,
    machines: Machines,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    machines.add(2)
    spec, run = write_spec(tmp_path, evaluations=12), tmp_path / "run"
    line = ("launch", spec, "--run", run, "--json", "--address", "auto")
    done = evo(*line, RAY_AUTH_TOKEN=machines.token, RAY_ADDRESS=machines.address)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == read(run)
    assert measured(run) == toy_in_process(tmp_path / "local", spec)
    assert [said for said in done.stderr.splitlines() if "evo: note:" not in said] == []
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    client = f"ray://127.0.0.1:{machines.client_port}"  # the two ways by which searches below join
    for address in (machines.address, client):
        with pytest.raises(InputError, match=r"asks for a token.*copy ~/.ray/auth_token"):
            machine.reach(address)
    assert capfd.readouterr() == ("", "")


SHORT = (
    *("--set", "budget.evaluations=6", "--set", "budget.tokens=3072"),
    *("--set", "search.population=4", "--set", "comparison.seeds=1"),
    *("--set", "prompts.jargon.limit=2", "--set", "prompts.categories.limit=2"),
    *("--set", "search.simulate=4", "--set", "genome.mixture.over=[jargon, devil]"),
    *("--set", "domains.target.selection.limit=5", "--set", "domains.target.test.limit=5"),
    *("--set", "domains.general.selection.limit=5", "--set", "domains.general.test.limit=5"),
)


@pytest.mark.usefixtures("may_hide", "here")
def test_a_machine_without_the_files_gives_the_same_measurements(
    tmp_path: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden there: base model, corpus, cache of tokens, the tests with their own evaluator.

    Checkpoints come and go through a mirror, those of experts whose sums are simulated too.
    """
    cache, theirs = tmp_path / "cache", tmp_path / "theirs"
    own, store = tmp_path / "own", tmp_path / "store"
    for folder in (cache, theirs, own, store):
        folder.mkdir()
    raylet = machines.add(
        2, hidden=(cache, own, QUICKSTART, ROOT / "tests"), EVOMIX_CACHE=str(theirs)
    )
    assert not os.listdir(f"/proc/{raylet.pid}/root{QUICKSTART}")
    monkeypatch.setenv("EVOMIX_CACHE", str(cache))
    there: dict[str, Any] = {"RAY_AUTH_TOKEN": machines.token}
    line = ("launch", "quickstart", *SHORT, "--run")
    assert main([*line, str(tmp_path / "local")]) == DONE
    client = ("--address", f"ray://127.0.0.1:{machines.client_port}")
    mirror = ("--set", f"mirror={store.as_uri()}")
    remote = evo(*line, tmp_path / "remote", *client, *mirror, **there)
    assert remote.returncode == 0, remote.stderr
    assert measured(tmp_path / "remote") == measured(tmp_path / "local")
    runs = (tmp_path / "local", store / "remote")
    kept, put = (sorted(one.glob("artifacts/individual-*")) for one in runs)
    assert [path.name for path in put] == [path.name for path in kept]
    assert all((path / COMPLETE).is_file() for path in put)
    assert list((tmp_path / "remote").glob("artifacts/*")) == []
    assert {path.suffix for path in theirs.rglob("*.*")} >= {".tokens", ".safetensors"}
    spec = write_spec(own, evaluations=6)
    spec.write_text(spec.read_text().replace("tests.evo.toy:score", "mine:score"))
    (own / "mine.py").write_text("def score(recipe, **_): return {'target': 1, 'general': 2}\n")
    toy = evo("launch", spec, "--run", tmp_path / "toy", *client, cwd=own, **there)
    assert toy.returncode == 0, toy.stderr
    ended = [f["status"] for f in read(tmp_path / "toy") if f["fact"] == "evaluation"]
    assert set(ended) == {"ok"}


def test_a_model_that_differs_in_one_byte_counts_as_not_there_and_moves_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    contents = {model / "config.json": b"{}", model / "model.safetensors": b"abc"}
    for path, content in contents.items():
        path.write_bytes(content)
    tokens = tmp_path / "x.tokens"
    tokens.write_bytes(b"1234")
    file = TokenFile("x", str(tokens), 2, 1, 4, "<u2", "x")
    task = Task("builtin", model, sources={"x": file}, artifacts=tmp_path)
    wanted = shipping.marks(task)
    assert shipping.missing(task, wanted) == []
    (model / "model.safetensors").write_bytes(b"abd")
    assert shipping.missing(task, wanted) == sorted(contents)
    copies = {path: shipping.stored(path, contents[path], wanted) for path in contents}
    there = shipping.moved(task, copies)
    assert there.model is not None
    assert (there.model / "model.safetensors").read_bytes() == b"abc"
    assert there.sources == task.sources
    assert there.artifacts is None
    tokens.unlink()
    assert shipping.missing(task, wanted) == sorted([*contents, tokens])


GIVING_UP = """
import sys
from evo import cli
from evo.cluster import health
health.ROOM_SECONDS, health.TELL_SECONDS = 6, 2
health.KNOCK_SECONDS, health.SILENT_SECONDS = 1, 4
sys.exit(cli.main())
"""


def test_a_search_outlives_a_machine_and_without_any_or_a_head_it_ends_resumable(
    tmp_path: Path, machines: Machines
) -> None:
    spec = write_spec(tmp_path, evaluations=16)
    expected = toy_in_process(tmp_path / "local", spec)
    first, second = (machines.add(1, TOY_SECONDS="0.5") for _ in range(2))
    run = tmp_path / "run"
    there: dict[str, Any] = {"RAY_AUTH_TOKEN": machines.token}
    driver = start("launch", spec, "--run", run, "--address", machines.address, **there)
    evaluations = 2
    wait_until(driver, run, '"fact":"evaluation"', 1)
    while len({fact["worker"] for fact in read(run) if fact["fact"] == "evaluation"}) < 2:
        wait_until(driver, run, '"fact":"evaluation"', evaluations)  # until both have worked
        evaluations += 1
    first.kill()
    text, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, text
    assert measured(run) == expected
    assert facts_written(run, '"fact":"lost"') >= 1

    def hasty(run: Path) -> "subprocess.Popen[str]":
        line = ["launch", spec, "--run", run, "--address", machines.address]
        return subprocess.Popen(
            [sys.executable, "-c", GIVING_UP, *map(str, line)],
            cwd=ROOT,
            env={**environment(machines), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    run = tmp_path / "none"
    driver = hasty(run)
    wait_until(driver, run, '"fact":"evaluation"', 2)
    second.kill()
    text, _ = driver.communicate(timeout=300)
    assert driver.returncode == 1, text
    assert "warning: no machine of the cluster has room for a worker of 1 CPUs" in text
    assert f"then resume\nresume with: evo resume {run}" in text
    assert "raylet" not in text
    machines.add(2, TOY_SECONDS="0.5")
    resumed = evo("resume", run, RAY_AUTH_TOKEN=machines.token)
    assert resumed.returncode == 0, resumed.stderr
    assert measured(run) == expected

    run = tmp_path / "beheaded"
    driver = hasty(run)
    wait_until(driver, run, '"fact":"evaluation"', 2)
    [control] = machines._named("gcs_server")
    control.kill()
    text, _ = driver.communicate(timeout=300)
    assert driver.returncode == 1, text
    told, remedy = text.splitlines()[-2:]
    port = machines.address.rpartition(":")[2]  # at any of the machine's own addresses
    assert re.match(rf"evo: the cluster's head does not answer on \S+:{port} since", told)
    assert remedy == f"resume with: evo resume {run}"


BORN = """
import os, sys
from pathlib import Path
from tests.evo.toy import score
if "ray" in sys.modules:
    {dies}
"""


@pytest.mark.parametrize(
    ("dies", "code", "told"),
    [
        ("if not Path('dead').exists(): Path('dead').touch(); os._exit(1)", 0, ""),
        ("os._exit(1)", 1, "3 workers in a row failed to start .*: The actor is dead because"),
        ("raise RuntimeError('no such device')", 2, "born.*: RuntimeError: no such device$"),
    ],
)
def test_a_worker_killed_at_birth_is_replaced_and_one_that_cannot_be_born_stops_the_search(
    tmp_path: Path, dies: str, code: int, told: str
) -> None:
    spec = write_spec(tmp_path, evaluations=6)
    spec.write_text(spec.read_text().replace("tests.evo.toy", "born"))
    (tmp_path / "born.py").write_text(
        BORN.format(dies=dies.replace("'dead'", repr(str(tmp_path / "dead"))))
    )
    done = evo("launch", spec, "--run", tmp_path / "run")
    assert done.returncode == code, done.stderr
    if told:
        assert "Traceback" not in done.stderr
        assert re.search(told, done.stderr, re.MULTILINE), done.stderr


def test_a_base_model_with_broken_weights_is_named_in_one_line(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(QUICKSTART / "model", model)
    weights = load_file(model / "model.safetensors")
    weights[max(weights)] = weights[max(weights)] * float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    run = tmp_path / "run"
    done = evo("launch", "quickstart", *SHORT, "--set", f"model.base={model}", "--run", run)
    assert done.returncode == 2
    assert "are not finite" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / LEDGER).exists() or facts_written(run, '"fact":"evaluation"') == 0


SUBMITTING = """
import time
from evo.cluster.queue import Cluster
from evo.config import Resources
from fitness.evaluation import EvaluationSpec, Task

cluster = Cluster(Resources(workers=1), Task("tests.evo.toy:score"))
recipe = {"mixture": {"a": 1.0, "b": 0.0}, "rate": 0.01, "kind": "x"}
deadline, slot = time.time() + 240, 0
while cluster.busy < 3 and time.time() < deadline:
    cluster.submit(EvaluationSpec(slot, recipe, 0))
    slot += 1
    time.sleep(0.005)
print(*[result.spec.individual for result in cluster.poll(0)][:2])


def result(number, kind):
    cluster.submit(EvaluationSpec(number, {**recipe, "kind": kind}, 0))
    while True:
        for one in cluster.poll(0.1):
            if one.spec.individual == number:
                return one


broken, again = result(-1, "broken"), result(-2, "x")
next_one = result(-3, "device")
print(broken.worker == again.worker == next_one.worker, next_one.status)
last = result(-4, "x")
print(last.worker == next_one.worker, last.status)
cluster.close()
"""


def test_a_free_worker_takes_the_next_before_anyone_polls_and_one_with_a_broken_gpu_none() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUBMITTING],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=True,
    )
    assert done.stdout.splitlines() == ["0 1", "True error", "False ok"]
