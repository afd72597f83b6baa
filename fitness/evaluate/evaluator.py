"""Evaluation of one recipe by any evaluator: expected failures become a status of the result."""

import math
import multiprocessing
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from fitness import hardware
from fitness.buckets.together import Trained
from fitness.errors import Infeasible, InputError
from fitness.evaluate.builtin import Builtin
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from fitness.plugins import load_function
from fitness.training.ranks import Parted, Ranks, leave, meet, meeting_place
from fitness.training.supervised import Diverged

FINE = (Status.OK, Status.DIVERGED)  # statuses on which all processes of a group agree


class Evaluator:
    """The evaluator of a worker, kept between evaluations; a result depends on the spec alone."""

    def __init__(self, task: Task) -> None:
        self._run: Callable[..., Evaluation]
        self._run = load_function(task.form.maker, "evaluator")(task)
        self._builtin = self._run if isinstance(self._run, Builtin) else None

    def join(self, ranks: Ranks) -> None:
        """Train together with other processes from now on."""
        if self._builtin:
            self._builtin.ranks = ranks

    def evaluate(self, spec: EvaluationSpec, *trained: Trained) -> Evaluation:
        """Evaluate one spec. Never raises for a failure that a recipe can cause.

        The message of an `error` is its traceback. `trained` is given if the individual was
        trained in a bucket already.
        """
        evaluation = self._evaluated(spec, *trained)
        if evaluation.status is Status.OUT_OF_MEMORY:
            hardware.release_memory()
        return evaluation

    def _evaluated(self, spec: EvaluationSpec, *trained: Trained) -> Evaluation:
        try:
            return _checked(self._run(spec, *trained))
        except Diverged as error:
            return failed(spec, Status.DIVERGED, error)
        except Infeasible as error:
            return failed(spec, Status.INFEASIBLE, error)
        except Parted as error:
            status = Status.OUT_OF_MEMORY if hardware.is_out_of_memory(error) else Status.LOST
            return failed(spec, status, error)
        except (Exception, SystemExit) as error:  # a trainer may well call sys.exit
            status = Status.OUT_OF_MEMORY if hardware.is_out_of_memory(error) else Status.ERROR
            return failed(spec, status, traceback.format_exc())

    def evaluate_bucket(self, specs: Sequence[EvaluationSpec]) -> list[Evaluation]:
        """Evaluate a bucket of specs: compatible ones are trained sharing the base's forward pass.

        Results are as by `evaluate`, and each may fail by itself; if together they need too much
        memory, they are trained one by one.
        """
        short = False
        try:
            trained = self._builtin.together(specs) if self._builtin else {}
        except Exception as error:
            if not (isinstance(error, InputError) or hardware.is_out_of_memory(error)):
                return [failed(spec, Status.ERROR, traceback.format_exc()) for spec in specs]
            trained, short = {}, hardware.is_out_of_memory(error)
        if short:
            hardware.release_memory()
        return [
            self.evaluate(spec, *([trained[spec]] if spec in trained else [])) for spec in specs
        ]

    def bfloat16_cost(self) -> float:
        """Duration of a matrix product in bfloat16 on this machine, in multiples of float32."""
        return self._builtin.bfloat16_cost() if self._builtin else math.inf

    def fastest_bucket(self, recipe: Mapping[str, Any]) -> int:
        """Bucket size that trains such recipes fastest here, as measured; 1 if none can."""
        try:
            return self._builtin.fastest_bucket(recipe) if self._builtin else 1
        except Exception as error:
            if isinstance(error, InputError) or hardware.is_out_of_memory(error):
                return 1
            raise


def by_several(task: Task, specs: Sequence[EvaluationSpec]) -> list[Evaluation]:
    """Evaluate specs on this machine as a worker does, with `task.processes` processes.

    Several processes stop at the first spec that fails. Each has a GPU of its own where there are
    enough of them.
    """
    if task.processes == 1:
        evaluator = Evaluator(task)
        return [evaluator.evaluate(spec) for spec in specs]
    own_gpu = hardware.gpus() >= task.processes
    url = meeting_place("127.0.0.1" if own_gpu else None)  # nccl would keep reading a file
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(task.processes, mp_context=context) as pool:
        calls = [
            pool.submit(_as_rank, task, specs, url, rank, own_gpu=own_gpu)
            for rank in range(task.processes)
        ]
        answers = [call.result() for call in calls]
    why = [one for some in answers for one in some[-1:] if one.status not in FINE]
    why.sort(key=lambda one: one.status is Status.LOST)  # a lost peer is a consequence, not a cause
    return [*answers[0][:-1], why[0]] if why else answers[0]


def _as_rank(
    task: Task, specs: Sequence[EvaluationSpec], url: str, rank: int, *, own_gpu: bool
) -> list[Evaluation]:
    if own_gpu:
        hardware.use_only(rank)
    evaluator = Evaluator(task)
    evaluator.join(meet(url, rank, task.processes, seconds=task.timeout, own_gpu=own_gpu))
    evaluations = []
    for spec in specs:
        evaluations.append(evaluator.evaluate(spec))
        if evaluations[-1].status not in FINE:
            break  # and leave the group, so that no process waits for this one
    leave()
    return evaluations


def _checked(evaluation: Evaluation) -> Evaluation:
    """The evaluation, with the status `diverged` if a measurement is not a finite number."""
    for name, value in evaluation.measurements.items():
        if not abs(value) < float("inf"):
            return failed(evaluation.spec, Status.DIVERGED, f"{name} is {value}")
    return evaluation
