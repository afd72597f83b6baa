"""A search on a cluster that grows, by Ray's autoscaler on fake machines of this one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evo.cluster.test_queue import Machines, free_port, measured, toy_in_process
from tests.evo.driving import start
from tests.evo.facts import read
from tests.evo.toy import write_spec

pytestmark = pytest.mark.slow
HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # as Ray names a fake head
UNUSED = ("auth", "docker", "file_mounts")
EMPTY = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"),
    *("rsync_exclude", "rsync_filter"),
)


def autoscaled(folder: Path) -> Machines:
    """A head of one CPU, and up to two machines more of one CPU each while they are needed."""
    port = free_port()
    types = {"ray.head.default": 0, "more": 2}
    settings = {
        "cluster_name": "growing",
        "max_workers": 2,
        "provider": {
            "type": "fake_multinode",
            "head_node_id": HEAD,
            "use_node_id_as_ip": True,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {
            name: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": most}
            for name, most in types.items()
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.05,
        **{key: {} for key in UNUSED},
        **{key: [] for key in EMPTY},
        "file_mounts_sync_continuously": False,
    }
    (folder / "cluster.json").write_text(json.dumps(settings))
    return Machines(
        *("--include-dashboard=false", "--num-cpus=1"),
        f"--autoscaling-config={folder / 'cluster.json'}",
        port=port,
        RAY_FAKE_CLUSTER="1",
        AUTOSCALER_UPDATE_INTERVAL_S="1",
        TOY_SECONDS="3",  # of each evaluation
    )


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    started = autoscaled(tmp_path)
    try:
        yield started
    finally:
        started.stop()


def test_the_cluster_grows_for_a_search_and_shrinks_after_it_with_the_same_outcome(
    tmp_path: Path, machines: Machines
) -> None:
    spec, run = write_spec(tmp_path, evaluations=24), tmp_path / "run"
    spec.write_text(spec.read_text().replace("workers: 2, ", ""))
    line = ("launch", spec, "--run", run, "--address", machines.address)
    assert len(machines.raylets()) == 1
    driver = start(*line, RAY_AUTH_TOKEN=machines.token)
    machines.wait_for(3)
    text, _ = driver.communicate(timeout=360)
    assert driver.returncode == 0, text
    assert read(run)[0]["workers"] == 1, "as many as had room at the launch"
    names = {fact["worker"] for fact in read(run) if fact["fact"] == "evaluation"}
    assert len(names) > 1, "on the head and on what came"
    assert measured(run) == toy_in_process(tmp_path / "calm", spec)
    machines.wait_for(1)
