"""Reading earlier searches: run folders and tables, and what is refused of them."""

from pathlib import Path

import pytest

from evo import config as configuration
from evo.cli import BAD_INPUT, main
from evo.config import SearchConfig
from evo.config.rounds import Rounds
from evo.reuse.earlier import read_for
from evo.reuse.imports import notes
from fitness.errors import InputError
from tests.evo.facts import read
from tests.evo.reuse.searches import TASK, imports, search, spec, written
from tests.evo.search.test_aggregation import with_aggregates
from tests.evo.search.test_loop import InProcess

GENOME = {"mixture": {"a": 0.5, "b": 0.3, "c": 0.2}, "rate": 0.01, "kind": "y"}
SCORES = {"target": 4.2, "general": 2.4}
ROLES = """\
simplex: {mixture: mixture.*}
float: {rate: {log: true}}
objectives: {target: minimize}
"""
TABLE = """\
mixture.a,mixture.b,rate,target
0.5,0.5,0.01,4.1
0.2,0.8,0.02,4.3
1,0,0.03,4.6
"""


@pytest.fixture
def config(tmp_path: Path) -> SearchConfig:
    return configuration.load(spec(tmp_path))


def test_a_run_is_read_without_its_failures_copies_and_aggregates(tmp_path: Path) -> None:
    path = with_aggregates(tmp_path, "quality: {mean: [target, general]}", evaluations=12)
    search(tmp_path / "run", path)
    config = configuration.load(path)
    [found] = read_for(config, [tmp_path / "run"])
    assert found.name == "run"
    assert found.config == config
    assert list(found.genes) == ["mixture", "rate", "kind"]
    assert all(one.measurements.keys() == {"target", "general"} for one in found.evaluations)
    assert found.unused["failed"] == sum(one["kind"] == "broken" for one in found.genomes.values())
    assert {one.split for one in found.evaluations} == {"selection", "test"}


def test_a_table_is_read_with_the_names_that_a_history_has(
    tmp_path: Path, config: SearchConfig
) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    (tmp_path / "roles.yaml").write_text(ROLES)
    [found] = read_for(config, [tmp_path / "runs.csv"])
    assert found.genes["mixture"].over == ("a", "b")  # type: ignore[union-attr]
    assert found.genomes[1] == {"mixture": {"a": 0.2, "b": 0.8}, "rate": 0.02}
    assert [one.measurements["target"] for one in found.evaluations] == [4.1, 4.3, 4.6]
    assert found.config is None


def test_a_table_guides_and_is_never_recalled(tmp_path: Path) -> None:
    """It says nothing of `general`, the second objective."""
    (tmp_path / "runs.csv").write_text(TABLE)
    (tmp_path / "roles.yaml").write_text(ROLES)
    path = spec(tmp_path, strategy="surrogate")
    [found] = imports(path, tmp_path / "runs.csv")
    assert list(notes(found)) == [
        "--from runs.csv: 0 individuals to recall, 3 as a guide, 0 refused",
        "--from runs.csv: not recalled: a table does not say on which model and data its rows "
        "were measured",
        "--from runs.csv: sources as there: a, b; new, so at share 0 there: c; genes: mixture, "
        "rate; genes without a match: kind",
        "--from runs.csv: says nothing of general, which it did not measure",
    ]
    search(tmp_path / "run", path, [tmp_path / "runs.csv"])
    first = next(fact for fact in read(tmp_path / "run") if fact["fact"] == "individual")
    assert first["operator"] == "guide: runs.csv"
    assert first["genome"]["mixture"] == {"a": 0.5, "b": 0.5, "c": 0.0}


def refused(config: SearchConfig, *paths: Path) -> str:
    with pytest.raises(InputError) as error:
        read_for(config, paths)
    return str(error.value)


def test_what_is_no_run_is_refused_with_the_nearest_one(
    tmp_path: Path, config: SearchConfig
) -> None:
    written(tmp_path / "first", config, [(GENOME, SCORES)])
    assert f"did you mean {tmp_path}/first?" in refused(config, tmp_path / "frist")
    (tmp_path / "empty").mkdir()
    assert "it has no ledger.jsonl" in refused(config, tmp_path / "empty")
    assert "is named twice" in refused(config, tmp_path / "first", tmp_path / "." / "first")
    assert "roles.yaml, which says" in refused(config, tmp_path / "toy.yaml")


def test_a_run_without_scores_is_refused(tmp_path: Path, config: SearchConfig) -> None:
    written(tmp_path / "empty", config, [])
    assert "none of its individuals has been evaluated" in refused(config, tmp_path / "empty")
    written(tmp_path / "failed", config, [(GENOME, {}), (GENOME, {})])
    assert "all 2 individuals that it evaluated failed" in refused(config, tmp_path / "failed")


def test_a_spec_of_another_version_is_refused_with_its_folder(
    tmp_path: Path, config: SearchConfig
) -> None:
    run = tmp_path / "later"
    later = config.model_copy(update={"import_from": 3})
    with pytest.warns(UserWarning, match="serializer"):
        written(run, later, [(GENOME, SCORES)])
    assert f"{run}: the recorded spec: import_from" in refused(config, run)


def test_nothing_that_a_run_names_is_executed(tmp_path: Path, config: SearchConfig) -> None:
    (tmp_path / "harm.py").write_text("raise SystemExit('executed')\n")
    code = {"evaluator": "harm:score", "known": ({"kind": "harm:kind"},)}
    strange = config.model_copy(update={**code, "import_from": str(tmp_path)})
    run = written(tmp_path / "strange", strange, [(GENOME, SCORES)])
    search(tmp_path / "run", spec(tmp_path, strategy="surrogate"), [run], InProcess(TASK))


def test_rounds_take_no_scores(tmp_path: Path, config: SearchConfig) -> None:
    run = written(tmp_path / "first", config, [(GENOME, SCORES)])
    assert "this spec has rounds" in refused(config.model_copy(update={"rounds": Rounds()}), run)


def test_a_launch_that_can_use_nothing_ends_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evo.run.Cluster", None)
    search(tmp_path / "first", spec(tmp_path))
    path, run = spec(tmp_path, ("tokens: 1", "tokens: 2")), tmp_path / "run"
    for more in ([], ["--dry-run"]):
        words = ["launch", str(path), "--run", str(run), *more, "--from", str(tmp_path / "first")]
        assert main(words) == BAD_INPUT
        said = capsys.readouterr().err
        assert "nothing of it can be used" in said
        assert "nsga2 takes no guides" in said
        assert not run.exists()


def test_a_wrong_run_ends_a_launch_and_a_dry_run_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(spec(tmp_path))
    for more in ([], ["--dry-run"]):
        run = tmp_path / "run"
        assert main(["launch", path, "--run", str(run), *more, "--from", "nowhere"]) == BAD_INPUT
        assert "nowhere is not a run folder" in capsys.readouterr().err
        assert not run.exists()
