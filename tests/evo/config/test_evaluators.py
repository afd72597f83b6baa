import sys
from pathlib import Path

import pytest

from evo import config as configuration
from evo.config import load
from tests.evo.config.conftest import errors_of, written


def test_an_own_evaluator_brings_its_own_genes_and_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "toy_evaluator_a.py", "def score(recipe, **_):\n    return {'cost': 1.0}\n")
    path = written(
        tmp_path / "a.yaml",
        "name: toy\nevaluator: toy_evaluator_a:score\nrecipe: {depth: 3, notes: [1, null]}\n"
        "genome:\n  depth: {type: int, low: 1, high: 9}\n  width: {type: float, low: 0, high: 1}\n"
        "objectives: {cost: minimize}\nsearch: {strategy: random, population: 1}\n"
        "budget: {evaluations: 3, tokens: 1}\n",
    )
    monkeypatch.chdir(tmp_path.parent)
    before = list(sys.path)
    config = load(path)
    assert sys.path == before
    assert config.import_from == str(tmp_path)
    assert configuration.baselines(config, {}) == [("default", {"depth": 3, "width": 0.5})]
    assert configuration.decode(config, {"depth": 4, "width": 0.1}) == {
        "depth": 4,
        "notes": [1, None],
        "width": 0.1,
    }
    assert configuration.from_plain(configuration.to_plain(config)) == config


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ("bultin", "must be builtin or module:function, got 'bultin'; did you mean builtin?"),
        ("toy_evaluator_b:scoer", "'toy_evaluator_b:scoer': toy_evaluator_b has no 'scoer'"),
        ("toy_evaluater_b:score", "'toy_evaluater_b:score': there is no module"),
        ("toy_evaluator_b:LIMIT", "'toy_evaluator_b:LIMIT': is a int; it must be a function"),
        ("toy_evaluator_c:score", "'toy_evaluator_c:score': importing toy_evaluator_c failed"),
    ],
)
def test_an_evaluator_that_does_not_exist_is_told(spec: Path, evaluator: str, message: str) -> None:
    written(spec.parent / "toy_evaluator_b.py", "LIMIT = 3\ndef score(recipe, **_): ...\n")
    written(spec.parent / "toy_evaluator_c.py", "1 / 0\n")
    line = errors_of(spec, f"evaluator={evaluator}")[0]
    assert line.startswith(f"--set evaluator={evaluator}: evaluator: {message}")


def test_reading_a_recorded_config_runs_no_code_of_its_evaluator(spec: Path) -> None:
    plain = configuration.to_plain(load(spec)) | {"evaluator": "no_such_module_at_all:score"}
    assert configuration.from_plain(plain).evaluator == "no_such_module_at_all:score"
