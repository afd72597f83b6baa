"""Facts of a run as tests look at them: as plain data, without the types that readers go by."""

from pathlib import Path
from typing import Any

from evo.record import ledger

Fact = Any


def read(run: Path) -> list[Any]:
    """All facts of a run, as `evo.record.ledger.read`."""
    return list(ledger.read(run))
