"""Evaluation by a user's own Python function, named in the spec as `module:function`."""

import time
from collections.abc import Callable, Mapping
from numbers import Real

from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from fitness.plugins import load_function
from fitness.secrets import quoted, without_secrets


def by_function(task: Task) -> Callable[[EvaluationSpec], Evaluation]:
    """Evaluation by `function(recipe, *, seed, fidelity, split)`, which returns measurements."""
    function = load_function(str(task.evaluator), "evaluator")

    def run(spec: EvaluationSpec) -> Evaluation:
        started = time.perf_counter()
        values = function(
            dict(spec.recipe), seed=spec.seed, fidelity=spec.fidelity, split=spec.split
        )
        if not isinstance(values, Mapping):
            raise InputError(
                f"the evaluator must return a dict of numbers, got {quoted(values, 80)}"
            )
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, Real):
                raise InputError(
                    f"the evaluator must return numbers, got {_named(name)}={quoted(value, 80)}"
                )
        measurements = {_named(name): float(value) for name, value in values.items()}
        cost = {"train_seconds": time.perf_counter() - started}
        return Evaluation(spec, Status.OK, measurements, cost)

    return run


def _named(measurement: object) -> str:
    return without_secrets(str(measurement))
