"""One recipe in, one evaluation out: fine-tune, measure, and turn expected failure into data."""

import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from fitness import inheritance, merging, weights
from fitness.cost import Shape, training_flops
from fitness.decks import deck_of
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from fitness.evaluators import BUILTIN, Command, Trl
from fitness.external import by_command
from fitness.held_out import held_out_loss, measure
from fitness.metrics import load_function
from fitness.mixing import Mixing
from fitness.recipe import Recipe
from fitness.training import state
from fitness.training.early_stopping import EarlyStopping
from fitness.training.objective import objective
from fitness.training.preference import Reference
from fitness.training.state import NOT_BEGUN, TrainingState
from fitness.training.supervised import Diverged, finetune, precise
from fitness.training.trl import by_trl

NO_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Evaluator:
    """Holds what a worker keeps between evaluations; a result depends on the spec alone."""

    def __init__(self, task: Task) -> None:
        self._run: Callable[[EvaluationSpec], Evaluation]
        if task.evaluator == BUILTIN:
            self._run = _builtin(task)
        elif isinstance(task.evaluator, Command):
            by = by_command(task, task.evaluator)
            self._run = lambda spec: _checked(by(spec))
        elif isinstance(task.evaluator, Trl):
            trl = by_trl(task, task.evaluator)
            self._run = lambda spec: _checked(trl(spec))
        else:
            self._run = _custom(load_function(task.evaluator, "evaluator"))

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        """Never raises for what a recipe can cause; the message of an `error` is its traceback."""
        try:
            return self._run(spec)
        except Diverged as error:
            return failed(spec, Status.DIVERGED, error)
        except (Exception, SystemExit) as error:  # a trainer may well call sys.exit
            status = Status.OUT_OF_MEMORY if _is_out_of_memory(error) else Status.ERROR
            return failed(spec, status, traceback.format_exc())


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


def _builtin(task: Task) -> Callable[[EvaluationSpec], Evaluation]:
    """Fine-tune the base on the recipe's mixture, then score held-out text and generations."""
    import torch

    from fitness.models import Base

    if task.model is None:
        raise InputError("the builtin evaluator needs `model.base`")
    torch.set_num_threads(task.threads)
    base = Base(task.model, task.dtype)
    shape = Shape.of(task.model)
    contents = {name: file.open() for name, file in task.sources.items()}
    reference = Reference(base)

    def untouched(spec: EvaluationSpec) -> Evaluation:
        started = time.perf_counter()
        measurements, samples = measure(base.model, base.tokenizer, task, spec)
        seconds = time.perf_counter() - started
        cost = {"tokens": 0, "flops": 0.0, "train_seconds": 0.0, "evaluate_seconds": seconds}
        return Evaluation(spec, Status.OK, measurements, cost, {"samples": samples})

    def merged(spec: EvaluationSpec, recipe: Recipe, task: Task) -> Evaluation:
        started = time.perf_counter()
        inherited = merging.of_parts(base, recipe, task.parts, seed=spec.seed)
        with base.prepared(recipe, seed=spec.seed) as model:
            inheritance.begin(model, inherited)
            merging_ended = time.perf_counter()
            with precise(base.device, recipe):
                measurements, samples = measure(model, base.tokenizer, task, spec)
            if task.artifacts is not None and spec.keep_weights and spec.split == "selection":
                weights.keep(model, weights.folder_of(task.artifacts, spec.individual))
        cost = {
            "tokens": 0,
            "flops": 0.0,
            "train_seconds": merging_ended - started,
            "evaluate_seconds": time.perf_counter() - merging_ended,
        }
        details = {"shares": dict(recipe.mixture), "epochs": {}, "samples": samples}
        return Evaluation(spec, Status.OK, measurements, cost, details)

    def run(spec: EvaluationSpec, task: Task = task) -> Evaluation:
        if spec.fidelity == 0:
            return _checked(untouched(spec))
        recipe = Recipe.model_validate(dict(spec.recipe))
        if task.parts:
            return _checked(merged(spec, recipe, task))
        separator = base.tokenizer.eos_token_id
        mixing = Mixing(
            recipe.mixture,
            {name: deck_of(content, recipe, separator) for name, content in contents.items()},
            budget_tokens=budget_of(task, spec),
            sequence_length=recipe.sequence_length,
            seed=spec.seed,
            seen=spec.seen,
            seen_seed=spec.ancestors[0].seed if spec.ancestors else spec.seed,
        )
        steps = mixing.steps(recipe.batch_size)
        until = max(1, round(steps * min(1.0, spec.fidelity)))
        file = task.artifacts and state.file_of(task.artifacts, spec.individual, spec.seed)
        begin = _kept(file, until) if spec.continue_from else NOT_BEGUN
        started = time.perf_counter()
        with inheritance.parents(spec, task, run) as folders:
            inherited = merging.start(base, recipe, folders, seed=spec.seed)
        with base.prepared(recipe, seed=spec.seed, checkpointing=task.checkpointing) as model:
            if inherited is not None:
                inheritance.begin(model, inherited)
            stop = _stopping(task, model, recipe, steps) if task.patience else None
            report = finetune(
                model,
                recipe,
                mixing.batches(recipe.batch_size, skip=begin.step),
                steps=steps,
                seed=spec.seed,
                loss_of=objective(recipe, reference, base.tokenizer, seed=spec.seed),
                begin=begin,
                until=until,
                keep=partial(state.keep, file=file) if file and spec.keep_state else None,
                micro_batch=task.micro_batch,
                stop=stop,
            )
            if stop is not None:
                stop.go_back()
            trained = time.perf_counter()
            with precise(base.device, recipe):
                measurements, samples = measure(model, base.tokenizer, task, spec)
            kept = spec.keep_weights and spec.split == "selection" and until == steps
            if task.artifacts is not None and kept:
                weights.keep(model, weights.folder_of(task.artifacts, spec.individual))
        cost = {
            "tokens": report.tokens,
            "flops": training_flops(shape, recipe, report.tokens, task.kinds),
            "train_seconds": trained - started,
            "evaluate_seconds": time.perf_counter() - trained,
        }
        drawn = mixing.first(begin.tokens + report.tokens)
        details: dict[str, Any] = {
            "shares": drawn.shares,
            "epochs": drawn.epochs,
            "cumulative_tokens": inheritance.added(spec.seen, drawn.tokens),
            "learning_curve": report.learning_curve,
            "samples": samples,
        }
        if stop is not None:
            details["best_step"], details["steps"] = stop.best_step, steps
        if spec.continue_from:  # 0 where nothing was kept, so that all had to be done again
            details["continued_from"] = begin.tokens / task.budget_tokens
        if spec.parents:
            details["inherited_from"] = list(spec.parents)
        return _checked(Evaluation(spec, Status.OK, measurements, cost, details))

    return run


def budget_of(task: Task, spec: EvaluationSpec) -> int:
    """Training tokens of the whole fine-tune that the spec asks for, or for the first part of."""
    share = task.inherit_share if spec.parents else max(1.0, spec.fidelity)
    return round(task.budget_tokens * share)


def _stopping(task: Task, model: Any, recipe: Recipe, steps: int) -> EarlyStopping:
    """By the selection split, whatever split is scored afterwards."""
    file = task.domains[task.stop_on]["selection"]

    def loss() -> float:
        with precise(model.device, recipe):
            return held_out_loss(model, file, task.held_out_length)

    return EarlyStopping(model, loss, steps=steps, patience=task.patience or 1)


def _kept(file: Path | None, until: int) -> TrainingState:
    """The state to continue from, if it is there and not past step `until`; else the beginning."""
    kept = state.load(file) if file else None
    return kept if kept is not None and kept.step <= until else NOT_BEGUN
