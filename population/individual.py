"""One member of a population."""

import math
from dataclasses import dataclass

from population.space import Genome

ANCHOR = "anchor: "  # prefix of the operator of a baseline, which is given, not bred
EXPERT = "expert: "  # prefix of the operator of a fine-tune on one source, to simulate mixtures
KNOWN = "known"  # operator of a genome that was given as a starting point


@dataclass(frozen=True, slots=True)
class Individual:
    """A genome with its parents, and once scored its losses: lower is better.

    `violation` sums the relative amounts by which constraints are missed. A failed evaluation has
    infinite losses and infinite violation. Losses and violation are means over `seeds` evaluations
    at `fidelity`; `parts` are the measurements that they are made of, see `population.composition`.
    Raises ValueError for NaN, which no ranking could place.
    """

    id: int  # the slot number
    genome: Genome
    parents: tuple[int, ...] = ()
    operator: str = ""
    losses: tuple[float, ...] | None = None
    violation: float = 0.0
    fidelity: float = 1.0  # share of the full token budget
    seeds: int = 1
    parts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(math.isnan(loss) for loss in self.losses or ()):
            raise ValueError(
                f"individual {self.id}: losses must be numbers, got {self.losses};"
                " give inf for a failed evaluation"
            )
        if not self.violation >= 0:
            raise ValueError(
                f"individual {self.id}: violation must be at least 0, got {self.violation}"
            )

    @property
    def failed(self) -> bool:
        """True where the evaluation failed: the violation or a loss is infinite."""
        return math.isinf(self.violation) or any(math.isinf(loss) for loss in self.losses or ())
