import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from evo import config as configuration
from evo.config import load
from fitness.evaluate import trl
from fitness.evaluators import Command
from tests.evo.config.conftest import edited, errors_of, written


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


OWN = """\
name: own
evaluator: {evaluator}
genome: {{depth: {{type: int, low: 1, high: 9}}}}
objectives: {{cost: minimize}}
baselines: []
search: {{strategy: random, population: 1}}
budget: {{evaluations: 3, tokens: 1000}}
"""


def own(folder: Path, evaluator: str, more: str = "") -> Path:
    return written(folder / "own.yaml", OWN.format(evaluator=evaluator) + more)


def test_python_is_the_explicit_form_of_a_function(tmp_path: Path) -> None:
    written(tmp_path / "toy_evaluator_d.py", "def score(recipe, **_): ...\n")
    explicit = load(own(tmp_path, "{python: toy_evaluator_d:score}"))
    assert explicit == load(own(tmp_path, "toy_evaluator_d:score"))
    assert explicit.evaluator == "toy_evaluator_d:score"


def test_a_command_keeps_its_own_genes_and_names_its_files_whole(tmp_path: Path) -> None:
    written(tmp_path / "train.py", "")
    written(tmp_path / "tool", "#!/bin/sh\n").chmod(0o755)
    long = "x" * 5000
    text = f"{{command: [python3, train.py, --recipe, '{{recipe}}', {long}], timeout: 3}}"
    config = load(own(tmp_path, text))
    assert isinstance(config.evaluator, Command)
    train = str(tmp_path / "train.py")
    expected = ("python3", train, "--recipe", "{recipe}", long)
    assert config.evaluator.command == expected
    assert configuration.decode(config, {"depth": 2}) == {"depth": 2}
    assert configuration.from_plain(configuration.to_plain(config)) == config
    for program in ("./tool", "tool"):
        tool = load(own(tmp_path, f"{{command: [{program}]}}")).evaluator
        assert isinstance(tool, Command)
        assert tool.command == (str(tmp_path / "tool"),)


@pytest.mark.parametrize(
    ("evaluator", "key", "message"),
    [
        ("{command: [pythno3, a]}", "evaluator.command.0", "no program 'pythno3'; did you mean "),
        ("{command: [./tran.py]}", "evaluator.command.0", "'./tran.py'; did you mean train.py?"),
        ("{command: [./no/such]}", "evaluator.command.0", "'./no/such'; give its path"),
        ("{command: [train.py]}", "evaluator.command.0", "not executable; `chmod +x train.py`"),
        ("{command: [sh, '{recipes}']}", "evaluator.command.1", "did you mean recipe?; {{recipes"),
        ("{command: [sh, '{data}']}", "evaluator.command.1", "no {data} unless `data: jsonl`"),
        ("{command: [sh, '{model}']}", "evaluator.command.1", "no {model} unless model.base"),
        ("{command: [sh, 'x://u:pw@h']}", "evaluator.command.1", "holds a password or token, wh"),
        ("{command: []}", "evaluator.command", "must not be empty"),
        ("{command: sh -c true}", "evaluator.command", "needs a list, got 'sh -c true'"),
        ("{command: [sh, 3]}", "evaluator.command.1", "needs text, got 3; put it in quotes"),
        ("{command: [sh], data: csv}", "evaluator.data", "must be jsonl or parquet, got 'csv'"),
        ("{command: [sh], timeout: 0}", "evaluator.timeout", "must be above 0, got 0"),
        ("{command: [sh], timout: 1}", "evaluator.timout", "did you mean timeout?"),
        ("{comand: [sh]}", "evaluator", "one of the keys command, python, trl; did you mean com"),
        ("{}", "evaluator", "one of the keys command, python, trl"),
        ("{python: a:b, trl: {}}", "evaluator", "write it as {python: module:function}"),
        ("{python: 3}", "evaluator", "write it as {python: module:function}"),
        ("{trl: {lr: 1}}", "evaluator.trl.lr", "unknown key"),
        ("3", "evaluator", "needs text, got 3"),
    ],
)
def test_what_is_wrong_with_an_evaluator_is_told_at_its_key(
    tmp_path: Path, evaluator: str, key: str, message: str
) -> None:
    written(tmp_path / "train.py", "")
    line = errors_of(own(tmp_path, evaluator))[0]
    assert line.startswith(f":2: {key}: ")
    assert message in line


def test_a_command_that_asks_for_data_needs_what_makes_them(tmp_path: Path) -> None:
    lines = errors_of(own(tmp_path, "{command: [sh, '{data}'], data: jsonl}"))
    assert [line.split(": ")[1] for line in lines] == ["model.base", "sources"]
    more = "model: {base: quickstart}\nsources: {a: {path: a.txt}, b: {path: b.txt}}\n"
    lines = errors_of(own(tmp_path, "{command: [sh, '{data}'], data: jsonl}", more))
    assert [line.split(": ")[1] for line in lines] == ["recipe.mixture"]
    more += "recipe: {mixture: {a: 1, c: 0}, sequence_length: 1, decay: as I like}\n"
    lines = errors_of(own(tmp_path, "{command: [sh, '{data}'], data: jsonl}", more))
    assert [line.split(": ")[1] for line in lines] == ["recipe.mixture.c", "recipe.sequence_length"]


def test_a_proportional_mixture_needs_somebody_who_counts(tmp_path: Path) -> None:
    more = "sources: {a: {path: a.txt}, b: {path: b.txt}}\n"
    mixed = own(tmp_path, "{command: [sh]}", more)
    edited(mixed, "genome: {", "genome: {mixture: {type: simplex}, ")
    edited(mixed, "baselines: []", "baselines: [uniform, proportional]")
    assert errors_of(mixed) == [
        ":5: baselines.1: the tokens of the sources are not counted for this evaluator; leave "
        "it out, or name model.base"
    ]
    assert load(edited(mixed, "name: own", "name: own\nmodel: {base: quickstart}"))


def test_a_field_that_trl_cannot_honour_is_an_error(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trl = ("evaluator={trl: {}}",)
    assert load(spec, with_trl).recipe == load(spec).recipe
    honoured = trl.HONOURED - {"decay", "batch_size"}
    monkeypatch.setattr(trl, "HONOURED", honoured)
    monkeypatch.setattr("evo.config.checks.genomes.HONOURED", honoured)
    assert errors_of(spec, *with_trl) == [
        ":16: recipe.batch_size: TRL does not support this field; leave it out",
        ":20: genome.decay: TRL does not support this field; take it out of the genome",
    ]


def test_trl_that_is_not_installed_is_told_with_the_remedy(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl, "find_spec", lambda name: None)
    assert "pip install 'evomix[trl]'" in errors_of(spec, "evaluator={trl: {}}")[0]


def test_the_schema_tells_every_form_of_an_evaluator() -> None:
    schema = configuration.json_schema()
    forms: list[object] = ["builtin", "a:b", {"python": "a:b"}, {"command": ["sh"]}, {"trl": {}}]
    for form in forms:
        part = {**schema, "required": [], "additionalProperties": True}
        assert list(Draft202012Validator(part).iter_errors({"evaluator": form})) == []
    bad = {"evaluator": {"comand": ["sh"]}}
    assert list(Draft202012Validator({**schema, "required": []}).iter_errors(bad))


def test_other_trainers_are_not_given_records(spec: Path) -> None:
    edited(spec, "path: jargon.jsonl", "path: jargon.jsonl, kind: completion")
    line = errors_of(spec, "evaluator={trl: {}}")[0]
    assert ":4: sources.jargon.kind: only evomix's own trainer reads records" in line
