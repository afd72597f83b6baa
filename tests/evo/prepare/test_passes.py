"""Budgets in passes over the sources or in learned tokens, exact for text and for records."""

import json
import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from evo import config as configuration
from evo.dry_run import plan
from evo.prepare.outlook import outlook
from evo.prepare.passes import epoch_tokens, learned_tokens
from evo.prepare.task import prepare
from fitness.data.tokenizer import load_tokenizer
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec
from tests.fitness.quickstart import CORPUS, DATA, MODEL

SPEC = f"""\
name: passes
model: {{base: quickstart}}
{DATA}recipe: {{learning_rate: 1e-3, sequence_length: 48, batch_size: 4}}
genome: {{mixture: {{type: simplex}}}}
objectives: {{target/loss: minimize}}
search: {{population: 4}}
budget: {{evaluations: 4, tokens: 100000}}
"""


def load(tmp_path: Path, *settings: str, source: bool = True) -> configuration.SearchConfig:
    path = tmp_path / "search.yaml"
    path.write_text(SPEC)
    answers = tmp_path / "answers.jsonl"
    lines = (CORPUS / "prompts/categories.selection.jsonl").read_text().splitlines()[:20]
    pairs = [json.loads(line) for line in lines]
    rows = [{"prompt": one["prompt"], "completion": f" {one['reference']}"} for one in pairs]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = [f"sources.answers={{path: {answers}, kind: completion}}"] if source else []
    return configuration.load(path, [*records, *settings])


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
    assert epoch_tokens(config, "answers", file) > file.tokens, "packed sequences are padded"
    recipe = {**config.recipe, "mixture": {"answers": 1.0}}
    done = Evaluator(task).evaluate(EvaluationSpec(0, recipe, 0, keep_weights=False))
    assert done.details["epochs"]["answers"] == pytest.approx(3)
    assert done.cost["tokens"] == task.budget_tokens


ALONE = ("recipe.mixture={jargon: 0, devil: 0, answers: 1}",)
MIXED = ("recipe.mixture={jargon: 0.25, devil: 0, answers: 0.75}",)


def test_learned_tokens_are_those_of_the_answers_counted_by_hand(tmp_path: Path) -> None:
    config = load(tmp_path, *ALONE)
    file = prepare(config).task.sources["answers"]
    tokenizer = load_tokenizer(MODEL)
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    learned = 0
    for row in rows:
        prompt = tokenizer(row["prompt"])["input_ids"]
        whole = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        assert whole[: len(prompt)] == prompt
        learned += len(whole) - len(prompt) + 1  # and the token that ends it
    assert learned_tokens(config, "answers", file) == learned
    packed = epoch_tokens(config, "answers", file)
    assert learned < packed / 10
    two = load(tmp_path, *ALONE, f"budget.learned_tokens={2 * learned}")
    assert prepare(two).task.budget_tokens == 2 * packed


def test_a_mixture_learns_by_its_shares_and_all_of_a_text(tmp_path: Path) -> None:
    config = load(tmp_path, *MIXED)
    file = prepare(config).task.sources["answers"]
    dense = (learned_tokens(config, "answers", file) or 0) / epoch_tokens(config, "answers", file)
    budget = prepare(load(tmp_path, *MIXED, "budget.learned_tokens=900")).task.budget_tokens
    assert budget == math.ceil(900 / (0.25 + 0.75 * dense))
    text = ("recipe.mixture={jargon: 1, devil: 0, answers: 0}", "budget.learned_tokens=900")
    assert prepare(load(tmp_path, *text)).task.budget_tokens == 900
    plenty = load(tmp_path, *MIXED, "budget.learned_tokens=100000000")
    assert prepare(plenty).task.budget_tokens == 100_000
    few = load(tmp_path, *MIXED, "budget.learned_tokens=1")
    assert prepare(few).task.budget_tokens == 4 * 48


@pytest.mark.parametrize(("learned", "key"), [(900, "learned_tokens"), (90_000, "epochs")])
def test_the_earlier_of_both_ends_a_fine_tune_and_is_told(
    tmp_path: Path, learned: int, key: str
) -> None:
    config = load(tmp_path, *MIXED, f"budget.learned_tokens={learned}", "budget.epochs={jargon: 1}")
    ready = prepare(config)
    jargon = ready.task.sources["jargon"].tokens
    assert (ready.task.budget_tokens == jargon) == (key == "epochs")
    assert ready.task.budget_tokens <= jargon
    wanted = f"budget.{key}: {ready.task.budget_tokens:,} of 100,000 tokens for each fine-tune"
    assert wanted in outlook(config, ready).notes


@pytest.mark.parametrize("source", ["answers", ""])
def test_the_dry_run_has_learned_tokens_where_there_are_records(
    tmp_path: Path, source: str
) -> None:
    config = load(tmp_path, *(MIXED if source else ()), source=bool(source))
    printed = StringIO()
    Console(width=200, file=printed).print(plan(config))
    lines = [line.strip(" │").split() for line in printed.getvalue().splitlines()]
    assert any("learned" in line for line in lines) == bool(source)
    if source:
        sources = prepare(config).task.sources
        cells = {line[0]: line for line in lines if len(line) > 3 and line[0] in sources}
        learned = learned_tokens(config, "answers", sources["answers"])
        jargon = sources["jargon"].tokens
        assert f"{learned:,}" in cells["answers"]
        assert cells["jargon"].count(f"{jargon:,}") == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("budget.learned_tokens=0",), "budget.learned_tokens: must be at least 1"),
        (("budget.learned_tokens=1.5",), "budget.learned_tokens: "),
        (("budget.learned_tokens=many",), "budget.learned_tokens: "),
        (
            ("budget.learned_tokens=9", "sources.answers.kind=prompt", "recipe.method=reinforce"),
            "budget.learned_tokens: answers has records of kind prompt, of which reinforce learns "
            "no tokens; give budget.epochs instead",
        ),
        (
            ("budget.learned_tokens=9", "evaluator=tests.evo.toy:score"),
            "budget.learned_tokens: counts tokens of sources, which this evaluator reads itself",
        ),
    ],
)
def test_learned_tokens_that_nothing_has_are_refused(
    tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(configuration.ConfigError, match=message):
        load(tmp_path, *settings)


def test_a_masked_model_counts_no_learned_tokens(tmp_path: Path) -> None:
    settings = ("model.task=masked", "budget.learned_tokens=9")
    with pytest.raises(configuration.ConfigError, match="a masked model learns a share"):
        load(tmp_path, *settings, source=False)


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
