"""What a machine offers and how a worker process is set up; nothing here needs Ray."""

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fitness.errors import InputError

CONNECT_SECONDS = 10.0


def available_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_variables(cpus: int, import_paths: Iterable[Path]) -> dict[str, str]:
    """Threads as many as CPUs, and idle threads that sleep: spinning ones cost a factor of 2.5."""
    threads = str(cpus)
    paths = [*map(str, import_paths), os.environ.get("PYTHONPATH", "")]
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


@contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables set for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def reach(address: str) -> None:
    """Knock at the cluster's port first: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto" or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise InputError(
            f"resources.address {address!r}: nothing answers there within {CONNECT_SECONDS:.0f} s "
            f"({error}); check host and port, and that `ray start --head` runs on it"
        ) from None
