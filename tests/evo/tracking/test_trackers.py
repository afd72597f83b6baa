"""Trackers, read back by their own libraries: every value once, whatever happens in between."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evo import history
from evo.cli import BAD_INPUT, DONE, main
from evo.config.track import Track
from evo.record.ledger import LOCK, read
from evo.tracking.records import Evaluation, evaluations, searches
from evo.tracking.sending import Sender
from evo.tracking.trackers import TRACKERS
from fitness.errors import InputError
from fitness.facts import as_line, as_lines, lock
from tests.evo.synthetic_ledger import ledger
from tests.evo.tracking import readers
from tests.evo.tracking.readers import Runs

PRIMARY = "target/loss"
FACTS = ledger(evaluations=6, population=3, seeds=2)
SETTINGS: dict[str, dict[str, str]] = {
    "mlflow": {"uri": "sqlite:///mlflow.db"},
    "wandb": {"mode": "offline"},
    "tensorboard": {},
    "trackio": {},
}
READERS: dict[str, Callable[[Path], Runs]] = {
    "mlflow": lambda place: readers.mlflow(SETTINGS["mlflow"]["uri"]),
    "wandb": readers.wandb,
    "tensorboard": lambda place: readers.tensorboard(place / "run" / "tensorboard"),
    "trackio": lambda place: readers.trackio(),
}
VALUE = {"wandb": "summary {}"}  # name of a value of an evaluation

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, in a working directory that trackers write into."""
    import wandb
    from trackio import sqlite_storage

    wandb.teardown()  # it keeps the folder of the first test
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ledger.jsonl").write_bytes(as_lines(FACTS))
    return tmp_path / "run"


def track_of(name: str) -> Track:
    return Track.model_validate({name: SETTINGS[name]})


def sent(run: Path, name: str) -> int:
    with Sender(run, name, track_of(name)) as sender:
        return sender.send()


def every(run: Path) -> list[Evaluation]:
    [(search, _, facts)] = searches(run)
    return evaluations(search, facts)


def named(one: Evaluation) -> str:
    """Folder of an evaluation for TensorBoard."""
    return one.name.replace(", ", "-").replace(" ", "-")


def check(run: Path, name: str) -> None:
    """All that the ledger has, once and no more."""
    found, wanted = READERS[name](run.parent), every(run)
    by_name = {named(one) if name == "tensorboard" else one.name: one for one in wanted}
    search = found.pop("search" if name == "tensorboard" else "run")
    assert set(found) == set(by_name)
    for label, one in by_name.items():
        values = found[label]
        for metric, value in one.metrics.items():
            [(_, known)] = values[VALUE.get(name, "{}").format(metric)]
            assert known == pytest.approx(value, rel=1e-6)
        for metric, points in one.curves.items():
            steps = values["tokens"] if name == "wandb" else values[metric]
            assert len(values[metric]) == len(points)
            assert [round(step) for step in (v if name == "wandb" else s for s, v in steps)] == [
                step for step, _ in points
            ]
    best = [(one.number, one.best[PRIMARY]) for one in wanted if PRIMARY in one.best]
    assert search[f"best/{PRIMARY}"] == [(n, pytest.approx(v, rel=1e-6)) for n, v in best]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_finished_run_is_sent_once(run: Path, name: str) -> None:
    assert sent(run, name) == len(every(run)) + 1
    check(run, name)
    assert sent(run, name) == 0
    check(run, name)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_that_goes_on_is_sent_in_parts_and_a_record_again_after_a_crash(
    run: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_file, note = run / "ledger.jsonl", Sender._note
    ledger_file.write_bytes(as_lines(FACTS[:8]))
    held = lock(run, LOCK)

    def dies(sender: Sender, search: Any, key: str) -> None:
        if key == every(run)[2].key:
            raise KeyboardInterrupt
        note(sender, search, key)

    monkeypatch.setattr(Sender, "_note", dies)
    with pytest.raises(KeyboardInterrupt):
        sent(run, name)
    monkeypatch.setattr(Sender, "_note", note)
    with Sender(run, name, track_of(name)) as sender:
        sender.send()
        with ledger_file.open("ab") as lines:
            lines.writelines(map(as_line, FACTS[8:-1]))
        sender.send()
        held.release()
        with ledger_file.open("ab") as lines:
            lines.write(as_line(FACTS[-1]))
        sender.send()
    check(run, name)


def test_the_best_values_are_those_of_the_history(run: Path) -> None:
    facts = read(run)
    best = history.best_so_far(facts, PRIMARY).dropna().tolist()
    told = [o.best[PRIMARY] for o in every(run) if o.tags["split"] == "selection" and o.best]
    assert told == best


def test_a_failed_evaluation_is_a_failed_run_with_its_reason(run: Path) -> None:
    from mlflow import MlflowClient

    facts = [dict(one) for one in FACTS]
    broken = next(one for one in facts if one["fact"] == "evaluation" and one["fidelity"])
    broken |= {"status": "diverged", "measurements": {}, "message": "the loss is not a number"}
    (run / "ledger.jsonl").write_bytes(as_lines(facts))
    [failed] = [one for one in every(run) if one.failed]
    sent(run, "mlflow")
    client = MlflowClient(SETTINGS["mlflow"]["uri"])
    [place] = [one for one in client.search_experiments() if one.name == "evomix"]
    query = f"tags.`evomix.identity` = '{failed.identity}'"
    [child] = client.search_runs([place.experiment_id], query)
    assert child.info.status == "FAILED"
    assert child.data.tags["status"] == "diverged"
    assert child.data.tags["message"] == "the loss is not a number"
    assert child.info.end_time == round(failed.finished * 1000)
    [parent] = client.search_runs([place.experiment_id], "attributes.run_name = 'run'")
    assert parent.info.status == "FINISHED"
    assert "test/winner/target/loss" in parent.data.metrics
    assert parent.data.params["budget.evaluations"] == "6"
    assert [one.path for one in client.list_artifacts(parent.info.run_id)] == ["report.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "mlflw"], "--to mlflw: there is no such tracker; did you mean 'mlflow'?"),
        (["--to", "mlflow", "--set", "url=http://a"], "track.mlflow.url: unknown key"),
        (["--to", "mlflow", "--set", "uri"], "--set uri: must look like KEY=VALUE"),
        (["--to", "mlflow", "--set", "uri=http://me:pw@host"], "has a user or a password"),
        (["--to", "wandb"], "no credentials for Weights & Biases; run `wandb login`"),
        (["--to", "trackio", "--set", "project=a b"], "track.trackio.project"),
        ([], "names no tracker; name one with --to"),
        (["--set", "uri=x"], "is for one tracker; name it with --to"),
        (["--to", "mlflow", "--set", "uri=http://127.0.0.1:9"], "sends the rest"),
    ],
)
def test_bad_input(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", str(run), *arguments]) == BAD_INPUT
    told = capsys.readouterr().err
    assert message in told
    assert "pw" not in told


def test_a_package_that_is_missing(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evo.tracking.trackers.find_spec", lambda name: None)
    assert main(["track", str(run), "--to", "tensorboard"]) == BAD_INPUT
    assert "pip install 'evomix[tensorboard]'" in capsys.readouterr().err


def test_another_destination_gets_everything_and_one_sender_at_a_time(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = len(every(run)) + 1
    assert main(["track", str(run), "--to", "tensorboard"]) == DONE
    assert f"tensorboard: {count} records sent" in capsys.readouterr().out
    assert main(["track", str(run), "--to", "tensorboard", "--set", "folder=other"]) == DONE
    assert f"{count} records sent; tensorboard --logdir other/run" in capsys.readouterr().out
    assert main(["track", str(run), "--to", "tensorboard"]) == DONE
    assert "tensorboard: nothing new" in capsys.readouterr().out
    with (
        Sender(run, "tensorboard", track_of("tensorboard")),
        pytest.raises(InputError, match="in use"),
    ):
        sent(run, "tensorboard")
