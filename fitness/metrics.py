"""Measurements: their units and directions, metrics of generated text, and users' own metrics.

Words are separated by white space.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from numbers import Real
from typing import Any, Literal

import numpy as np

from fitness.data.kinds import Kind
from fitness.data.prompts import Prompts, PromptSet
from fitness.errors import InputError
from fitness.plugins import load_function
from fitness.suggest import did_you_mean, listed
from fitness.text import grams, plain, repeated, share

Direction = Literal["minimize", "maximize"]
SIGN: Mapping[Direction, int] = {"minimize": 1, "maximize": -1}  # sign * measurement is a loss
Metric = Callable[[Sequence[str], Sequence[str], Sequence[str]], float]


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


MACRO = "mean over the classes that occur; a class that is never predicted counts 0"
_TABLE = (
    Measurement(
        "loss",
        "nats",
        "minimize",
        "mean cross-entropy of held-out text, per token, or of the classes of texts, per text",
    ),
    Measurement("perplexity", "", "minimize", "exp of the loss"),
    Measurement(
        "accuracy",
        "share",
        "maximize",
        "texts whose class is predicted, or preferences whose chosen answer is more likely",
    ),
    Measurement(
        "precision", "share", "maximize", f"texts of a class among those predicted as it, {MACRO}"
    ),
    Measurement(
        "recall", "share", "maximize", f"texts of a class that are predicted as it, {MACRO}"
    ),
    Measurement("f1", "share", "maximize", f"harmonic mean of precision and recall, {MACRO}"),
    Measurement("chrf", "0 to 100", "maximize", "chrF2 of all answers against the references"),
    Measurement("exact_match", "share", "maximize", "answers equal to their reference"),
    Measurement("distinct_1", "share", "maximize", "distinct words among all words"),
    Measurement("distinct_2", "share", "maximize", "distinct pairs of words among all pairs"),
    Measurement(
        "repetition", "share", "minimize", "4-grams of words that occurred before in the answer"
    ),
    Measurement("mean_length", "words", None, "mean length of the answers"),
)
MEASUREMENTS = {measurement.name: measurement for measurement in _TABLE}
HELD_OUT: Mapping[Kind, tuple[str, ...]] = {
    "text": ("loss", "perplexity"),
    "completion": ("loss", "perplexity"),
    "preference": ("loss", "perplexity", "accuracy"),
    "label": ("loss", "accuracy", "precision", "recall", "f1"),
}


def chrf(outputs: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 over the corpus, 0 to 100: Popovic, "chrF", 2015; sacrebleu's defaults."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(outputs), [list(references)]).score)


def exact_match(outputs: Sequence[str], references: Sequence[str]) -> float:
    """Share of outputs equal to their reference but for case and the amount of white space."""
    pairs = zip(outputs, references, strict=True)
    return share(sum(plain(output) == plain(wanted) for output, wanted in pairs), len(outputs))


def class_scores(wanted: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Loss in nats, accuracy, precision, recall and F1 of logits, (n, classes); `wanted` is (n,).

    Precision, recall and F1 are means over the classes that occur, each with the same weight; a
    class that is never predicted has a precision of 0.
    """
    from scipy.special import log_softmax
    from sklearn.metrics import precision_recall_fscore_support  # importing it takes a second

    loss = -log_softmax(logits, axis=1)[np.arange(len(wanted)), wanted].mean()
    predicted = logits.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        wanted, predicted, labels=np.unique(wanted), average="macro", zero_division=0
    )
    scores = {"loss": loss, "accuracy": (predicted == wanted).mean()}
    scores |= {"precision": precision, "recall": recall, "f1": f1}
    return {name: float(value) for name, value in scores.items()}


def distinct_n(outputs: Sequence[str], n: int) -> float:
    """Distinct n-grams of words over all of them, all outputs pooled; 0.0 if there are none.

    Li et al., "A diversity-promoting objective function", 2016.
    """
    found = [gram for output in outputs for gram in grams(output.split(), n)]
    return share(len(set(found)), len(found))


def repetition(outputs: Sequence[str]) -> float:
    """Share of the 4-grams of words that occurred before in the same output, mean over outputs.

    An output of fewer than four words counts as 0. Welleck et al., "Neural text generation with
    unlikelihood training", 2019 (seq-rep-4).
    """
    shares = [repeated(output.split()) for output in outputs]
    return share(math.fsum(shares), len(shares))


def mean_length(outputs: Sequence[str]) -> float:
    """Words in an output, on average."""
    return share(sum(len(output.split()) for output in outputs), len(outputs))


METRICS: dict[str, Metric] = {
    "chrf": lambda prompts, references, outputs: chrf(outputs, references),
    "exact_match": lambda prompts, references, outputs: exact_match(outputs, references),
    "distinct_1": lambda prompts, references, outputs: distinct_n(outputs, 1),
    "distinct_2": lambda prompts, references, outputs: distinct_n(outputs, 2),
    "repetition": lambda prompts, references, outputs: repetition(outputs),
    "mean_length": lambda prompts, references, outputs: mean_length(outputs),
}


def score(metrics: Iterable[str], prompts: Prompts, outputs: Sequence[str]) -> dict[str, float]:
    """Each metric's value by its name in measurements. InputError if one gives no finite number."""
    scores = {}
    for metric in metrics:
        value: Any = resolve(metric)(prompts.prompts, prompts.references, outputs)
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise InputError(
                f"metric {metric!r}: returned {value!r}, a {type(value).__name__}; it must return "
                "a finite number"
            )
        scores[name_in_measurements(metric)] = float(value)
    return scores


def resolve(metric: str) -> Metric:
    """The function behind a metric's name, or behind `module:function`; InputError if none."""
    if metric in METRICS:
        return METRICS[metric]
    if ":" not in metric:
        raise InputError(
            f"metric {metric!r}: unknown; choose one of {listed(METRICS)}, or your own as "
            f"module:function{did_you_mean(metric, METRICS)}"
        )
    function = load_function(metric, "metric")
    try:
        signature(function).bind([], [], [])
    except TypeError as error:
        raise InputError(
            f"metric {metric!r}: cannot be called with prompts, references, outputs ({error})"
        ) from error
    except ValueError:  # a builtin without a signature, which is checked when it is called
        pass
    return function


def name_in_measurements(metric: str) -> str:
    """Last part of a metric's name: `chrf` for `chrf`, `rhyme` for `poems.metrics:rhyme`."""
    return metric.rpartition(":")[2]


def measurement(name: str) -> Measurement:
    """Meaning of a measurement, by its last name; a user's own metric has no direction."""
    last = name.rpartition("/")[2]
    own = Measurement(last, "", None, "as its own function defines it")
    return MEASUREMENTS.get(last, own)


def measured_names(domains: Mapping[str, Kind], prompt_sets: Mapping[str, PromptSet]) -> list[str]:
    """Names of all measurements of an evaluation, as `target/loss`; resolves all the metrics."""
    names = [f"{domain}/{name}" for domain, kind in domains.items() for name in HELD_OUT[kind]]
    for prompt_set, settings in prompt_sets.items():
        for metric in settings.metrics:
            resolve(metric)
            names.append(f"{prompt_set}/{name_in_measurements(metric)}")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(
            f"measurement {twice[0]!r}: measured twice under one name; rename a function, domain "
            "or prompt set, or drop one"
        )
    return names
