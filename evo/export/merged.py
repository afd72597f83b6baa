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
dequantised, in float32. {measure} on the selection split:

| domain | quantised base | with the adapter, as measured | merged |
|---|---|---|---|
{rows}
"""


def merged_section(config: SearchConfig, measured: Sequence[Evaluated], merged: Path) -> str:
    """Section of a model card: perplexities of the base, the individual and the merged model.

    `measured` are the individual's evaluations, `merged` is the folder of the merged model.
    """
    try:
        task = replace(prepare(config).task, prompts={}, prompt_sets={}, benchmarks={}, sources={})
        base = _losses(task)
        whole = _losses(replace(task, model=merged, dtype="float32", quantisation="none"))
    except InputError as error:  # such as held-out text that is elsewhere by now, or no memory
        return f"\nThe merged weights are not compared with what was measured: {error}.\n"
    of_tokens = config.model.task in ("causal", "masked")
    measure, scale = ("Perplexity", math.exp) if of_tokens else ("Loss", float)
    rows = []
    for name, loss in base.items():
        own = [f["measurements"].get(name) for f in measured if f["split"] == "selection"]
        known = [value for value in own if value is not None]
        cells = [loss, fmean(known) if known else None, whole[name]]
        shown = " | ".join("-" if one is None else f"{scale(one):.3f}" for one in cells)
        rows.append(f"| {name.partition('/')[0]} | {shown} |")
    return SECTION.format(
        quantisation=config.model.quantisation, measure=measure, rows="\n".join(rows)
    )


def _losses(task: Task) -> dict[str, float]:
    """Losses of a task's untouched model, by measurement."""
    [evaluation] = by_several(task, [EvaluationSpec(0, {}, seed=0, fidelity=0)])
    if evaluation.status is not Status.OK:
        reason = (evaluation.message.strip().splitlines() or [str(evaluation.status)])[-1]
        raise InputError(f"the evaluation failed ({reason:.200})")
    return {
        name: value for name, value in evaluation.measurements.items() if name.endswith("/loss")
    }
