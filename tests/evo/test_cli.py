"""The command line as a user meets it: bad input, and what needs no search."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evo.cli import BAD_INPUT, DONE, main
from evo.record.ledger import Ledger
from tests.evo.toy import write_spec

Files = Callable[[Path], None]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder made by `evo init`, as the working directory, without a Hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["init", str(tmp_path / "project")]) == DONE
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


BAD = {
    "an unknown key": (
        ["search.populaton=3"],
        r"search\.populaton: unknown key; did you mean",
    ),
    "reversed bounds": (["genome.learning_rate.high=1e-9"], r"low must be below high.*swap"),
    "floors above 1": (["genome.mixture.floor=0.6"], r"floors must sum to at most 1, got 1\.8"),
    "caps below 1": (["genome.mixture.cap=0.1"], r"caps must sum to at least 1, got 0\.3"),
    "a missing source": (
        ["sources.jargon.path=nope.jsonl"],
        r"sources\.jargon\.path: .*no 'nope\.jsonl'",
    ),
    "an empty source": (["sources.jargon.path=empty.jsonl"], r"sources\.jargon: .*no text in it"),
    "a malformed source": (["sources.jargon.path=bad.jsonl"], r"bad\.jsonl:2: is not JSON"),
    "another encoding": (["sources.jargon.path=latin.txt"], r"latin\.txt:2: .*not UTF-8"),
    "a tiny source": (["sources.jargon.path=tiny.txt"], r"fewer than one sequence of \d+; add"),
    "sequences too long": (["recipe.sequence_length=1024"], r"longer than .* context of 512"),
    "an objective nobody measures": (["objectives.x/loss=minimize"], r"unknown measurement x/loss"),
    "a population too small": (
        ["search.strategy=nsga2", "search.population=2"],
        r"population 2 is too small for nsga2",
    ),
    "no such model and no network": (["model.base=org/none"], r"'org/none': no such folder.*Hub"),
    "no such model folder": (["model.base=./none"], r"model\.base: .*there is no 'none' in"),
    "an unreachable cluster": (["resources.address=127.0.0.1:9"], r"nothing answers there"),
    "an unknown sampler": (["search.strategy=optuna:pte"], r"did you mean .?optuna:tpe"),
    "one objective too many": (
        ["search.strategy=optuna:cmaes"],
        r"optuna:cmaes knows one objective, this search has \d; use",
    ),
    "an unknown strategy": (["search.strategy=nsag2"], r"strategy.*nsag2.*did you mean.*nsga2"),
}


@pytest.mark.parametrize(("overrides", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_screen_exit_code_2_and_nothing_written(
    project: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    (project / "empty.jsonl").touch()
    (project / "bad.jsonl").write_text('{"text": "a b c"}\n{bad\n')
    (project / "latin.txt").write_bytes(b"plain\ncaf\xe9\n")
    (project / "tiny.txt").write_text("too short")
    before = sorted(project.rglob("*"))
    capsys.readouterr()
    code = main(["launch", "search.yaml", *(word for o in overrides for word in ("--set", o))])
    shown = capsys.readouterr()
    assert code == BAD_INPUT
    assert re.search(message, shown.err), shown.err
    assert len(shown.err.splitlines()) <= 24
    assert "Traceback" not in shown.err
    assert sorted(project.rglob("*")) == before


def test_a_dry_run_checks_everything_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(project.rglob("*"))
    assert main(["launch", "search.yaml", "--dry-run"]) == DONE
    shown = capsys.readouterr().out
    assert "the spec is sound" in shown
    assert "jargon" in shown
    assert sorted(project.rglob("*")) == before
    assert main(["launch", "search.yaml", "--dry-run", "--set", "sources.devil.path=x"]) == 2


def test_init_refuses_to_overwrite(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "."]) == BAD_INPUT
    assert "exists already" in capsys.readouterr().err


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == DONE
    assert "genome" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize("command", ["status", "history", "report", "resume"])
def test_a_folder_that_is_no_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, str(tmp_path)]) == BAD_INPUT
    assert "is not a run folder" in capsys.readouterr().err


def test_resuming_a_changed_spec_shows_the_difference(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evo import config as configuration

    config = configuration.load("search.yaml")
    run = project / "run"
    run.mkdir()
    configuration.write_config(config, run / "config.yaml")
    header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
    Ledger.create(run, header).close()
    edited = (run / "config.yaml").read_text().replace("population: 16", "population: 8")
    (run / "config.yaml").write_text(edited)
    assert main(["resume", str(run)]) == BAD_INPUT
    assert "search.population: 16 -> 8" in capsys.readouterr().err
    assert main(["launch", "search.yaml", "--run", "run", "--set", "search.population=4"]) == 2
    assert "search.population: 16 -> 4" in capsys.readouterr().err
    (run / "config.yaml").write_text(edited.replace("population: 8", "population: 16"))
    changed = os.stat(run / "ledger.jsonl").st_size
    assert main(["resume", str(run), "--set", "resources.cpus=2"]) == BAD_INPUT
    assert "threads" in capsys.readouterr().err
    assert main(["resume", str(run), "--set", "resources.micro_batch=2"]) == BAD_INPUT
    assert "resume with null" in capsys.readouterr().err
    assert os.stat(run / "ledger.jsonl").st_size == changed


def test_an_adapter_on_a_missing_module_is_refused_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["launch", "search.yaml", "--dry-run"]
    option = "genome.lora_targets={type: choice, options: [all, mlp, k_poj]}"
    for adapter, code in (("none", 0), ("dora", BAD_INPUT)):
        assert main([*line, "--set", f"recipe.adapter={adapter}", "--set", option]) == code
    told = capsys.readouterr().err
    assert "is 'k_poj'; it has 'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj'" in told
    assert "did you mean 'k_proj'?" in told


def test_a_strategy_that_plans_by_its_budget_is_not_resumed_with_another(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evo import config as configuration

    config = configuration.load("search.yaml", ["search.strategy=regression"])
    run = project / "run"
    run.mkdir()
    configuration.write_config(config, run / "config.yaml")
    header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
    Ledger.create(run, header).close()
    assert main(["resume", str(run), "--set", "budget.evaluations=500"]) == BAD_INPUT
    assert "decides what regression proposes" in capsys.readouterr().err


def test_a_changed_source_is_not_resumed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from evo import config as configuration
    from evo.prepare.task import prepare

    config = configuration.load("search.yaml")
    run = project / "run"
    run.mkdir()
    configuration.write_config(config, run / "config.yaml")
    header = {
        "config": configuration.to_plain(config),
        "fingerprints": prepare(config).fingerprints,
        "time": 0.0,
    }
    Ledger.create(run, header).close()
    with (project / "data/sources/devil.jsonl").open("a") as source:
        source.write('{"text": "one more"}\n')
    assert main(["resume", str(run)]) == BAD_INPUT
    assert "sources.devil changed" in capsys.readouterr().err


def test_looking_at_somebody_elses_run_runs_none_of_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evo import config as configuration

    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.chdir(run)
    (run / "evil.py").write_text("import os\nos.mkdir('was-run')\ndef score(): ...\n")
    (run / "evil.yaml").write_text(
        write_spec(tmp_path).read_text().replace("tests.evo.toy", "evil")
    )
    config = configuration.load(run / "evil.yaml")  # the owner loads it, and the module with it
    (run / "was-run").rmdir()
    sys.modules.pop("evil")
    header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 1.0}
    Ledger.create(run, header).close()
    for command in (["status"], ["history"], ["report"], ["compare"], ["export", "--to", "model"]):
        main([command[0], str(run), *command[1:]])
    assert not (run / "was-run").exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["report", "run", "--opne"], "evo report: error: .*: --opne; did you mean '--open'"),
        (["report", "run", "--to"], "evo report: error: unrecognized arguments: --to"),
        (["report", "run", "other"], "evo report: error: unrecognized arguments: other$"),
    ],
)
def test_an_unknown_option_is_compared_with_those_of_its_command(
    line: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(line)
    said = capsys.readouterr().err
    assert re.search(told, said, re.MULTILINE)
    assert "--to'" not in said


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("evo la", ["launch"]),
        ("evo history some --op", ["--optuna"]),
        ("evo completion f", ["fish"]),
        ("evo status ru", ["runs"]),
    ],
)
def test_bash_completes_commands_options_and_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, offered: list[str]
) -> None:
    assert main(["completion", "bash"]) == DONE
    (tmp_path / "evo.bash").write_text(capsys.readouterr().out)
    (tmp_path / "runs").mkdir()
    last = len(line.split()) - 1
    script = f"""
        source evo.bash
        COMP_WORDS=({line}); COMP_CWORD={last}; _shtab_evo
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == offered, done.stderr
