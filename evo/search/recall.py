"""Recall: evaluations that were made elsewhere, so that equal recipes are not trained again."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fitness.evaluation import Evaluation, EvaluationSpec
from fitness.files import appearing
from fitness.models import weights
from population.space import DIGITS, canonical

Deciding = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An evaluation of another run, by the run's name, and where its checkpoint may be."""

    run: str
    evaluation: Evaluation
    checkpoint: Path | None = None


class Recall:
    """Looks up evaluations of fine-tunes from scratch that were made elsewhere, on the same data.

    `deciding` keeps those fields of a recipe that decide its result, and is None for a recipe that
    cannot be recalled. Checkpoints are copied to the folder `artifacts`.
    """

    def __init__(self, artifacts: Path, deciding: Deciding) -> None:
        self._artifacts = artifacts
        self._deciding = deciding
        self._known: dict[str, Elsewhere] = {}

    def add(self, recipe: Mapping[str, Any], one: Elsewhere) -> None:
        """Add the evaluation of a recipe; the first one of equal recipes counts."""
        if (key := self._key(recipe, one.evaluation.spec)) is not None:
            self._known.setdefault(key, one)

    def __call__(self, spec: EvaluationSpec) -> Evaluation | None:
        """Evaluation of an equal spec, at no cost; None if there is none.

        Its checkpoint is copied, if there is one. One that is not is trained again where needed.
        """
        if spec.parents or spec.writing is not None:
            return None
        key = self._key(spec.recipe, spec)
        if key is None or (one := self._known.get(key)) is None:
            return None
        if one.checkpoint and spec.keep_weights and spec.split == "selection":
            self._copy(one.checkpoint, spec.individual)
        now = time.time()
        details = {**one.evaluation.details, "recalled": one.run}
        return replace(
            one.evaluation, spec=spec, cost={}, details=details, started=now, finished=now
        )

    def _copy(self, checkpoint: Path, individual: int) -> None:
        if not checkpoint.is_dir():
            return
        there = weights.folder_of(self._artifacts, individual)
        with appearing(there) as partial:
            weights.copy_kept(checkpoint, partial)
            shutil.rmtree(there, ignore_errors=True)

    def _key(self, recipe: Mapping[str, Any], spec: EvaluationSpec) -> str | None:
        """Key that is equal for equal results; None for a recipe that cannot be recalled."""
        where = [spec.seed, spec.fidelity, spec.split]
        if spec.fidelity == 0:
            return json.dumps(where)
        decides = self._deciding(recipe)
        return None if decides is None else recipe_key(decides) + json.dumps(where)


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """Text that is equal for equal recipes: sorted, 12 digits, no absent sources."""
    plain = {name: _rounded(value) for name, value in recipe.items()}
    if isinstance(mixture := recipe.get("mixture"), Mapping):
        plain["mixture"] = canonical(mixture)
    return json.dumps(plain, sort_keys=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
