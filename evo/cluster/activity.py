"""Current activity of each worker, for progress displays."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fitness.evaluation import EvaluationSpec

Phase = Literal["starting", "loading", "meeting", "idle", "checked", "evaluating"]


@dataclass(frozen=True, slots=True)
class Doing:
    """A worker's phase and the evaluations it works on; `since` in Unix seconds."""

    worker: str  # host/pid, empty before it has started
    phase: Phase
    since: float
    specs: tuple[EvaluationSpec, ...] = ()

    @property
    def ready(self) -> bool:
        """True once the worker has loaded the base model and the data."""
        return self.phase in ("idle", "checked", "evaluating")


def described(doing: Doing) -> str:
    """A worker's activity: `individual 5 on the test split, seed 2`, `idle`."""
    if doing.phase != "evaluating":
        return {
            "starting": "starting",
            "loading": "loading the model and the data",
            "meeting": "connecting its processes",
            "idle": "idle",
            "checked": "checked whether it still runs",
        }[doing.phase]
    first = doing.specs[0]
    if first.simulation is not None:
        return f"simulates {len(first.simulation.mixtures)} mixtures"
    if len(doing.specs) > 1:
        numbers = ", ".join(str(spec.individual) for spec in doing.specs)
        return f"individuals {numbers} in one bucket"
    subject = "untouched base" if first.fidelity == 0 else f"individual {first.individual}"
    if first.split == "samples":
        return f"{subject} generates samples"
    where = f" on the test split, seed {first.seed}" if first.split == "test" else ""
    if first.split == "selection" and 0 < first.fidelity < 1:
        where = f" up to {first.fidelity:g} of the tokens"
    return subject + where


def counted(workers: Sequence[Doing]) -> str:
    """Counts of workers by phase: `3 evaluating, 1 idle`."""
    counts = Counter(doing.phase for doing in workers)
    return ", ".join(f"{count} {phase}" for phase, count in counts.items())
