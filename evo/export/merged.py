"""Perplexity of a model merged from a quantised base and an adapter, beside what was measured."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from evo.config import SearchConfig
from evo.prepare.task import prepare
from evo.record.facts import Evaluated
from fitness.errors import InputError
from fitness.evaluate.evaluator import by_several
from fitness.evaluation import EvaluationSpec, Status, Task

SECTION = """
## Merged weights
The adapter was trained beside weights quantised to {quantisation}, and is merged into these,
dequantised, in float32. Perplexity on the selection split:

| domain | quantised base | with the adapter, as measured | merged |
|---|---|---|---|
{rows}
"""


def merged_section(config: SearchConfig, measured: Sequence[Evaluated], merged: Path) -> str:
    """Section of a model card: perplexities of the base, the individual and the merged model.

    `measured` are the individual's evaluations, `merged` is the folder of the merged model.
    """
    try:
        task = prepare(config).task
    except InputError as error:  # such as held-out text that is elsewhere by now
        return f"\nThe merged weights are not compared with what was measured: {error}.\n"
    task = replace(task, prompts={}, prompt_sets={}, sources={})
    base = _losses(task)
    whole = _losses(replace(task, model=merged, dtype="float32", quantisation="none"))
    rows = []
    for name, loss in base.items():
        own = [f["measurements"].get(name) for f in measured if f["split"] == "selection"]
        known = [value for value in own if value is not None]
        as_measured = f"{math.exp(fmean(known)):.3f}" if known else "-"
        domain = name.partition("/")[0]
        rows.append(
            f"| {domain} | {math.exp(loss):.3f} | {as_measured} | {math.exp(whole[name]):.3f} |"
        )
    return SECTION.format(quantisation=config.model.quantisation, rows="\n".join(rows))


def _losses(task: Task) -> dict[str, float]:
    """Losses of a task's untouched model, by measurement."""
    [evaluation] = by_several(task, [EvaluationSpec(0, {}, seed=0, fidelity=0)])
    if evaluation.status is not Status.OK:
        raise InputError(f"{task.model}: could not be measured: {evaluation.message}")
    return {
        name: value for name, value in evaluation.measurements.items() if name.endswith("/loss")
    }
