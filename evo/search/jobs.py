"""A job: an evaluation that the search asks for, and its key in the ledger."""

from dataclasses import dataclass

from fitness.evaluation import EvaluationSpec, Purpose, Writing
from population.individual import Individual

Key = tuple[int, int, float, str]  # individual, seed, fidelity, split


@dataclass(frozen=True, slots=True)
class Job:
    """An evaluation for a slot of the schedule or for the closing comparison.

    With `writing` and the split `samples`: generation of samples by an individual.
    """

    individual: Individual
    seed: int
    fidelity: float = 1.0
    split: Purpose = "selection"
    writing: Writing | None = None

    @property
    def key(self) -> Key:
        return (self.individual.id, self.seed, self.fidelity, self.split)


def key_of(spec: EvaluationSpec) -> Key:
    """Key of the job that a specification was made for."""
    return (spec.individual, spec.seed, spec.fidelity, spec.split)
