"""Measurements: their units and directions, the table of metrics, and users' own metrics.

A user's own metric returns one number, or one for each answer, which counts by its mean.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import numpy as np

from fitness.checks.own import own_check
from fitness.checks.table import CHECKS, Check
from fitness.data.kinds import Kind
from fitness.data.prompts import Prompts, PromptSet
from fitness.data.samples import is_score
from fitness.errors import InputError
from fitness.metrics.generated import (
    Array,
    References,
    Texts,
    bleu,
    bleu_by_prompt,
    chrf,
    chrf_by_prompt,
    distinct_n,
    repetition,
)
from fitness.plugins import function_name
from fitness.suggest import did_you_mean, listed
from fitness.text import share

Direction = Literal["minimize", "maximize"]
SIGN: Mapping[Direction, int] = {"minimize": 1, "maximize": -1}  # sign * measurement is a loss
Function = Callable[[Texts, References, Texts], Any]  # of prompts, references, outputs


@dataclass(frozen=True)
class Measurement:
    """Meaning of a measurement, by the last part of its name: `loss` in `target/loss`."""

    name: str
    unit: str
    direction: Direction | None  # None: the spec must give it
    description: str

    @property
    def sign(self) -> int:
        """1 if lower is better, -1 if higher is, 0 if the spec must say it."""
        return 0 if self.direction is None else SIGN[self.direction]


@dataclass(frozen=True)
class Metric:
    """A metric of the answers to prompts: its meaning, the function, and its scores by prompt."""

    unit: str
    direction: Direction | None
    description: str
    function: Function
    """Called with prompts, references and outputs; returns a finite number, or (n,), their mean."""
    by_prompt: Function | None = None
    """Called alike where the metric is no mean; returns (n,) pseudo-values of the jackknife. None
    if there are none, as for distinct n-grams, of which a resample has fewer."""


MACRO = "mean over the classes that occur; a class that is never predicted counts 0"
SPANS = "of tags, spans of words predicted as they are, type and ends alike,"
_HELD_OUT = (
    Measurement(
        "loss",
        "nats",
        "minimize",
        "mean cross-entropy of held-out text, per token; of classes, per text; of tags, per word; "
        "of comparisons by a reward model, per pair",
    ),
    Measurement("perplexity", "", "minimize", "exp of the loss"),
    Measurement(
        "accuracy",
        "share",
        "maximize",
        "texts whose class is predicted, words whose tag is, or preferences whose chosen answer is "
        "more likely, or has the higher reward",
    ),
    Measurement(
        "precision",
        "share",
        "maximize",
        f"texts of a class among those predicted as it, {MACRO}; {SPANS} among those predicted",
    ),
    Measurement(
        "recall",
        "share",
        "maximize",
        f"texts of a class that are predicted as it, {MACRO}; {SPANS} among those there are",
    ),
    Measurement(
        "f1",
        "share",
        "maximize",
        f"harmonic mean of precision and recall, {MACRO}; of tags, of all spans",
    ),
    Measurement(
        "f1_micro",
        "share",
        "maximize",
        "F1 over all texts with a class, which is their accuracy; of tags, `f1`",
    ),
    Measurement(
        "f1_weighted",
        "share",
        "maximize",
        "mean F1 of the classes, weighted by their texts; of tags, of the types of spans, weighted "
        "by their spans",
    ),
    Measurement(
        "calibration",
        "share",
        "minimize",
        "expected calibration error of a reward model: confidence in an answer less how often it "
        "is the chosen one, over ten bins of confidence",
    ),
)
HELD_OUT: Mapping[Kind, tuple[str, ...]] = {
    "text": ("loss", "perplexity"),
    "completion": ("loss", "perplexity"),
    "preference": ("loss", "perplexity", "accuracy"),
    "label": ("loss", "accuracy", "precision", "recall", "f1", "f1_micro", "f1_weighted"),
    "tags": ("loss", "accuracy", "precision", "recall", "f1", "f1_micro", "f1_weighted"),
    "comparison": ("loss", "accuracy", "calibration"),
}


def _of_check(check: Check) -> Metric:
    return Metric("share", "maximize", f"answers: {check.description}", check)


OF_BENCHMARKS = (
    Measurement("acc", "share", "maximize", "questions whose likeliest answer is right"),
    Measurement("acc_norm", "share", "maximize", "the same, by likelihood per character"),
    Measurement("acc_bytes", "share", "maximize", "the same, by likelihood per byte"),
    Measurement("word_perplexity", "", "minimize", "exp of the nats per word of whole texts"),
    Measurement("byte_perplexity", "", "minimize", "exp of the nats per byte of whole texts"),
    Measurement("bits_per_byte", "bits", "minimize", "bits per byte of whole texts"),
    Measurement("mcc", "-1 to 1", "maximize", "Matthews correlation of answers"),
    Measurement("brier_score", "0 to 2", "minimize", "squared error of the probabilities"),
)
METRICS: Mapping[str, Metric] = {
    "chrf": Metric(
        "0 to 100",
        "maximize",
        "chrF2 of all answers against the references",
        lambda prompts, references, outputs: chrf(outputs, references),
        chrf_by_prompt,
    ),
    "bleu": Metric(
        "0 to 100",
        "maximize",
        "BLEU of all answers against the references, by words of mteval-v13a",
        lambda prompts, references, outputs: bleu(outputs, references),
        bleu_by_prompt,
    ),
    "distinct_1": Metric(
        "share",
        "maximize",
        "distinct words among all words",
        lambda prompts, references, outputs: distinct_n(outputs, 1),
    ),
    "distinct_2": Metric(
        "share",
        "maximize",
        "distinct pairs of words among all pairs",
        lambda prompts, references, outputs: distinct_n(outputs, 2),
    ),
    "repetition": Metric(
        "share",
        "minimize",
        "4-grams of words that occurred before in the answer",
        lambda prompts, references, outputs: repetition(outputs),
    ),
    "mean_length": Metric(
        "words",
        None,
        "mean length of the answers",
        lambda prompts, references, outputs: [float(len(one.split())) for one in outputs],
    ),
    **{name: _of_check(check) for name, check in CHECKS.items()},
}
MEASUREMENTS = {one.name: one for one in (*_HELD_OUT, *OF_BENCHMARKS)} | {
    name: Measurement(name, one.unit, one.direction, one.description)
    for name, one in METRICS.items()
}


@dataclass(frozen=True)
class Answered:
    """A metric's value, and (n,) scores of the answers whose mean it is, if it has any."""

    value: float
    each: Array | None = None


def score(metrics: Iterable[str], prompts: Prompts, outputs: Sequence[str]) -> dict[str, Answered]:
    """Each metric's value by its name in measurements. InputError if one gives no finite number."""
    arguments = prompts.prompts, prompts.references, outputs
    scores = {}
    for metric in metrics:
        given: Any = resolve(metric)(*arguments)
        several = isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and given.ndim)
        values = list(given) if several else [given]
        for value in values:
            if not is_score(value):
                raise InputError(
                    f"metric {metric!r}: returned {value!r}, a {type(value).__name__}; it must "
                    "return a finite number, or one for each answer"
                )
        if several and len(values) != len(outputs):
            raise InputError(
                f"metric {metric!r}: returned {len(values)} numbers for {len(outputs)} answers"
            )
        each = np.array(values, float) if several else None
        if metric in METRICS and (by_prompt := METRICS[metric].by_prompt):
            each = by_prompt(*arguments)
        value = share(math.fsum(values), len(values))
        scores[function_name(metric)] = Answered(value, each)
    return scores


def resolve(metric: str) -> Function:
    """The function behind a metric's name, or behind `module:function`; InputError if none."""
    if metric in METRICS:
        return METRICS[metric].function
    if ":" not in metric:
        raise InputError(
            f"metric {metric!r}: unknown; choose one of {listed(METRICS)}, or your own as "
            f"module:function{did_you_mean(metric, METRICS)}"
        )
    function = own_check(metric, "metric")
    try:
        signature(function).bind([], [], [])
    except TypeError as error:
        raise InputError(
            f"metric {metric!r}: cannot be called with prompts, references, outputs ({error})"
        ) from error
    except ValueError:  # a builtin without a signature, which is checked when it is called
        pass
    return function


def measurement(name: str) -> Measurement:
    """Meaning of a measurement, by its last name; a user's own metric has no direction."""
    last = name.rpartition("/")[2].partition(",")[0]  # behind a comma, the filter of a benchmark
    own = Measurement(last, "", None, "as its own function defines it")
    return MEASUREMENTS.get(last, own)


def measured_names(domains: Mapping[str, Kind], prompt_sets: Mapping[str, PromptSet]) -> list[str]:
    """Names of all measurements of an evaluation, as `target/loss`; resolves all the metrics."""
    names = [f"{domain}/{name}" for domain, kind in domains.items() for name in HELD_OUT[kind]]
    for prompt_set, settings in prompt_sets.items():
        for metric in settings.metrics:
            resolve(metric)
            names.append(f"{prompt_set}/{function_name(metric)}")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(
            f"measurement {twice[0]!r}: measured twice under one name; rename a function, domain "
            "or prompt set, or drop one"
        )
    return names
