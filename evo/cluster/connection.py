"""Connections to Ray, started on this machine or joined elsewhere, and its error messages."""

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evo.cluster.machine import (
    PROBES,
    SLOW_CLIENT_SERVER,
    check_temporary_folder,
    logical_cpus,
    reach,
    set_token,
    temporary_folder,
    variables_set,
    worker_variables,
)
from evo.cluster.shipping import own_modules
from evo.config import Resources
from fitness.errors import InputError
from fitness.evaluation import Task

PACKAGES = ("evo", "population", "fitness")
START_SECONDS = 180  # for Ray on this machine; its own limit of 30 is too short for a busy one
KNOCK_SECONDS = 2.0


class ClusterError(Exception):
    """The cluster cannot continue; the run can be resumed. The message says why."""


def reason(error: BaseException) -> str:
    """The line with the reason of a Ray error, whose messages are long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith("The actor is dead because")]
    return (reasons or [f"{type(error).__name__}: {lines[-1] if lines else ''}"])[0]


@contextmanager
def connection() -> Iterator[None]:
    """Turn errors of a lost connection into ClusterError."""
    import ray

    try:
        yield
    except (ConnectionError, ray.exceptions.RaySystemError) as error:
        raise ClusterError(f"the connection to the cluster broke ({reason(error)})") from None


def connect(resources: Resources, task: Task, import_paths: list[Path]) -> None:
    """Start Ray on this machine, or connect to a cluster within a bounded time."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # never to another cluster by itself
    set_token(resources.address)
    variables = worker_variables(resources.cpus, import_paths)
    if resources.address == "local":
        _start_here(resources, variables)
    else:
        os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # of a job that sets the same
        reach(resources.address)
        packages = [Path(__file__).parents[2] / name for name in PACKAGES]
        modules = [str(path) for path in (*packages, *own_modules(task, import_paths))]
        _join(resources.address, {"env_vars": variables, "py_modules": modules})
    import ray

    # raylets' complaints would go to standard output, among the facts of --json
    ray._private.worker._worker_logs_enabled = False


def _start_here(resources: Resources, variables: Mapping[str, str]) -> None:
    """Start Ray on this machine, reachable from this machine alone."""
    check_temporary_folder()
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(START_SECONDS))

    deadline = time.monotonic() + START_SECONDS
    try:
        # workers inherit this process's variables, which is a second faster
        with variables_set(variables), _loopback_only(), _processes_needed():
            while not _started(deadline, logical_cpus(resources)):
                pass
    except OSError as error:
        raise InputError(
            f"Ray cannot use the folder {temporary_folder()} ({error}); set RAY_TMPDIR to a short "
            "folder that you may write to"
        ) from None
    except Exception as error:  # Ray raises bare ones, such as for a node that is slow to start
        raise ClusterError(
            f"Ray did not start on this machine, for which it has {START_SECONDS} s "
            f"({reason(error)}); is the machine very busy, or out of memory or disk space?"
        ) from None


def _join(address: str, environment: dict[str, Any]) -> None:
    import ray

    for remaining in reversed(range(PROBES)):
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env=environment,
            )
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            if SLOW_CLIENT_SERVER in str(error) and remaining:
                continue
            raise InputError(
                f"resources.address {address!r}: cannot connect to Ray ({reason(error)}); "
                "is the cluster up? see `ray status` there"
            ) from None
        return


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Have every process of Ray listen on 127.0.0.1, not on all interfaces.

    Ray's gRPC servers do that where the node's address is 127.0.0.1, but `ray.init` replaces that
    address by an outer one, unless this is a machine where Ray knows no clusters.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _processes_needed() -> Iterator[None]:
    """Start neither Ray's autoscaler, nor its dashboard, nor its reader of logs.

    A search on one machine uses none of them. Without them Ray starts in half of the time, with
    270 MB less, and reports no usage.
    """
    from ray._private.node import Node

    start = Node.start_head_processes

    def start_fewer(node: Any) -> None:
        node._ray_params.no_monitor = True
        node._ray_params.include_log_monitor = False
        node.start_api_server = lambda **_: None
        start(node)

    Node.start_head_processes = start_fewer
    try:
        yield
    finally:
        Node.start_head_processes = start


class _EndedEarly(Exception):
    """A process of Ray ended while Ray was starting."""


def _started(deadline: float, cpus: int) -> bool:
    """Start Ray on this machine; False if one of its processes gave up and there is time to retry.

    On a busy machine the raylet ends itself when its agent takes over 15 s to start.
    """
    import ray

    with _patience(deadline) as nodes:
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=cpus,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except _EndedEarly:
            nodes[-1].kill_all_processes(check_alive=False)
            if time.monotonic() > deadline:
                raise
            return False
    return True


@contextmanager
def _patience(deadline: float) -> Iterator[list[Any]]:
    """Make Ray wait for its node until the deadline, while its processes run; yields the nodes.

    Ray's own limit is fixed at 30 s, and is checked only between calls of `get_node`, which raises
    RuntimeError until the node has started: here that call is repeated.
    """
    from ray._private import services
    from ray._private.node import Node

    get_node, start = services.get_node, Node.start_ray_processes
    nodes: list[Any] = []

    def patient(*arguments: Any) -> Any:
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if ended := _ended(nodes[-1] if nodes else None):
                    raise _EndedEarly(f"its {ended} ended") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def start_noted(node: Any) -> None:
        nodes.append(node)
        start(node)

    services.get_node, Node.start_ray_processes = patient, start_noted
    try:
        yield nodes
    finally:
        services.get_node, Node.start_ray_processes = get_node, start


def ended_here() -> str:
    """Name of an ended process of the Ray on this machine; empty while all of them run."""
    import ray

    return _ended(ray._private.worker._global_node)


def _ended(node: Any) -> str:
    dead = node.dead_processes() if node is not None else []
    vital = [name for name, _ in dead if name in ("gcs_server", "raylet")]
    return vital[0] if vital else ""


def control_address() -> tuple[str, int] | None:
    """Host and port of the cluster's control service; None through a client's connection."""
    import ray

    if ray.util.client.ray.is_connected():
        return None
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def answers(address: tuple[str, int]) -> bool:
    """True if a connection to (host, port) is accepted."""
    with suppress(OSError):
        socket.create_connection(address, KNOCK_SECONDS).close()
        return True
    return False


def leave(*, lost: bool) -> None:
    """Disconnect, and stop the Ray started here; kill it first if `lost`, as it does not answer."""
    import ray

    node = ray._private.worker._global_node
    if lost and node is not None:
        started = _started_by(node)
        node.kill_all_processes(check_alive=False)
        for process in started:  # Ray's agents would notice after a minute
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
    ray.shutdown()


def _started_by(node: Any) -> list[int]:
    """Numbers of the processes that a node's raylet has started."""
    import psutil  # comes with Ray

    found: list[int] = []
    for one in node.all_processes.get("raylet", []):
        with suppress(psutil.Error):
            found += [child.pid for child in psutil.Process(one.process.pid).children(True)]
    return found


class Demand:
    """Number of processes that wait for room on a machine of the cluster.

    A process that is starting already has its place and does not count.
    """

    def __init__(self) -> None:
        self._request: Any = None

    def waiting(self) -> int | None:
        """Number of waiting processes; None while that is not known."""
        import ray

        if not ray.util.client.ray.is_connected():
            return _pending(ray._private.worker.global_worker.gcs_client)
        if self._request is None:  # a client cannot query this, but a task in the cluster can
            self._request = ray.remote(num_cpus=0)(_pending_there).remote()
        if not ray.wait([self._request], timeout=0)[0]:
            return None
        count, self._request = ray.get(self._request), None
        return int(count)


def _pending_there() -> int:
    import ray

    return _pending(ray._private.worker.global_worker.gcs_client)


def _pending(control: Any) -> int:
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    state = get_cluster_resource_state(control)
    gangs = sum(len(gang.requests) for gang in state.pending_gang_resource_requests)
    return int(gangs + sum(demand.count for demand in state.pending_resource_requests))
