"""The records between driver and worker: the task, what is asked, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from fitness.generation import Prompts, PromptSet
from fitness.sources import TokenFile

Split = Literal["selection", "test"]
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
class EvaluationSpec:
    """What is asked of a worker. Equal by individual, seed, fidelity and split.

    A fidelity below 1 is the first part of the full fine-tune, which can go on later: from the
    state that was kept at the fidelity `continue_from`. How it is trained, at once or in parts,
    changes nothing but the cost.
    """

    individual: int
    recipe: Mapping[str, Any] = field(compare=False)
    seed: int
    fidelity: float = 1.0
    split: Split = "selection"
    continue_from: float = field(default=0.0, compare=False)  # 0: from the start
    keep_state: bool = field(default=False, compare=False)  # so that a later one can continue
    keep_weights: bool = field(default=True, compare=False)  # of the selection split


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

    evaluator: str
    model: Path | None = None
    dtype: str = "float32"
    sources: Mapping[str, TokenFile] = field(default_factory=dict)
    domains: Mapping[str, Mapping[Split, TokenFile]] = field(default_factory=dict)
    prompt_sets: Mapping[str, PromptSet] = field(default_factory=dict)
    prompts: Mapping[str, Mapping[Split, Prompts]] = field(default_factory=dict)
    budget_tokens: int = 0
    held_out_length: int = 0
    artifacts: Path | None = None
    threads: int = 1
    micro_batch: int | None = None  # rows computed at once; None is a whole batch
    checkpointing: bool = False
    patience: int | None = None  # checks without improvement before a fine-tune stops
    stop_on: str = ""  # the domain whose selection split is checked


def failed(spec: EvaluationSpec, status: Status, why: Exception | str) -> Evaluation:
    """An evaluation that measured nothing, and why, in characters that any file can hold."""
    message = str(why)[-MESSAGE_CHARACTERS:].encode(errors="replace").decode()
    return Evaluation(spec, status, message=message)
