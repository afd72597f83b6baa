"""Workers that share no folder with the driver: checkpoints go through the run's mirror."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evo.cluster.worker import _Evaluator
from evo.record.artifacts import Artifacts
from evo.record.lease import Lease
from evo.record.ledger import Ledger
from evo.storage.mirror import Mirror
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Task
from fitness.merging import lineage
from fitness.remote.folders import whole_folders
from fitness.remote.store import open_store
from population.individual import Individual
from tests.fitness.merging.test_lineage import RECIPES, evaluated
from tests.fitness.quickstart import small_task

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Worker:
    """A worker on a machine of its own, which has a temporary folder and no run folder."""

    def __init__(self, task: Task) -> None:
        self._evaluator = _Evaluator(task, {}, 0)
        assert self._evaluator.load({}) == []

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        [evaluation] = self._evaluator.evaluate((spec,))
        return evaluation


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the store; workers make their temporary folders beside it."""
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return folder


@pytest.fixture
def away(tmp_path: Path, base: Path) -> Task:
    """A task with a mirror, whose run folder is on the driver's machine alone."""
    task = small_task(tmp_path / "cache", inherit_share=0.5)
    mirror = (base.as_uri(), "run/artifacts")
    return replace(task, artifacts=tmp_path / "elsewhere" / "artifacts", mirror=mirror)


@pytest.fixture
def retrained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Individuals that are trained again for want of their checkpoints."""
    found: list[int] = []
    again = lineage._train_again

    def noted(ancestor: Any, *given: Any) -> None:
        found.append(ancestor.individual)
        again(ancestor, *given)

    monkeypatch.setattr(lineage, "_train_again", noted)
    return found


def there(base: Path) -> list[str]:
    store = open_store(base.as_uri())
    return sorted(whole_folders(store, store.sizes()))


def test_a_child_starts_from_the_checkpoints_that_workers_elsewhere_put_into_the_mirror(
    tmp_path: Path, base: Path, away: Task, retrained: list[int]
) -> None:
    shared: Any = Evaluator(replace(away, artifacts=tmp_path / "shared", mirror=None))
    wanted = [evaluated(shared, number).measurements for number in RECIPES]
    workers: list[Any] = [Worker(away), Worker(away)]
    found = [evaluated(workers[place % 2], number) for place, number in enumerate(RECIPES)]
    assert [one.measurements for one in found] == wanted
    assert retrained == []
    assert there(base) == [f"run/artifacts/individual-{number}" for number in RECIPES]
    assert list(tmp_path.glob("evomix-checkpoints-*/artifacts/*")) == []
    assert not (tmp_path / "elsewhere").exists()


def test_what_the_mirror_lacks_is_trained_again_from_the_ancestors_that_it_has(
    tmp_path: Path, base: Path, away: Task, retrained: list[int]
) -> None:
    worker: Any = Worker(away)
    wanted = [evaluated(worker, number).measurements for number in RECIPES][-1]
    (base / "run" / "artifacts" / "individual-5" / "adapter_model.safetensors").unlink()
    assert evaluated(Worker(away), 8).measurements == wanted  # type: ignore[arg-type]
    assert retrained == [5]
    base.rename(tmp_path / "unmounted")
    assert evaluated(worker, 8).measurements == wanted
    assert retrained == [5, 3, 5]


def test_a_worker_that_shares_the_run_folder_exchanges_nothing(
    tmp_path: Path, base: Path, away: Task
) -> None:
    (tmp_path / "elsewhere").mkdir()
    worker: Any = Worker(away)
    evaluated(worker, 3)
    assert there(base) == []
    assert (tmp_path / "elsewhere" / "artifacts" / "individual-3").is_dir()


def test_a_checkpoint_of_a_worker_is_deleted_from_the_mirror_once_it_is_not_needed(
    tmp_path: Path, base: Path, away: Task
) -> None:
    worker: Any = Worker(away)
    for number in (3, 5):
        evaluated(worker, number)
    run = tmp_path / "run"
    with Ledger.create(run, {"config": {}, "fingerprints": {}, "time": 0.0}):
        mirror = Mirror(run, open_store(base.as_uri()).below("run"), Lease.own())
        mirror.copy()
        assert there(base) == ["run/artifacts/individual-3", "run/artifacts/individual-5"]
        artifacts = Artifacts(run / "artifacts", mirrored=True)
        for number in (3, 5):
            scored = Individual(number, {}, losses=(10.0 - number,), violation=0.0)
            artifacts.keep_or_delete(scored)
        mirror.copy()
    assert there(base) == ["run/artifacts/individual-5"]
    assert list((run / "artifacts").iterdir()) == []
