"""Joining Ray, and what its errors say: the cluster that is started here, or another one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evo.config import Resources
from evo.machine import logical_cpus, reach, set_token, variables_set, worker_variables
from evo.shipping import own_modules
from fitness.errors import InputError
from fitness.evaluation import Task

PACKAGES = ("evo", "population", "fitness")


class ClusterError(Exception):
    """The cluster cannot go on; the run can be resumed. The message says why and what to do."""


def reason(error: BaseException) -> str:
    """The line of an error that says why: Ray surrounds it with much else."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("The actor is dead because")]
    return (told or [f"{type(error).__name__}: {lines[-1] if lines else ''}"])[0]


@contextmanager
def connection() -> Iterator[None]:
    """A cluster that is gone is not a bug."""
    import ray

    try:
        yield
    except (ConnectionError, ray.exceptions.RaySystemError) as error:
        raise ClusterError(f"the connection to the cluster broke ({reason(error)})") from None


def connect(resources: Resources, task: Task, import_paths: list[Path]) -> None:
    """Start Ray here, or connect to a cluster within a bounded time."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # never to another cluster by itself
    set_token(resources.address)
    import ray  # reads those variables

    local = resources.address == "local"
    variables = worker_variables(resources.cpus, import_paths)
    settings: dict[str, Any]
    if local:  # workers inherit this process's variables, which is a second faster
        settings = {"include_dashboard": False, "num_cpus": logical_cpus(resources)}
    else:
        reach(resources.address)
        packages = [Path(__file__).parents[1] / name for name in PACKAGES]
        modules = [str(path) for path in (*packages, *own_modules(task, import_paths))]
        settings = {"runtime_env": {"env_vars": variables, "py_modules": modules}}
    try:
        with variables_set(variables if local else {}):
            ray.init(
                address=resources.address, log_to_driver=False, logging_level="ERROR", **settings
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(
            f"resources.address {resources.address!r}: cannot connect to Ray ({reason(error)}); "
            "is the cluster up? `ray status` there tells"
        ) from None
    # raylets' complaints would go to standard output, among the facts of --json
    ray._private.worker._worker_logs_enabled = False
