"""Criteria that people rate by: of a run with rounds in its spec, else in a file of their own."""

from pathlib import Path

from evo.config import recorded_in
from evo.config.file import Kind, read
from evo.record import ledger
from evo.record.spec import recorded
from fitness.errors import InputError
from fitness.feedback.judgements import guidelines

FILE = Kind(
    "criteria are a mapping of names and guidelines (`coherence: Do the sentences follow?`)",
    "write a name and a guideline on each line",
)


def ratings_of(
    run: Path, criteria: Path | None, raters: int | None
) -> tuple[dict[str, str] | None, int | None]:
    """Criteria with their guidelines, and the number of people who judge each item.

    None where neither the options nor the spec of a run with rounds say so. Raises InputError where
    both do.
    """
    rounds = recorded(recorded_in(ledger.read(run))).rounds
    own = read_criteria(criteria) if criteria is not None else None
    if rounds is None:
        return own, raters
    if own is not None and rounds.criteria:
        raise InputError(
            f"--criteria {criteria}: the spec of {run} has rounds.criteria; leave the option out"
        )
    if raters is not None and raters < rounds.raters:
        raise InputError(
            f"--raters {raters}: the spec of {run} requires {rounds.raters} of each sample"
        )
    return dict(rounds.criteria) or own, raters or (rounds.raters if rounds.raters > 1 else None)


def read_criteria(path: Path) -> dict[str, str]:
    """Criteria with their guidelines from a YAML or JSON file. Raises InputError."""
    file = read(path, FILE)
    if file.problems:
        raise file.error(file.problems)
    return guidelines(file.data, str(path))
