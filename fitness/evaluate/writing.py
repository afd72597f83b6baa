"""Generation of samples by a trained individual on a worker, in place of scoring."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness.evaluation import Evaluation, EvaluationSpec, Task
from fitness.filters import needs
from fitness.merging import lineage
from fitness.models import weights
from fitness.recipe import Recipe
from fitness.samples.scoring import Given, scored
from fitness.samples.write import write
from fitness.training.supervised import precise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fitness.models.base import Base


def written(
    base: "Base",
    spec: EvaluationSpec,
    task: Task,
    again: Callable[[EvaluationSpec, Task], Evaluation],
) -> tuple[dict[str, float], dict[str, Any]]:
    """Generate samples: the cost, and details with the samples; the same for the same spec.

    The spec's only parent is the individual itself: a deleted checkpoint is trained `again`. The
    untouched base has none.
    """
    request = spec.writing
    assert request is not None
    recipe = Recipe.model_validate(dict(spec.recipe))
    started = time.perf_counter()
    with (
        lineage.parents(spec, task, again) as folders,
        base.prepared(recipe, seed=spec.seed) as model,
    ):
        for folder in folders:
            restore(model, folder, task)
        beginning = time.perf_counter()
        model.eval()
        with precise(base.device, recipe), base.on_device():
            samples = write(
                base,
                request.settings,
                prompts=request.prompts,
                documents=request.real,
                individual=spec.individual,
                seed=spec.seed,
                round=request.round,
            )
    with base.on_device():
        samples = scored(samples, request.filters, Given(seed=spec.seed, base=base))
    cost = {
        "tokens": 0,
        "flops": 0.0,
        "train_seconds": beginning - started,
        "evaluate_seconds": time.perf_counter() - beginning,
    }
    return cost, {"samples": [asdict(sample) for sample in samples]}


def restore(model: "PreTrainedModel", folder: Path, task: Task) -> None:
    """Load an individual's checkpoint into a model that was prepared for its recipe."""
    if not (folder / weights.ADAPTER).is_file():
        lineage.begin(model, lineage.read(folder, task.head))
        return
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


def of_the_worker(filters: Iterable[str]) -> tuple[str, ...]:
    """Filters that a worker runs: those that need no model but the base."""
    return tuple(name for name in filters if needs(name) == "base")
