"""Checkpoints of a worker that shares no folder with the driver: exchanged through the mirror."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fitness.evaluation import EvaluationSpec, Task
from fitness.merging.lineage import needed
from fitness.models.weights import folder_of
from fitness.remote.folders import fetch_folder, put_folder
from fitness.remote.store import Store, Unavailable, open_store


@contextmanager
def exchanged(task: Task, specs: Sequence[EvaluationSpec]) -> Iterator[None]:
    """Fetch the checkpoints that specs start from, and put those that they leave.

    Without a mirror in the task nothing is done. Of a parent that the mirror lacks, the ancestors
    are fetched from which it is trained again. A store that does not answer costs training again.
    """
    if task.mirror is None or task.artifacts is None:
        yield
        return
    url, place = task.mirror
    store, folder = open_store(url).below(place), task.artifacts
    try:
        with suppress(Unavailable):
            for spec in specs:
                needed(spec, lambda individual: _fetched(store, folder, individual))
        yield
        with suppress(Unavailable):
            for individual in {spec.individual for spec in specs}:
                _put(store, folder_of(folder, individual))
    finally:
        for path in folder.glob("*"):
            shutil.rmtree(path, ignore_errors=True)


def _fetched(store: Store, folder: Path, individual: int) -> Path | None:
    """Folder of a checkpoint that is in the mirror, or was fetched before; else None."""
    to = folder_of(folder, individual)
    return to if to.is_dir() or fetch_folder(store, to.name, to) else None


def _put(store: Store, folder: Path) -> None:
    if folder.is_dir():
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        put_folder(store, folder.name, folder, sizes)
