"""One recipe in, one evaluation out: fine-tune, measure, and turn expected failure into data."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from fitness import weights
from fitness.cost import Shape, training_flops
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from fitness.held_out import measure
from fitness.metrics import load_function
from fitness.mixing import Mixing
from fitness.recipe import Recipe
from fitness.together import Trained, train_together
from fitness.training import state
from fitness.training.state import NOT_BEGUN, TrainingState
from fitness.training.supervised import Diverged, finetune, precise

Together = Callable[[Sequence[EvaluationSpec]], Mapping[EvaluationSpec, Trained]]
NO_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Evaluator:
    """Holds what a worker keeps between evaluations; a result depends on the spec alone."""

    def __init__(self, task: Task) -> None:
        self._run: Callable[..., Evaluation]
        self._together: Together = lambda specs: {}
        self._fastest: Callable[[Recipe], int] = lambda recipe: 1
        if task.evaluator == "builtin":
            self._run, self._together, self._fastest = _builtin(task)
        else:
            self._run = _custom(load_function(task.evaluator, "evaluator"))

    def evaluate(self, spec: EvaluationSpec, *trained: Trained) -> Evaluation:
        """Never raises for what a recipe can cause; the message of an `error` is its traceback.

        `trained` is given where that was done in a bucket already.
        """
        try:
            return self._run(spec, *trained)
        except Diverged as error:
            return failed(spec, Status.DIVERGED, error)
        except (Exception, SystemExit) as error:  # a trainer may well call sys.exit
            status = Status.OUT_OF_MEMORY if _is_out_of_memory(error) else Status.ERROR
            return failed(spec, status, traceback.format_exc())

    def evaluate_bucket(self, specs: Sequence[EvaluationSpec]) -> list[Evaluation]:
        """As `evaluate` each, but those who fit are trained on one forward pass of the base.

        Each one's failure is its own; where all of them at once are too much, they train alone.
        """
        try:
            trained = self._together(specs)
        except Exception as error:
            if not (isinstance(error, InputError) or _is_out_of_memory(error)):
                return [failed(spec, Status.ERROR, traceback.format_exc()) for spec in specs]
            trained = {}
        return [
            self.evaluate(spec, *([trained[spec]] if spec in trained else [])) for spec in specs
        ]

    def fastest_bucket(self, recipe: Mapping[str, Any]) -> int:
        """How large a bucket of such recipes is fastest here, as measured; 1 where none works."""
        try:
            return self._fastest(Recipe.model_validate(dict(recipe)))
        except Exception as error:
            if isinstance(error, InputError) or _is_out_of_memory(error):
                return 1
            raise


def _is_out_of_memory(error: BaseException) -> bool:
    """Python's own, torch's for a device, or a RuntimeError of another of torch's allocators."""
    named = type(error).__name__ == "OutOfMemoryError"
    told = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return isinstance(error, MemoryError) or named or told


def _custom(function: Callable[..., Any]) -> Callable[[EvaluationSpec], Evaluation]:
    """`function(recipe, *, seed, fidelity, split)` returns measurements by name."""

    def run(spec: EvaluationSpec) -> Evaluation:
        started = time.perf_counter()
        values = function(
            dict(spec.recipe), seed=spec.seed, fidelity=spec.fidelity, split=spec.split
        )
        if not isinstance(values, Mapping):
            raise InputError(f"the evaluator must return a dict of numbers, got {values!r:.80}")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, Real):
                raise InputError(f"the evaluator must return numbers, got {name!s}={value!r:.80}")
        measurements = {str(name): float(value) for name, value in values.items()}
        cost = {"train_seconds": time.perf_counter() - started}
        return _checked(Evaluation(spec, Status.OK, measurements, cost))

    return run


def _checked(evaluation: Evaluation) -> Evaluation:
    """A measurement that is not a finite number means that the fine-tune diverged."""
    for name, value in evaluation.measurements.items():
        if not abs(value) < float("inf"):
            return failed(evaluation.spec, Status.DIVERGED, f"{name} is {value}")
    return evaluation


def _builtin(task: Task) -> tuple[Callable[..., Evaluation], Together, Callable[[Recipe], int]]:
    """Fine-tune the base on the recipe's mixture, then score held-out text and generations.

    Returns what does that for one individual, what trains those of a bucket, and what tells how
    large a bucket should be.
    """
    import torch

    from fitness.bucket_size import fastest
    from fitness.models import Base

    if task.model is None:
        raise InputError("the builtin evaluator needs `model.base`")
    torch.set_num_threads(task.threads)
    base = Base(task.model, task.dtype)
    shape = Shape.of(task.model)
    tokens = {name: file.open() for name, file in task.sources.items()}

    def untouched(spec: EvaluationSpec) -> Evaluation:
        started = time.perf_counter()
        measurements, samples = measure(base.model, base.tokenizer, task, spec)
        seconds = time.perf_counter() - started
        cost = {"tokens": 0, "flops": 0.0, "train_seconds": 0.0, "evaluate_seconds": seconds}
        return Evaluation(spec, Status.OK, measurements, cost, {"samples": samples})

    def mixed(recipe: Recipe, seed: int) -> Mixing:
        return Mixing(
            recipe.mixture,
            tokens,
            budget_tokens=task.budget_tokens,
            sequence_length=recipe.sequence_length,
            seed=seed,
        )

    def run(spec: EvaluationSpec, trained: Trained | None = None) -> Evaluation:
        if spec.fidelity == 0:
            return _checked(untouched(spec))
        recipe = Recipe.model_validate(dict(spec.recipe))
        mixing = mixed(recipe, spec.seed)
        steps = mixing.steps(recipe.batch_size)
        until = max(1, round(steps * spec.fidelity))
        file = task.artifacts and state.file_of(task.artifacts, spec.individual, spec.seed)
        begin = _kept(file, until) if spec.continue_from else NOT_BEGUN
        train = trained.finetune if trained else finetune
        started = time.perf_counter() - (trained.seconds if trained else 0.0)
        with base.prepared(recipe, seed=spec.seed) as model:
            report = train(
                model,
                recipe,
                mixing.batches(recipe.batch_size, skip=begin.step),
                steps=steps,
                seed=spec.seed,
                begin=begin,
                until=until,
                keep=partial(state.keep, file=file) if file and spec.keep_state else None,
            )
            scoring = time.perf_counter()
            with precise(base.device, recipe):
                measurements, samples = measure(model, base.tokenizer, task, spec)
            kept = spec.keep_weights and spec.split == "selection" and until == steps
            if task.artifacts is not None and kept:
                weights.keep(model, weights.folder_of(task.artifacts, spec.individual))
        cost = {
            "tokens": report.tokens,
            "flops": training_flops(shape, recipe, report.tokens),
            "train_seconds": scoring - started,
            "evaluate_seconds": time.perf_counter() - scoring,
        }
        drawn = mixing.first(begin.tokens + report.tokens)
        details: dict[str, Any] = {
            "shares": drawn.shares,
            "epochs": drawn.epochs,
            "learning_curve": report.learning_curve,
            "samples": samples,
        }
        if spec.continue_from:  # 0 where nothing was kept, so that all had to be done again
            details["continued_from"] = begin.tokens / task.budget_tokens
        return _checked(Evaluation(spec, Status.OK, measurements, cost, details))

    return run, partial(train_together, base, mixed), partial(fastest, base)


def _kept(file: Path | None, until: int) -> TrainingState:
    """The state to continue from, if it is there and not past step `until`; else the beginning."""
    kept = state.load(file) if file else None
    return kept if kept is not None and kept.step <= until else NOT_BEGUN
