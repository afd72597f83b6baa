"""An individual as a model folder that `transformers` loads, with its recipe and a model card."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evo import config as configuration
from evo.config import SearchConfig
from evo.history import best
from evo.ledger import Fact, read
from evo.prepare import prepare
from fitness import weights
from fitness.errors import InputError
from fitness.evaluate import EvaluationSpec, Evaluator, Status, Task

CARD = """---
base_model: {base}
library_name: transformers
tags: [evomix]
---
# {name}: individual {individual}

Found by an evomix search over {evaluations} fine-tunes of `{base}`, {tokens:,} tokens each.
Its recipe is in `recipe.yaml`.

## Data
| source | share of the tokens | epochs |
|---|---|---|
{data}

## Measurements
Means over the seeds measured; the search saw the selection split only.

| measurement | selection | test |
|---|---|---|
{measurements}
"""


def export(run: Path, individual: str, to: Path) -> Path:
    """Write the model, its tokenizer, recipe.yaml and a model card to the new folder `to`.

    `individual` is a number or "best". Weights that the run did not keep are trained again, which
    gives the same ones on the same machine.
    """
    facts = read(run)
    config = configuration.of(facts)
    if config.evaluator != "builtin":
        raise InputError(f"{run}: its evaluator {config.evaluator} trains models of its own")
    number = _number(run, facts, individual)
    born = next(f for f in facts if f["fact"] == "individual" and f["id"] == number)
    recipe = configuration.decode(config, born["genome"])
    evaluations = [
        f
        for f in facts
        if f["fact"] == "evaluation" and f["individual"] == number and f["fidelity"] > 0
    ]
    if not any(fact["status"] == "ok" for fact in evaluations):
        raise InputError(f"{run}: individual {number} has no finished evaluation to export")
    if to.exists() and any(to.iterdir()):
        raise InputError(f"{to} exists and is not empty; name a new folder")
    task = prepare(config).task
    assert task.model is not None  # the builtin evaluator has one
    partial = to.with_name(f"{to.name}.{os.getpid()}.partial")
    with tempfile.TemporaryDirectory() as retrained:
        kept = weights.folder_of(run / "artifacts", number)
        if not kept.is_dir():
            spec = EvaluationSpec(number, recipe, config.seed)
            kept = _train_again(replace(task, artifacts=Path(retrained)), spec)
        try:
            weights.assemble(task.model, kept, partial)
            configuration.write_yaml(recipe, partial / "recipe.yaml")
            card = _card(config, number, evaluations)
            (partial / "README.md").write_text(card, encoding="utf-8")
            if to.exists():
                to.rmdir()
            os.replace(partial, to)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return to


def _number(run: Path, facts: Sequence[Fact], individual: str) -> int:
    if individual == "best":
        number = best(facts)
        if number is None:
            raise InputError(
                f"{run}: no individual has finished yet; `evo status {run}` tells more"
            )
        return number
    known = sorted(fact["id"] for fact in facts if fact["fact"] == "individual")
    if not individual.isdecimal() or int(individual) not in known:
        span = f"it has 0 to {known[-1]}" if known else "it has none yet"
        raise InputError(f"{run} has no individual {individual!r}; {span}, or say `best`")
    return int(individual)


def _train_again(task: Task, spec: EvaluationSpec) -> Path:
    evaluation = Evaluator(task).evaluate(spec)
    if evaluation.status is not Status.OK or task.artifacts is None:
        raise InputError(f"individual {spec.individual} could not be trained: {evaluation.message}")
    return weights.folder_of(task.artifacts, spec.individual)


def _card(config: SearchConfig, number: int, evaluations: Sequence[Mapping[str, Any]]) -> str:
    measured = [fact for fact in evaluations if fact["status"] == "ok"]
    details = measured[0]["details"]
    return CARD.format(
        base=config.model.base,
        name=config.name,
        individual=number,
        evaluations=config.budget.evaluations,
        tokens=config.budget.tokens,
        data="\n".join(
            f"| {source} | {share:.3f} | {details['epochs'].get(source, 0):.2f} |"
            for source, share in details["shares"].items()
        ),
        measurements="\n".join(
            f"| {name} | {_mean(measured, name, 'selection')} | {_mean(measured, name, 'test')} |"
            for name in measured[0]["measurements"]
        ),
    )


def _mean(evaluations: Sequence[Mapping[str, Any]], name: str, split: str) -> str:
    values = [
        fact["measurements"][name]
        for fact in evaluations
        if fact["split"] == split and name in fact["measurements"]
    ]
    return f"{sum(values) / len(values):.4f} (n={len(values)})" if values else "-"
