"""The present activity of each worker, for people who watch a search."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fitness.evaluation import EvaluationSpec

Phase = Literal["starting", "loading", "meeting", "idle", "evaluating"]


@dataclass(frozen=True, slots=True)
class Doing:
    """A worker's phase and the evaluations it works on; `since` in Unix seconds."""

    worker: str  # host/pid, empty before it has started
    phase: Phase
    since: float
    specs: tuple[EvaluationSpec, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it has loaded the base model and the data."""
        return self.phase in ("idle", "evaluating")


def described(doing: Doing) -> str:
    """`individual 5 on the test split, seed 2`, `loading the model and the data`, `idle`."""
    if doing.phase != "evaluating":
        return {
            "starting": "starting",
            "loading": "loading the model and the data",
            "meeting": "its processes find one another",
            "idle": "idle",
        }[doing.phase]
    first = doing.specs[0]
    if len(doing.specs) > 1:
        numbers = ", ".join(str(spec.individual) for spec in doing.specs)
        return f"individuals {numbers} in one bucket"
    who = "untouched base" if first.fidelity == 0 else f"individual {first.individual}"
    if first.split == "samples":
        return f"{who} writes samples"
    where = f" on the test split, seed {first.seed}" if first.split == "test" else ""
    if first.split == "selection" and 0 < first.fidelity < 1:
        where = f" up to {first.fidelity:g} of the tokens"
    return who + where


def counted(workers: Sequence[Doing]) -> str:
    """`3 evaluating, 1 idle`."""
    counts = Counter(doing.phase for doing in workers)
    return ", ".join(f"{count} {phase}" for phase, count in counts.items())
