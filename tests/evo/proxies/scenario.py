"""A small search with a proxy: models of two sizes, and a stand-in for the workers."""

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from tests.fitness.quickstart import DATA, MODEL

LAYERS = 7  # of the grown model: twice the weights of the quickstart's, which has 3
SPEC = f"""\
name: proxied
model: {{base: BASE, proxies: [{{base: quickstart, evaluations: 7, tokens: 384}}]}}
{DATA}recipe: {{learning_rate: 1e-3, sequence_length: 48, batch_size: 4}}
genome:
  mixture: {{type: simplex}}
  learning_rate: {{type: float, low: 3e-4, high: 6e-3, log: true}}
  adapter: {{type: choice, options: [none, lora]}}
  lora_rank: {{type: int, low: 2, high: 8, when: {{adapter: lora}}}}
objectives: {{target/loss: minimize}}
baselines: [uniform]
search: {{population: 4, replicates: 1, parallel: 2, simulate: off}}
budget: {{evaluations: 6, tokens: 576}}
resources: {{workers: 2}}
comparison: {{seeds: 1}}
"""


def grown(to: Path, layers: int = LAYERS) -> Path:
    """The quickstart's model with more layers, which leave its output as it is."""
    small = AutoModelForCausalLM.from_pretrained(MODEL)
    config = AutoConfig.from_pretrained(MODEL)
    config.num_hidden_layers = layers
    large = AutoModelForCausalLM.from_config(config)
    large.load_state_dict(small.state_dict(), strict=False)
    with torch.no_grad():
        for layer in large.model.layers[small.config.num_hidden_layers :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    large.save_pretrained(to)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, to / name)
    return to


def spec(folder: Path, base: Path, *changes: tuple[str, str]) -> Path:
    """The spec, in a file of its own, with texts of it changed."""
    text = SPEC.replace("BASE", str(base))
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "search.yaml"
    path.write_text(text)
    return path


class Workers:
    """Stands in for the cluster: losses by a formula that both models share, but for a level.

    `ends` is the evaluation, of all that were ever submitted, before which the driver is ended:
    by an exception as if it was killed, or asked to stop by a signal.
    """

    ends: int | None = None
    stops = False
    started: Sequence[Task] = ()
    evaluated = 0

    def __init__(self, resources: Any, task: Task, **_: Any) -> None:
        self.size, self.busy, self.busy_seconds = 2, 0, 0.0
        self.on_look = self.doing = lambda: ()
        self._task = task
        self._queue: list[EvaluationSpec] = []
        Workers.started = [*Workers.started, task]

    @classmethod
    def reset(cls, ends: int | None = None, *, stops: bool = False) -> None:
        cls.ends, cls.stops, cls.started, cls.evaluated = ends, stops, (), 0

    def submit(self, *specs: EvaluationSpec) -> None:
        self._queue += specs

    def cancel_queued(self) -> int:
        self._queue.clear()
        return 0

    def poll(self, seconds: float) -> list[Evaluation]:
        if Workers.evaluated == Workers.ends:
            Workers.ends = None
            if not Workers.stops:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        Workers.evaluated += 1
        done = self._queue.pop(0)
        if done.simulation is not None:
            mixed = [{**done.recipe, "mixture": one} for one in done.simulation.mixtures]
            scores = [{"target/loss": self._loss(one, done.seed)} for one in mixed]
            details = {"scores": scores}
            return [Evaluation(done, Status.OK, details=details, started=1.0, finished=2.0)]
        measured = {"target/loss": self._loss(done.recipe, done.seed)}
        return [Evaluation(done, Status.OK, measured, started=1.0, finished=2.0)]

    def _loss(self, recipe: Any, seed: int) -> float:
        small = self._task.model == MODEL
        if not recipe:
            return 5.0 if small else 4.8
        share, rate = recipe["mixture"]["jargon"], recipe["learning_rate"]
        best = 2e-3 if small else 6e-4  # which does not transfer
        return 4.0 + 4 * (share - 0.8) ** 2 + (rate / best - 1) ** 2 / 20 + seed / 1e6 - 0.2 * small

    def fastest_bucket(self, recipe: Any) -> int:
        return 2

    def close(self) -> None:
        self._queue.clear()
