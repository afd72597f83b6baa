"""A real S3 server on this machine, moto's, and a driver that evaluates in its own process."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fitness.remote.store import Store, open_store
from tests.evo.driving import ROOT

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
BUCKET = "searches"
DRIVER = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
import evo.run
from evo.cli import main
from evo.storage import following
from tests.evo.here import Here
evo.run.Cluster = Here
following.SECONDS = 0.05
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server, and the variables of a process that uses it."""

    url: str
    variables: dict[str, str]

    def store(self) -> Store:
        return open_store(self.url)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of the server; every test of a module has the same one."""
    from moto.server import ThreadedMotoServer

    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket; its address and credentials are in the environment, nowhere else."""
    import boto3

    variables = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "EVOMIX_CACHE": str(tmp_path / "cache"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield Bucket(f"s3://{BUCKET}/evo", variables)
    for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=one["Key"])
    client.delete_bucket(Bucket=BUCKET)


def driver(*arguments: object) -> list[str]:
    """A command of `evo` whose evaluations run in the driver itself, without Ray."""
    return [sys.executable, "-c", DRIVER, *map(str, arguments)]
