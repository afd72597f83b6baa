"""Plug-ins of an installed package, by its entry points, in a spec."""

from pathlib import Path
from typing import Any

import pytest

from evo.cli import BAD_INPUT, DONE, main
from evo.config import load, to_plain
from evo.history import table
from evo.record.ledger import read
from population.strategies.reference import StrategyReference
from tests.evo.driving import ROOT
from tests.evo.here import Here

MODULE = '''
from population.strategies.random import Random


class Mine(Random):
    """A strategy."""


def rhyme(prompts, references, outputs):
    return [1.0 for _ in outputs]


def loud(samples):
    return [0.0 for _ in samples]


def evaluate(recipe, *, seed, fidelity, split):
    return {"loss": recipe.get("x", 0.0)}


class Noting:
    """A tracker that counts."""

    def __init__(self, settings, run):
        self.file = run.parent / settings["file"]

    def begin(self, search, sent):
        return str(self.file)

    def evaluation(self, one):
        with self.file.open("a") as lines:
            print(one.key, file=lines)

    def end(self, end, report):
        pass

    def close(self):
        pass
'''
ENTRIES = """
[evomix.strategies]
mine = plugged:Mine
broken = plugged:nothing

[evomix.metrics]
rhyme = plugged:rhyme

[evomix.filters]
loud = plugged:loud

[evomix.rewards]
rhyme = plugged:rhyme

[evomix.evaluators]
formula = plugged:evaluate

[evomix.trackers]
noting = plugged:Noting
"""
SPEC = """\
name: plugged
evaluator: formula
genome: {x: {type: float, low: 0, high: 1}}
objectives: {loss: minimize}
baselines: []
search: {strategy: mine, population: 4, replicates: 1}
budget: {evaluations: 6, tokens: 1}
comparison: {seeds: 0}
track: {noting: {file: noted}}
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with entry points, where Python finds installed ones."""
    site = tmp_path / "site"
    (site / "plugged-1.dist-info").mkdir(parents=True)
    (site / "plugged-1.dist-info" / "METADATA").write_text("Name: plugged\nVersion: 1\n")
    (site / "plugged-1.dist-info" / "entry_points.txt").write_text(ENTRIES)
    (site / "plugged.py").write_text(MODULE)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}:{ROOT}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def test_a_strategy_an_evaluator_and_a_tracker_are_used(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evo.run.Cluster", Here)
    assert main(["launch", "spec.yaml", "--run", "run"]) == DONE
    facts = read(Path("run"))
    rows = table(facts)
    assert (rows["status"] == "ok").all()
    config: Any = facts[0].get("config")
    assert (config["evaluator"], config["search"]["strategy"]) == ("plugged:evaluate", "mine")
    assert len(Path("noted").read_text().splitlines()) == len(rows)


def test_functions_are_recorded_in_full(installed: Path) -> None:
    (installed / "prompts.jsonl").write_text('{"prompt": "a", "reference": "b"}\n')
    prompts = "{selection: prompts.jsonl, test: prompts.jsonl, metrics: [rhyme]}"
    given = ["model.base=quickstart", "evaluator=builtin", "search.strategy=random"]
    given += ["recipe={rewards: {rhyme: 1.0}}", "objectives={p/rhyme: maximize}"]
    given += [f"prompts={{p: {prompts}}}", "sources={s: {path: s.txt}}", "budget.tokens=4096"]
    given += ["genome={dropout: {type: float, low: 0, high: 0.5}}"]
    plain = to_plain(load(installed / "spec.yaml", given))
    assert plain["prompts"]["p"]["metrics"] == ["plugged:rhyme"]
    assert plain["recipe"]["rewards"] == {"plugged:rhyme": 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("search.strategy=mind", "search.strategy: "),
        ("search.strategy=broken", "strategy 'broken': plugged:nothing cannot be imported"),
        ("evaluator=formul", "must be builtin or module:function"),
        ("track={notin: {}}", "track.notin: "),
    ],
)
def test_a_name_that_nobody_has_is_refused(
    installed: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", "spec.yaml", "--dry-run", "--set", change]) == BAD_INPUT
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
class TestOfAnotherPackage(StrategyReference):
    name = "mine"
