"""This machine's CPUs, folders and variables for Ray, and whether a cluster can be reached.

Nothing here imports Ray.
"""

import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from evo.config import Resources
from fitness.errors import InputError

KNOCK_SECONDS = 5.0
PROBES = 3
ANSWER_SECONDS = 120.0  # a busy head took more than 40 to accept a client
PROBE = """
import logging, sys
logging.basicConfig(level="DEBUG")
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="DEBUG")
"""
SOCKET = "ray/session_2026-01-01_00-00-00_000000_{process}/sockets/plasma_store"
# On a busy head a client's server does not start within Ray's 30 s.
SLOW_CLIENT_SERVER = "Starting Ray client server failed"
PASSING = ("psutil.", SLOW_CLIENT_SERVER)  # psutil: some process ended while Ray looked at it
REFUSED = ("InvalidAuthToken", "AuthenticationError", "missing authentication token")


def temporary_folder() -> Path:
    """Folder of Ray's sockets and logs on this machine, by the same rules as Ray's."""
    given = os.environ.get("RAY_TMPDIR") or (
        os.environ.get("TMPDIR") if sys.platform == "linux" else None
    )
    return Path(given or ("/tmp" if sys.platform != "win32" else tempfile.gettempdir()))


def check_temporary_folder() -> None:
    """Raise InputError if the paths of Ray's sockets would be longer than the system allows."""
    folder = temporary_folder()
    longest = len(os.fsencode(folder / SOCKET.format(process=os.getpid())))
    most = 103 if sys.platform == "darwin" else 107
    if sys.platform != "win32" and longest > most:
        name = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
        raise InputError(
            f"{name} is {str(folder)!r}: the sockets that Ray puts below it would have names of "
            f"{longest} bytes, and this system allows {most}; set RAY_TMPDIR to a short folder, "
            "such as /tmp"
        )


def check_import_paths(paths: Iterable[Path]) -> None:
    """Raise InputError if a folder that workers import from hides a module of Python's own.

    Ray's processes search these folders first, and end at once where one holds a `numbers.py`.
    Modules of the standard library that this process has not loaded do not matter.
    """
    loaded = sorted(sys.stdlib_module_names & sys.modules.keys())
    for folder in paths:
        for name in loaded:
            for file in (folder / f"{name}.py", folder / name / "__init__.py"):
                if file.is_file():
                    raise InputError(
                        f"{file}: hides Python's own module {name} from Ray, whose workers import "
                        "from this folder; rename it, or move the spec to a folder of its own"
                    )


def available_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what its container is given."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def logical_cpus(resources: Resources) -> int:
    """CPUs to declare to Ray: the machine's, or more if the workers in the spec need more."""
    requested = (resources.workers or 0) * resources.processes * resources.cpus
    return max(requested, available_cpus())


def fitting(resources: Resources, offers: Sequence[Mapping[str, float]]) -> int:
    """Number of workers: the spec's, else as many as these machines have room for, at least one.

    On a cluster, which may grow, a number in the spec is accepted without room for it.
    """
    processes = sum(_on_one(resources, offer) for offer in offers)
    room = processes // resources.processes
    if not room and (resources.workers is None or resources.address == "local"):
        most = {kind: max(offer.get(kind, 0) for offer in offers) for kind in ("CPU", "GPU")}
        raise InputError(
            f"resources: a worker needs {needed(resources)}, each on one machine; there is room "
            f"for {processes}, the largest machine has {most['CPU']:g} and {most['GPU']:g}; ask "
            "for less, or give resources.workers on a cluster that grows"
        )
    return resources.workers or room


def needed(resources: Resources) -> str:
    """Resources of a worker, in words."""
    each = f"{resources.cpus} CPUs and {resources.gpus:g} GPUs"
    return each if resources.processes == 1 else f"{resources.processes} processes of {each}"


def _on_one(resources: Resources, offer: Mapping[str, float]) -> int:
    by_cpu, gpus = int(offer.get("CPU", 0) // resources.cpus), offer.get("GPU", 0)
    if not resources.gpus:
        return by_cpu
    if resources.gpus >= 1:
        return min(by_cpu, int(gpus // resources.gpus))
    return min(by_cpu, int(gpus) * int(1 / resources.gpus + 1e-9))


def worker_variables(cpus: int, import_paths: Iterable[Path]) -> dict[str, str]:
    """Environment of a worker: a thread for each CPU; idle ones sleep (spinning is 2.5x slower)."""
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
        "EVOMIX_HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "0"),  # for trainers of one's own
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


@contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the context."""
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


def set_token(address: str) -> None:
    """Set Ray's authentication token, without which anybody could run code on a cluster.

    A cluster is locked if its head found a token when it started; a driver that names the cluster
    by host and port sends its own only if RAY_AUTH_MODE says so. Ray on this machine alone gets a
    random token for this process: else it would make one in ~/.ray, which locks later clusters.
    """
    given = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if address == "local":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    elif given or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def reach(address: str) -> None:
    """Join the cluster in a process of its own first; InputError if that fails.

    Where no cluster answers Ray prints, tries again for minutes or aborts the process.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto" and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
        except (OSError, OverflowError, UnicodeError) as error:
            raise InputError(
                f"resources.address {address!r}: nothing answers there ({error}); check host and "
                "port, and that `ray start --head` runs there"
            ) from None
    try:
        for _ in range(PROBES):
            joined = subprocess.run(
                [sys.executable, "-c", PROBE, address],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=ANSWER_SECONDS,
                check=False,
            )
            if not any(word.encode() in joined.stderr for word in PASSING):
                break
    except subprocess.TimeoutExpired as error:
        output, why = error.stderr or b"", f"no Ray cluster answered within {ANSWER_SECONDS:.0f} s"
    else:
        if joined.returncode == 0:
            return
        output = joined.stderr
        errors = re.findall(rb"^\w[\w.]*: .+", output, re.MULTILINE)
        why = errors[-1].decode(errors="replace") if errors else f"exit code {joined.returncode}"
    remedy = (
        "give `auto` or the head's host:port (of `ray start --head`) on a machine of the cluster, "
        "ray://host:10001 from anywhere else; `ray status` on the head shows whether it is up"
    )
    if any(word.encode() in output for word in REFUSED):
        why = "the cluster asks for a token, and this process has none or another one"
        remedy = "copy ~/.ray/auth_token from the cluster's head, or set RAY_AUTH_TOKEN to it"
    raise InputError(f"resources.address {address!r}: cannot join ({why}); {remedy}")
