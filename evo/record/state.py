"""State of a run, read from its ledger: running, stopped, waiting or finished."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

State = Literal["running", "stopped", "waiting", "finished"]

STATES: Mapping[str, State] = {
    "search": "running",
    "resumed": "running",
    "stopped": "stopped",
    "waiting": "waiting",
    "finished": "finished",
}


def state(facts: Sequence[Mapping[str, Any]], *, alive: bool = True) -> State:
    """State of a run; `alive`: whether a driver holds its lock, else one that runs was killed."""
    kinds = (fact["fact"] for fact in reversed(facts))
    last: State = next((STATES[kind] for kind in kinds if kind in STATES), "running")
    return "stopped" if last == "running" and not alive else last
