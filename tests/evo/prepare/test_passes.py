"""Budgets in passes over the sources: exact for text and for records, with their padding."""

import json
from pathlib import Path

import pytest

from evo import config as configuration
from evo.prepare.passes import epoch_tokens
from evo.prepare.task import prepare
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec
from tests.fitness.quickstart import CORPUS, DATA

SPEC = f"""\
name: passes
model: {{base: quickstart}}
{DATA}recipe: {{learning_rate: 1e-3, sequence_length: 48, batch_size: 4}}
genome: {{mixture: {{type: simplex}}}}
objectives: {{target/loss: minimize}}
search: {{population: 4}}
budget: {{evaluations: 4, tokens: 100000}}
"""


def load(tmp_path: Path, *settings: str) -> configuration.SearchConfig:
    path = tmp_path / "search.yaml"
    path.write_text(SPEC)
    answers = tmp_path / "answers.jsonl"
    lines = (CORPUS / "prompts/categories.selection.jsonl").read_text().splitlines()[:20]
    pairs = [json.loads(line) for line in lines]
    rows = [{"prompt": one["prompt"], "completion": f" {one['reference']}"} for one in pairs]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"sources.answers={{path: {answers}, kind: completion}}"
    return configuration.load(path, [source, *settings])


def test_passes_end_a_fine_tune_before_its_tokens(tmp_path: Path) -> None:
    every = prepare(load(tmp_path)).task
    assert every.budget_tokens == 100_000
    config = load(tmp_path, "budget.epochs={jargon: 2}")
    jargon = every.sources["jargon"].tokens
    assert prepare(config).task.budget_tokens == 2 * jargon
    assert prepare(load(tmp_path, "budget.epochs=1000")).task.budget_tokens == 100_000
    assert prepare(load(tmp_path, "budget.epochs={jargon: 0.001}")).task.budget_tokens == 4 * 48


def test_three_passes_over_records_are_what_a_fine_tune_reads(tmp_path: Path) -> None:
    config = load(tmp_path, "budget.epochs={answers: 3}")
    task = prepare(config).task
    file = task.sources["answers"]
    assert epoch_tokens(config, file) > file.tokens, "packed sequences are padded"
    recipe = {**config.recipe, "mixture": {"answers": 1.0}}
    done = Evaluator(task).evaluate(EvaluationSpec(0, recipe, 0, keep_weights=False))
    assert done.details["epochs"]["answers"] == pytest.approx(3)
    assert done.cost["tokens"] == task.budget_tokens


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("budget.epochs=0", "budget.epochs: must be above 0"),
        ("budget.epochs={jargn: 1}", "did you mean jargon"),
        ("budget.epochs={pool: 1}", "budget.epochs.pool: "),
    ],
)
def test_passes_over_nothing_are_refused(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(configuration.ConfigError, match=message):
        load(tmp_path, setting)
