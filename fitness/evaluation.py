"""Records between driver and worker: the task, the specification of an evaluation, its result."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from fitness.benchmarks.settings import Benchmark, HeldOutTask
from fitness.data.kinds import Kind
from fitness.data.prompts import NO_PROMPTS, Prompts, PromptSet
from fitness.data.sources import TokenFile
from fitness.evaluators import EvaluatorChoice, Form, form_of
from fitness.models.heads import CAUSAL, Head
from fitness.models.loading import Attention
from fitness.models.quantisation import Quantisation
from fitness.samples.write import Generation
from fitness.secrets import without_secrets

Split = Literal["selection", "test"]
Purpose = Literal["selection", "test", "samples", "simulated"]
MESSAGE_CHARACTERS = 2000


class Status(StrEnum):
    """Status of an evaluation; all but `ok` count as failed."""

    OK = "ok"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    INFEASIBLE = "infeasible"
    ERROR = "error"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A fine-tune from whose weights others start: all that is needed to train it again."""

    individual: int
    recipe: Mapping[str, Any]
    seed: int
    parents: tuple[int, ...] = ()  # from whose weights it started; none: from the base's
    seen: Mapping[str, int] = field(default_factory=dict)  # tokens by source, of all before it
    fidelity: float = 1.0


@dataclass(frozen=True, slots=True)
class Writing:
    """Request for samples: generation settings, prompts and real texts, and filters to score with.

    `filters` are those that need only the base model; the driver runs the others. `real` are texts
    that samples may continue or fill a gap in.
    """

    settings: Generation
    round: int = 1
    prompts: Prompts = field(default=NO_PROMPTS, repr=False)
    real: tuple[str, ...] = field(default=(), repr=False)
    filters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """Request to score mixtures on the selection split without training on them.

    The weights of each are a sum of experts: fine-tunes of one source each, which are the parents
    of the spec, in the order of `sources`.
    """

    sources: tuple[str, ...]
    mixtures: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """Request of one evaluation. Equal by individual, seed, fidelity and split.

    A fidelity below 1 is the first part of the full fine-tune, which can be continued later from
    the state that was saved at the fidelity `continue_from`. Training at once or in parts gives the
    same result at another cost. A fidelity above 1 is a fine-tune of so many times the budget.

    With `parents` it starts from their weights, and with the data after what they have `seen`.
    `ancestors` are its whole lineage, oldest first: deleted checkpoints are trained again.

    In place of a split to score, `samples` generates what `writing` requests, and `simulated`
    scores the mixtures of `simulation`. `scored` are the domains, prompt sets and
    benchmarks to score.
    """

    individual: int
    recipe: Mapping[str, Any] = field(compare=False)
    seed: int
    fidelity: float = 1.0
    split: Purpose = "selection"
    continue_from: float = field(default=0.0, compare=False)  # 0: from the start
    keep_state: bool = field(default=False, compare=False)  # so that training can be continued
    keep_weights: bool = field(default=True, compare=False)  # of the selection split, at its end
    parents: tuple[int, ...] = field(default=(), compare=False)
    seen: Mapping[str, int] = field(default_factory=dict, compare=False)  # tokens by source
    ancestors: tuple[Ancestor, ...] = field(default=(), compare=False, repr=False)
    writing: Writing | None = field(default=None, compare=False)
    simulation: Simulation | None = field(default=None, compare=False, repr=False)
    scored: frozenset[str] | None = field(default=None, compare=False)  # None: all

    @property
    def scores_split(self) -> bool:
        """True where the model of one individual is scored on a split."""
        return self.split in ("selection", "test")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of a spec. Measurements by name in their natural units; times in Unix seconds."""

    spec: EvaluationSpec
    status: Status
    measurements: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    worker: str = ""
    started: float = 0.0
    finished: float = 0.0

    def simulation_fact(self, simulation: Simulation) -> dict[str, Any]:
        """The values of the ledger's `simulation` fact."""
        return {
            "number": self.spec.individual,
            "seed": self.spec.seed,
            "experts": list(self.spec.parents),
            "sources": list(simulation.sources),
            "mixtures": [dict(one) for one in simulation.mixtures],
            "scores": list(self.details.get("scores", ())),
            **self._how(),
        }

    def fact(self) -> dict[str, Any]:
        """The values of the ledger's `evaluation` fact."""
        return {
            "individual": self.spec.individual,
            "seed": self.spec.seed,
            "fidelity": self.spec.fidelity,
            "split": self.spec.split,
            "measurements": dict(self.measurements),
            "details": dict(self.details),
            **self._how(),
        }

    def _how(self) -> dict[str, Any]:
        """Values of any fact: how, where and when it came about."""
        return {
            "status": str(self.status),
            "cost": dict(self.cost),
            "message": self.message,
            "worker": self.worker,
            "started": self.started,
            "finished": self.finished,
        }


@dataclass(frozen=True, slots=True)
class Task:
    """Settings and data that all evaluations of a search share; sent to each worker once."""

    evaluator: EvaluatorChoice
    model: Path | None = None
    dtype: str = "float32"
    head: Head = CAUSAL
    quantisation: Quantisation = "none"  # of the base's linear weights
    attention: Attention = "auto"
    sources: Mapping[str, TokenFile] = field(default_factory=dict)
    domains: Mapping[str, Mapping[Split, TokenFile]] = field(default_factory=dict)
    prompt_sets: Mapping[str, PromptSet] = field(default_factory=dict)
    prompts: Mapping[str, Mapping[Split, Prompts]] = field(default_factory=dict)
    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)
    benchmark_tasks: Mapping[str, Mapping[str, HeldOutTask]] = field(default_factory=dict)
    parts: Mapping[str, Path] = field(default_factory=dict)  # folders; merged, nothing is trained
    budget_tokens: int = 0
    inherit_share: float = 1.0  # of the budget, for a child that starts from parents' weights
    held_out_length: int = 0
    artifacts: Path | None = None
    # URL of a store and the folder of checkpoints in it, for workers that do not share `artifacts`
    mirror: tuple[str, str] | None = None
    threads: int = 1
    timeout: float = math.inf  # seconds; the cluster stops an evaluation that lasts longer
    micro_batch: int | Literal["auto"] | None = None  # rows at once; None is a whole batch
    processes: int = 1  # that train one individual together
    sharding: Literal["none", "full"] = "none"  # of the weights that they train
    checkpointing: bool = False
    compile: bool = False
    patience: int | None = None  # checks without improvement before a fine-tune stops
    stop_on: str = ""  # the measurement of the selection split that is checked
    stop_sign: int = 1  # of that measurement as a loss: -1 where higher is better
    server: str | None = None  # that generates in place of a worker, during the search alone

    @property
    def form(self) -> Form:
        """The form of the evaluator, with what it can do."""
        return form_of(self.evaluator)

    def only(self, scored: Collection[str]) -> "Task":
        """The task with these domains, prompt sets and benchmarks alone."""
        return replace(
            self,
            domains={name: one for name, one in self.domains.items() if name in scored},
            prompt_sets={name: one for name, one in self.prompt_sets.items() if name in scored},
            benchmarks={name: one for name, one in self.benchmarks.items() if name in scored},
        )

    @property
    def kinds(self) -> dict[str, Kind]:
        """Kinds of the sources, by name."""
        return {name: file.kind for name, file in self.sources.items()}


def failed(spec: EvaluationSpec, status: Status, why: Exception | str) -> Evaluation:
    """Failed evaluation, with the reason as its message: without secrets, in valid UTF-8."""
    message = without_secrets(str(why))[-MESSAGE_CHARACTERS:].encode(errors="replace").decode()
    return Evaluation(spec, status, message=message)
