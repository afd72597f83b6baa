"""Exports of adapters beside a quantised base: the card says what merging costs."""

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evo import config as configuration
from evo.export.model import export
from evo.prepare.task import prepare
from evo.record.ledger import Ledger
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from tests.evo.export.test_model import GENOMES, LORA, SPEC, loss_of, measured
from tests.evo.strange import without_sums


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one fine-tune, of an adapter beside a base in 4 bits."""
    folder = tmp_path_factory.mktemp("quantised")
    spec = SPEC.replace("quickstart}", "quickstart, quantisation: nf4}", 1)
    (folder / "little.yaml").write_text(spec.replace("[none, lora]", "[lora, dora]"))
    config = configuration.load(folder / "little.yaml")
    prepared = prepare(config)
    run = folder / "run"
    evaluator = Evaluator(replace(prepared.task, artifacts=run / "artifacts"))
    plain = configuration.to_plain(config)
    header = {"config": plain, "fingerprints": prepared.fingerprints, "time": 0.0}
    with Ledger.create(run, header) as ledger:
        made = {"parents": [], "operator": "random", "generation": 0, "learned_from": None}
        ledger.append("individual", id=0, genome=GENOMES[LORA], **made)
        recipe = configuration.decode(config, GENOMES[LORA])
        evaluation = evaluator.evaluate(EvaluationSpec(0, recipe, 0))
        assert evaluation.status is Status.OK, evaluation.message
        ledger.append("evaluation", **evaluation.fact())
    return run


def test_the_card_compares_the_merged_model_with_what_was_measured(
    run: Path, tmp_path: Path
) -> None:
    to = export(run, "0", tmp_path / "model")
    card = (to / "README.md").read_text()
    row = re.search(r"\| target \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", card)
    assert row is not None
    base, own, merged = map(float, row.groups())
    task = prepare(configuration.load(run.parent / "little.yaml")).task
    assert own == pytest.approx(math.exp(measured(run, 0)), abs=1e-3)
    assert merged == pytest.approx(math.exp(loss_of(to, task)), abs=1e-3)
    assert merged == pytest.approx(own, abs=2e-3)
    untouched = Evaluator(task).evaluate(EvaluationSpec(0, {}, 0, 0.0))
    assert base == pytest.approx(math.exp(untouched.measurements["target/loss"]), abs=1e-3)
    assert base > own + 0.01
    assert "beside weights quantised to nf4" in card


def test_an_adapter_alone_is_not_merged_and_nothing_is_compared(run: Path, tmp_path: Path) -> None:
    to = export(run, "0", tmp_path / "model", adapter=True)
    assert "Merged weights" not in (to / "README.md").read_text()
    assert (to / "adapter_model.safetensors").exists()


def test_held_out_text_that_is_gone_costs_the_comparison_alone(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    ledger = copy / "ledger.jsonl"
    ledger.write_text(without_sums(ledger).replace("jargon.selection.jsonl", "gone.jsonl"))
    to = export(copy, "0", tmp_path / "model", trusted=True)
    card = (to / "README.md").read_text()
    assert "The merged weights are not compared with what was measured: " in card
    assert "gone.jsonl" in card


def test_a_model_that_cannot_be_measured_costs_the_comparison_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(task: Task, specs: list[EvaluationSpec]) -> list[Evaluation]:
        return [failed(specs[0], Status.OUT_OF_MEMORY, "Traceback\nRuntimeError: out of memory")]

    monkeypatch.setattr("evo.export.merged.by_several", short)
    card = (export(run, "0", tmp_path / "model") / "README.md").read_text()
    assert "not compared with what was measured: the evaluation failed (RuntimeError: out" in card
    assert (tmp_path / "model" / "model.safetensors").exists()
