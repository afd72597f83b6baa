"""A synthetic evaluator: its weights are a number that follows from all that decides real ones.

Recipe, seed, data and the weights of the parents go into the number, and the number into the
measurements: a wrong warm start, a checkpoint of another individual or a state of another fine-tune
changes what is measured. Checkpoints and training states are written as the builtin trainer does.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from fitness.evaluate.builtin import budget_of
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from fitness.files import appearing, remove_partial
from fitness.merging import lineage
from fitness.models import weights
from fitness.recipe import Recipe
from fitness.training import state

BEST = {"a": 0.5, "b": 0.3, "c": 0.2}
NOISE = 0.05
BASE = {"held/loss": 4.0, "held/perplexity": 50.0, "other/loss": 4.0, "other/perplexity": 50.0}


class Hangs(BaseException):
    """The evaluation never ends."""


class KillsItsWorker(BaseException):
    """The evaluation kills the process it runs in, each time."""


class OutOfMemory(BaseException):
    """The machine has no memory left, so that Ray kills the process."""


# Fates of a fine-tune by its recipe and seed, with their probabilities in a harsh search.
FATES: Mapping[str, float] = {
    "diverges": 0.05,
    "raises": 0.04,
    "breaks the gpu": 0.03,
    "hangs": 0.03,
    "kills": 0.03,
    "out of memory": 0.03,
}


def number(*parts: object) -> float:
    """A number from 0 to 1 that any difference in the parts changes."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48


def fate(recipe: Mapping[str, Any], seed: int, *, harsh: bool) -> str:
    """Fate of a fine-tune; empty for one that succeeds."""
    drawn = number("fate", recipe, seed)
    for name, probability in FATES.items() if harsh else ():
        if drawn < probability:
            return name
        drawn -= probability
    return ""


class Synthetic:
    """An evaluator of a worker; `seen` is told the specs that it begins to evaluate.

    Lost ancestors are trained again in the context `room`.
    """

    def __init__(
        self,
        harsh: bool,
        seen: Callable[[Sequence[EvaluationSpec]], None],
        room: Callable[[], AbstractContextManager[None]],
        task: Task,
    ) -> None:
        self._harsh = harsh
        self._seen = seen
        self._room = room
        self._task = task
        self._leads = True

    def join(self, ranks: Any) -> None:
        self._leads = ranks.leads

    def bfloat16_cost(self) -> float:
        return 0.5

    def fastest_bucket(self, recipe: Mapping[str, Any]) -> int:
        return 2

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        return self.evaluate_bucket((spec,))[0]

    def evaluate_bucket(self, specs: Sequence[EvaluationSpec]) -> list[Evaluation]:
        """Evaluate specs together, which changes their measurements a little."""
        if not self._leads:
            return [Evaluation(spec, Status.OK) for spec in specs]
        self._seen(specs)
        together = [spec.individual for spec in specs] if len(specs) > 1 else []
        return [self._evaluated(spec, together) for spec in specs]

    def _evaluated(self, spec: EvaluationSpec, together: Sequence[int]) -> Evaluation:
        if spec.fidelity == 0:
            return Evaluation(spec, Status.OK, BASE)
        if spec.simulation is not None:
            return self._simulated(spec)
        match fate(spec.recipe, spec.seed, harsh=self._harsh):
            case "diverges":
                return failed(spec, Status.DIVERGED, "the loss is not finite")
            case "raises":
                return failed(spec, Status.ERROR, "the recipe is at fault")
            case "breaks the gpu":
                return failed(spec, Status.ERROR, "CUDA error: an illegal memory access")
            case "hangs":
                raise Hangs
            case "kills":
                raise KillsItsWorker
            case "out of memory":
                raise OutOfMemory
        return self._trained(spec, self._task, together)

    def _simulated(self, spec: EvaluationSpec) -> Evaluation:
        with self._room(), lineage.parents(spec, self._task, self._trained) as folders:
            experts = [_weight(folder) for folder in folders]
        assert spec.simulation is not None
        scores = [_measured(shares, number(experts)) for shares in spec.simulation.mixtures]
        return Evaluation(spec, Status.OK, details={"scores": scores})

    def _trained(
        self, spec: EvaluationSpec, task: Task, together: Sequence[int] = ()
    ) -> Evaluation:
        with self._room(), lineage.parents(spec, task, self._trained) as folders:
            parents = [_weight(folder) for folder in folders]
        given = (spec.recipe, spec.seed, parents, dict(spec.seen), max(1.0, spec.fidelity))
        if spec.continue_from:
            self._check_state(spec, task, given)
        weight = number(given, spec.fidelity)
        if spec.keep_state and task.artifacts:
            _keep_state(state.file_of(task.artifacts, spec.individual, spec.seed), spec, weight)
        kept = spec.keep_weights and spec.split == "selection"
        if kept and task.artifacts and (spec.fidelity == 1 or not spec.keep_state):
            _keep(weights.folder_of(task.artifacts, spec.individual), weight)
        whole = budget_of(task, spec, Recipe.model_validate(dict(spec.recipe)))
        drawn = {
            name: round(share * min(1.0, spec.fidelity) * whole)
            for name, share in spec.recipe["mixture"].items()
        }
        details: dict[str, Any] = {"cumulative_tokens": lineage.added(spec.seen, drawn)}
        if spec.parents:
            details["inherited_from"] = list(spec.parents)
        found = _measured(spec.recipe["mixture"], number(weight, spec.split, together))
        found = {name: value + 1 - min(1.0, spec.fidelity) for name, value in found.items()}
        return Evaluation(spec, Status.OK, found, {"tokens": 1}, details)

    def _check_state(self, spec: EvaluationSpec, task: Task, given: object) -> None:
        """Check that a saved training state is of the fine-tune that is resumed."""
        assert task.artifacts is not None
        file = state.file_of(task.artifacts, spec.individual, spec.seed)
        if file.exists():
            kept = json.loads(file.read_text())
            assert kept["weight"] == number(given, kept["fidelity"]), f"wrong state: {file.name}"


def _measured(shares: Mapping[str, float], noise: float) -> dict[str, float]:
    away = sum((shares.get(name, 0.0) - best) ** 2 for name, best in BEST.items())
    loss, other = 3 + away + NOISE * noise, 3 + shares.get("a", 0.0) + NOISE * noise
    return {
        "held/loss": loss,
        "held/perplexity": 10 * loss,
        "other/loss": other,
        "other/perplexity": 10 * other,
    }


def _weight(folder: Path) -> float:
    return float(json.loads((folder / "config.json").read_text())["weight"])


def _keep(folder: Path, weight: float) -> None:
    """Save a checkpoint as `weights.keep` does."""
    remove_partial(folder)
    with suppress(OSError), appearing(folder) as partial:
        partial.mkdir(parents=True)
        (partial / "config.json").write_text(json.dumps({"weight": weight}))
        shutil.rmtree(folder, ignore_errors=True)


def _keep_state(file: Path, spec: EvaluationSpec, weight: float) -> None:
    """Save a training state as `state.keep` does."""
    remove_partial(file)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with appearing(file) as partial:
            partial.write_text(json.dumps({"weight": weight, "fidelity": spec.fidelity}))
