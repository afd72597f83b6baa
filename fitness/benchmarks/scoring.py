"""Scores of a model in memory on benchmark tasks, by lm-evaluation-harness."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fitness.benchmarks.catalogue import filters_of
from fitness.benchmarks.documents import FEW_SHOT_SEED, same, silent
from fitness.benchmarks.settings import Benchmark, HeldOutTask
from fitness.data.documents import Half
from fitness.errors import InputError
from fitness.inference.log_probabilities import sequences_at_once
from fitness.training.supervised import Diverged

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A measurement; with (n,) sums of its documents, if it is sum over weights of these.

    Of `perplexity` the sums are those of the loss, of which it is the exponential.
    """

    value: float
    sums: Array | None = None
    weights: Array | None = None  # None: all are 1


def score_benchmark(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    benchmark: Benchmark,
    held_out: Mapping[str, HeldOutTask],
    split: Half,
    *,
    seed: int,
) -> dict[str, Score]:
    """Score a model on a split, where it is; by `<task>/<metric>`.

    The model's mode and the random state of torch are as before afterwards. Raises Diverged for a
    likelihood that is not a number, InputError for a task that has changed since the launch.
    """
    import torch
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    tasks = same(benchmark, held_out)
    longest = max(one.longest for one in held_out.values())
    devices = [model.device] if model.device.type == "cuda" else []
    with silent(), _mode_kept(model), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        lm = HFLM(
            pretrained=model,
            backend="causal",
            tokenizer=copy.deepcopy(tokenizer),  # which gets a token for padding
            batch_size=1,
        )
        lm.batch_size_per_gpu = sequences_at_once(model, min(longest, lm.max_length))
        for task in tasks.values():
            task.set_fewshot_seed(FEW_SHOT_SEED)
        samples = {name: list(one.documents[split]) for name, one in held_out.items()}
        found = evaluate(lm, {"tasks": tasks}, samples=samples, bootstrap_iters=0)
    assert found is not None, "one process evaluates"
    scores = {}
    for name, one in held_out.items():
        _check(name, tasks[name])
        for metric in one.metrics:
            told = found["results"][name], found["samples"][name]
            scores[f"{name}/{metric}"] = _score(name, metric, tasks[name], *told)
    return scores


@contextmanager
def _mode_kept(model: "PreTrainedModel") -> Iterator[None]:
    """Put a model back into training or evaluation mode after the context."""
    training = model.training
    try:
        yield
    finally:
        model.train(training)


def _check(name: str, task: Any) -> None:
    """Raise Diverged if some likelihood is not a number."""
    for request in task.instances:
        first = request.resps[0] if request.request_type != "generate_until" else 0.0
        if math.isnan(first[0] if isinstance(first, tuple) else first):
            raise Diverged(f"{name}: a likelihood is not a number")


def _score(
    name: str,
    metric: str,
    task: Any,
    results: Mapping[str, Any],
    documents: Sequence[Mapping[str, Any]],
) -> Score:
    plain, _, chosen = metric.partition(",")
    chosen = chosen or filters_of({"filter_list": task.config.filter_list})[0]
    value = results.get(f"{plain},{chosen}")
    if not isinstance(value, int | float | np.number):
        given = ", ".join(sorted({key.partition(",")[0] for key in results if "," in key}))
        raise InputError(f"task {name!r}: gave no number as {plain}; it gave {given}")
    each = [one[plain] for one in documents if one["filter"] == chosen and plain in one]
    return Score(float(value), *by_document(task.aggregation().get(plain), each))


def by_document(aggregate: Any, each: Sequence[Any]) -> tuple[Array | None, Array | None]:
    """Sums and weights of the documents; None where the aggregate is no such mean.

    Perplexities of words and bytes have pseudo-values of the jackknife (Tukey 1958).
    """
    from lm_eval.api import metrics

    if aggregate in (metrics.mean, None):
        return np.asarray(each, float), None
    if aggregate is metrics.perplexity:
        return -np.asarray(each, float), None
    if aggregate not in (metrics.bits_per_byte, metrics.weighted_perplexity):
        return None, None
    likelihoods, sizes = np.asarray(each, float).T
    if aggregate is metrics.bits_per_byte:
        return -likelihoods / math.log(2), sizes
    count, total, size = len(each), -likelihoods.sum(), sizes.sum()
    if count < 2:
        return None, None
    without = np.exp((total + likelihoods) / (size - sizes))
    return count * np.exp(total / size) - (count - 1) * without, None
