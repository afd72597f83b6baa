"""Details and cost of an evaluation by the builtin trainer, for its record."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fitness.evaluation import EvaluationSpec, Task
from fitness.merging import lineage
from fitness.mixture.decks import Deck, RecordDeck
from fitness.mixture.mixing import Mixing
from fitness.training.early_stopping import EarlyStopping
from fitness.training.reinforce import Rewarded
from fitness.training.state import TrainingState
from fitness.training.supervised import TrainingReport

REWARD_POINTS = 20  # of a curve of rewards


def course(
    spec: EvaluationSpec, mixing: Mixing, begin: TrainingState, report: TrainingReport
) -> dict[str, Any]:
    """Details of a fine-tune: what it learned from, its learning curve, where it started."""
    drawn = mixing.drawn_after(begin.tokens + report.tokens)
    details: dict[str, Any] = {
        "shares": drawn.shares,
        "epochs": drawn.epochs,
        "cumulative_tokens": lineage.added(spec.seen, drawn.tokens),
        "learning_curve": report.learning_curve,
    }
    if chosen := samples_kept(mixing.decks):
        details["samples_kept"] = chosen
    if spec.continue_from:  # 0 if the saved state was gone, so that training began anew
        details["continued_from"] = begin.tokens / mixing.budget_tokens
    if spec.parents:
        details["inherited_from"] = list(spec.parents)
    return details


def rewards(rewarded: Mapping[int, Sequence[Rewarded]]) -> dict[str, Any]:
    """Details of reinforced answers, if there are any."""
    every = [one for _, of_step in sorted(rewarded.items()) for one in of_step]
    return {"rewarded": thinned(every)} if every else {}


def stops(task: Task, stop: EarlyStopping, steps: int, tokens: int) -> dict[str, Any]:
    """Details of early stopping in a fine-tune of so many steps and tokens."""
    curve = [[tokens * n // steps, task.stop_sign * loss] for n, loss in stop.checks]
    return {"best_step": stop.best_step, "steps": steps, "held_out_curve": curve}


def thinned(rewarded: Sequence[Rewarded], points: int = REWARD_POINTS) -> list[list[float]]:
    """Rewards, lengths and their correlations over the steps, as means over so many parts."""
    parts = np.array_split(np.array(rewarded, dtype=float), min(points, len(rewarded)))
    return [[float(f"{value:.6g}") for value in part.mean(axis=0)] for part in parts]


def samples_kept(decks: Mapping[str, Deck]) -> dict[str, int]:
    """Number of samples that pass the recipe's thresholds, by source of samples."""
    return {
        name: len(deck.rows)
        for name, deck in decks.items()
        if isinstance(deck, RecordDeck) and deck.records.kind == "sample"
    }


def untrained(prepare_seconds: float, evaluate_seconds: float) -> dict[str, float]:
    """Cost of an evaluation in which nothing is trained."""
    seconds = {"train_seconds": prepare_seconds, "evaluate_seconds": evaluate_seconds}
    return {"tokens": 0, "flops": 0.0, **seconds}
