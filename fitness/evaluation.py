"""The records between driver and worker: the task, what is asked, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from fitness.data.kinds import Kind
from fitness.data.prompts import Prompts, PromptSet
from fitness.data.sources import TokenFile
from fitness.evaluators import EvaluatorChoice
from fitness.models.heads import CAUSAL, Head
from fitness.samples.write import Generation
from fitness.secrets import without_secrets

Split = Literal["selection", "test"]
Purpose = Literal["selection", "test", "samples"]
MESSAGE_CHARACTERS = 2000


class Status(StrEnum):
    """How an evaluation ended; all but `ok` count as failed."""

    OK = "ok"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    INFEASIBLE = "infeasible"
    ERROR = "error"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A fine-tune that others began with, as it was evaluated first: all it takes to repeat it."""

    individual: int
    recipe: Mapping[str, Any]
    seed: int
    parents: tuple[int, ...] = ()  # whose weights it began with; none: the base's
    seen: Mapping[str, int] = field(default_factory=dict)  # tokens by source, of all before it


@dataclass(frozen=True, slots=True)
class Writing:
    """What an individual is asked to write: how, beginning with what, scored by which filters.

    Of the filters, those that need the base alone; the driver has the others. `real` are texts
    that samples may begin with or go on from.
    """

    settings: Generation
    round: int = 1
    prompts: tuple[str, ...] = ()
    real: tuple[str, ...] = field(default=(), repr=False)
    filters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """What is asked of a worker. Equal by individual, seed, fidelity and split.

    A fidelity below 1 is the first part of the full fine-tune, which can go on later: from the
    state that was kept at the fidelity `continue_from`. How it is trained, at once or in parts,
    changes nothing but the cost. A fidelity above 1 is a fine-tune of so many times the budget.

    With `parents` it begins with their weights, and with the data after what they have `seen`.
    `ancestors` are all of its lineage, oldest first: whose weights are gone is trained again.

    In place of a split to be scored on, `samples` has it write what `writing` asks for.
    """

    individual: int
    recipe: Mapping[str, Any] = field(compare=False)
    seed: int
    fidelity: float = 1.0
    split: Purpose = "selection"
    continue_from: float = field(default=0.0, compare=False)  # 0: from the start
    keep_state: bool = field(default=False, compare=False)  # so that a later one can continue
    keep_weights: bool = field(default=True, compare=False)  # of the selection split
    parents: tuple[int, ...] = field(default=(), compare=False)
    seen: Mapping[str, int] = field(default_factory=dict, compare=False)  # tokens by source
    ancestors: tuple[Ancestor, ...] = field(default=(), compare=False, repr=False)
    writing: Writing | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The completed spec. Measurements by name in their natural units; times in Unix seconds."""

    spec: EvaluationSpec
    status: Status
    measurements: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    worker: str = ""
    started: float = 0.0
    finished: float = 0.0

    def fact(self) -> dict[str, Any]:
        """The values of the ledger's `evaluation` fact."""
        return {
            "individual": self.spec.individual,
            "seed": self.spec.seed,
            "fidelity": self.spec.fidelity,
            "split": self.spec.split,
            "status": str(self.status),
            "measurements": dict(self.measurements),
            "cost": dict(self.cost),
            "details": dict(self.details),
            "message": self.message,
            "worker": self.worker,
            "started": self.started,
            "finished": self.finished,
        }


@dataclass(frozen=True, slots=True)
class Task:
    """What all evaluations of a search share; sent to each worker once."""

    evaluator: EvaluatorChoice
    model: Path | None = None
    dtype: str = "float32"
    head: Head = CAUSAL
    sources: Mapping[str, TokenFile] = field(default_factory=dict)
    domains: Mapping[str, Mapping[Split, TokenFile]] = field(default_factory=dict)
    prompt_sets: Mapping[str, PromptSet] = field(default_factory=dict)
    prompts: Mapping[str, Mapping[Split, Prompts]] = field(default_factory=dict)
    parts: Mapping[str, Path] = field(default_factory=dict)  # folders; merged, nothing is trained
    budget_tokens: int = 0
    inherit_share: float = 1.0  # of the budget, for whoever begins with the weights of parents
    held_out_length: int = 0
    artifacts: Path | None = None
    threads: int = 1
    timeout: float = math.inf  # seconds; the cluster ends what lasts longer
    micro_batch: int | None = None  # rows computed at once; None is a whole batch
    processes: int = 1  # that train one individual together
    checkpointing: bool = False
    patience: int | None = None  # checks without improvement before a fine-tune stops
    stop_on: str = ""  # the domain whose selection split is checked

    @property
    def kinds(self) -> dict[str, Kind]:
        """Of the sources, by name."""
        return {name: file.kind for name, file in self.sources.items()}


def failed(spec: EvaluationSpec, status: Status, why: Exception | str) -> Evaluation:
    """An evaluation that measured nothing, and why: without secrets, in characters that any file
    can hold."""
    message = without_secrets(str(why))[-MESSAGE_CHARACTERS:].encode(errors="replace").decode()
    return Evaluation(spec, status, message=message)
