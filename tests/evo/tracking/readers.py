"""Reads back what trackers have, each by its own library: values by run and name."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

Points = list[tuple[int, float]]
Runs = dict[str, dict[str, Points]]  # by name of the run, by name of the value


def tensorboard(folder: Path) -> Runs:
    """All event files, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Runs = {}
    for place in sorted({file.parent for file in folder.rglob("events.*")}):
        events = EventAccumulator(str(place), size_guidance={"scalars": 0})
        events.Reload()
        found[place.name] = {
            tag: [(point.step, point.value) for point in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }
    return found


def mlflow(uri: str, experiment: str = "evomix") -> Runs:
    """All runs of an experiment, by MLflow's client."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    place = client.get_experiment_by_name(experiment).experiment_id
    return {
        run.info.run_name: {
            name: sorted(
                (one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        }
        for run in client.search_runs([place])
    }


def trackio(project: str = "evomix") -> Runs:
    """All runs of a project on this machine, by Trackio's storage; without their marks."""
    from trackio.sqlite_storage import SQLiteStorage

    found: Runs = {}
    for name in SQLiteStorage.get_runs(project):
        values: dict[str, Points] = {}
        for log in SQLiteStorage.get_logs(project, name):
            for key, value in log.items():
                if key not in ("step", "timestamp"):
                    values.setdefault(key, []).append((log["step"], value))
        found[name.rpartition(" ")[0]] = values
    return found


def wandb(folder: Path) -> Runs:
    """All runs that were written offline, in the order of time; by W&B's own message format."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: Runs = {}
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        name, values = "", dict[str, Points]()
        for content in _records(file.read_bytes()):
            record = Record()
            record.ParseFromString(content)
            if record.HasField("run"):
                name = record.run.display_name
            if record.HasField("history"):
                items = {item.key or item.nested_key[0]: item for item in record.history.item}
                step = record.history.step.num
                for key, item in items.items():
                    if not key.startswith("_"):
                        values.setdefault(key, []).append((step, json.loads(item.value_json)))
            if record.HasField("summary"):
                for item in record.summary.update:
                    key = item.key or item.nested_key[0]
                    values.setdefault(f"summary {key}", [(0, json.loads(item.value_json))])
        known = found.setdefault(name, {})
        for key, points in values.items():
            known[key] = [*known.get(key, []), *points]
    return found


BLOCK, HEADER = 32768, struct.Struct("<IHB")  # checksum, length, type: a log of LevelDB


def _records(content: bytes) -> Iterator[bytes]:
    place, record = HEADER.size, b""  # after a header of the file
    while place + HEADER.size <= len(content):
        if BLOCK - place % BLOCK < HEADER.size:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(content, place)
        place += HEADER.size
        record += content[place : place + length]
        place += length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""
