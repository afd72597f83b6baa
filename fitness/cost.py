"""Cost of an evaluation in floating-point operations, computed from recipe and model alone.

A dense transformer by the counts of Kaplan et al. 2020 (table 1) and Chowdhery et al. 2022
(appendix B). Nothing here depends on a clock or a device: the virtual clock of a search, and with
it the order in which results are learned, uses these numbers, so they must be the same everywhere.
Their ratios between recipes matter.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from fitness.data.kinds import ALONE, Kind
from fitness.data.sources import TokenFile
from fitness.evaluation import Task
from fitness.methods import LEARN, USES, use_of
from fitness.models import folders
from fitness.models.adapters import is_target
from fitness.models.heads import CAUSAL, Head
from fitness.recipe import Recipe

CHARACTERS_A_TOKEN = 4  # of a prompt; a count would need the tokenizer
Cost = Callable[[Mapping[str, object], float], float]  # of a recipe at a fidelity


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions that determine the cost of a dense transformer; unknown ones are 0."""

    weights: int  # that multiply every token, so without an embedding that is only looked up
    head: int  # the part of `weights` in the output layer
    layers: int
    width: int
    modules: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Weights of each linear module inside the layers."""

    @classmethod
    def of(cls, folder: Path, head: Head = CAUSAL) -> Self:
        """Read the dimensions from config.json and the headers of the weights, without loading.

        A classifier uses the vocabulary as input only, even if the folder has an output layer.
        """
        config = folders.architecture(folder)
        layers = config.get("num_hidden_layers") or config.get("n_layer") or config.get("n_layers")
        layers = layers or 0
        width = config.get("hidden_size") or config.get("n_embd") or config.get("dim") or 0
        table = [config.get("vocab_size", 0), config.get("embedding_size") or width]
        predicts = not head.on_top
        tables = folders.shapes(folder).count(table)
        looked_up = max(0, tables - predicts)  # a tied one is stored once, and does multiply
        weights = folders.parameters(folder) - looked_up * math.prod(table)
        outputs = math.prod(table) if predicts else 0
        return cls(weights, outputs, layers, width, _modules(folders.tensors(folder)))

    def forward(self, context: int) -> float:
        """FLOPs of one token through the model, in a sequence of `context` tokens."""
        return 2.0 * self.weights + 4.0 * self.layers * self.width * context

    def targeted(self, targets: str) -> float:
        """Share of the layers' linear weights that an adapter covers."""
        beside = sum(n for name, n in self.modules.items() if is_target(name, targets))
        return beside / sum(self.modules.values()) if beside else 1.0


def training_flops(
    shape: Shape, recipe: Recipe, tokens: int, kinds: Mapping[str, Kind] | None = None
) -> float:
    """FLOPs of training on `tokens`: forward, and twice that backward where all is trained.

    `kinds` of the sources add the forward passes of the reference model and of generation.

    An adapter saves the gradients of the base's weights, and the backward pass below its lowest
    layer; its own two matrices for each of the base's are counted as if those were square. DoRA
    adds them to the base's weights once a step, for the norm of each row, and with dropout
    multiplies by the base's weights twice.
    """
    forward = shape.forward(recipe.sequence_length)
    uses = {name: use_of(kind, recipe.method) for name, kind in (kinds or {}).items()}
    besides = sum(s * USES[uses.get(name, LEARN)].passes for name, s in recipe.mixture.items())
    if recipe.adapter == "none":
        return (3.0 + besides) * forward * tokens
    adapted = min(1.0, recipe.lora_layers / shape.layers) if recipe.lora_layers else 1.0
    head = min(forward, 2.0 * shape.head)
    backward = head + (forward - head) * adapted
    beside = (forward - head) * adapted * shape.targeted(recipe.lora_targets)
    own = 2.0 * recipe.lora_rank / shape.width * beside if shape.width else 0.0
    dora = 0.0
    if recipe.adapter == "dora":
        lengths = recipe.lora_rank / (recipe.batch_size * recipe.sequence_length)
        dora = (lengths + (2.0 if recipe.adapter_dropout else 0.0)) * beside
    return ((1.0 + besides) * forward + backward + 3.0 * own + dora) * tokens


def _modules(tensors: Mapping[str, list[int]]) -> dict[str, int]:
    """Weights by module: matrices of numbered parts of a model, which its layers are."""
    return {
        name.removesuffix(".weight"): math.prod(shape)
        for name, shape in tensors.items()
        if len(shape) == 2 and re.search(r"\.\d+\..*\.weight$", name)
    }


def scoring_flops(shape: Shape, task: Task) -> float:
    """FLOPs of scoring the selection split: held-out text, prompts with answers, benchmarks."""
    held_out = sum(_read(splits["selection"], task) for splits in task.domains.values())
    total = shape.forward(task.held_out_length) * held_out
    for name, prompt_set in task.prompt_sets.items():
        for prompt in task.prompts[name]["selection"].prompts:
            tokens = math.ceil(len(prompt) / CHARACTERS_A_TOKEN) + prompt_set.max_new_tokens
            total += shape.forward(tokens) * tokens
    return total + sum(_benchmark_flops(shape, task, name) for name in task.benchmarks)


def _benchmark_flops(shape: Shape, task: Task, name: str) -> float:
    """FLOPs of the requests of a benchmark's tasks, as if those of a task were equally long."""
    held_out = task.benchmark_tasks[name].values()
    return sum(shape.forward(math.ceil(one.tokens / one.requests)) * one.tokens for one in held_out)


def scoring_parts(task: Task) -> dict[str, tuple[float, int]]:
    """FLOPs of scoring each domain, prompt set and benchmark, and its items, by key."""
    if task.model is None:
        return {}
    shape, parts = Shape.of(task.model, task.head), {}
    for name, splits in task.domains.items():
        file = splits["selection"]
        flops = shape.forward(task.held_out_length) * _read(file, task)
        parts[f"domains.{name}"] = (flops, file.documents)
    for name, prompt_set in task.prompt_sets.items():
        flops = scoring_flops(
            shape, replace(task, domains={}, prompt_sets={name: prompt_set}, benchmarks={})
        )
        parts[f"prompts.{name}"] = (flops, len(task.prompts[name]["selection"].prompts))
    for name in task.benchmarks:
        documents = sum(len(t.documents["selection"]) for t in task.benchmark_tasks[name].values())
        parts[f"benchmarks.{name}"] = (_benchmark_flops(shape, task, name), documents)
    return parts


def _read(file: TokenFile, task: Task) -> int:
    """Tokens of held-out data that the model reads; those of a row of their own are truncated."""
    if file.kind not in ALONE:
        return file.tokens
    return min(file.tokens, file.rows * task.held_out_length)


def cost_of(task: Task) -> Cost:
    """Cost function of a recipe and a fidelity: FLOPs, or the fidelity under a user's evaluator."""
    if task.model is None or not task.form.reads_recipe:
        return lambda recipe, fidelity: fidelity
    shape = Shape.of(task.model, task.head)
    scoring = scoring_flops(shape, task)

    def cost(recipe: Mapping[str, Any], fidelity: float) -> float:
        tokens = round(task.budget_tokens * fidelity)
        return scoring + training_flops(
            shape, Recipe.model_validate(dict(recipe)), tokens, task.kinds
        )

    return cost
