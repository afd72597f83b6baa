"""Proxies of a run: their run folders within it, and those whose scores it does not have yet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evo.history.tables import spec
from evo.record.facts import Facts
from evo.record.ledger import FILE


def folder_of(run: Path, number: int) -> Path:
    """The run folder of a proxy's search."""
    return run / f"proxy-{number}"


def pending(facts: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """Numbers of the proxies, of so many, whose scores a run has not imported yet."""
    done = {fact.get("proxy") for fact in facts if fact["fact"] == "imported"}
    return [number for number in range(1, count + 1) if number not in done]


def folders(run: Path, facts: Facts) -> list[Path]:
    """The run folders of the proxies' searches that have begun."""
    every = [folder_of(run, number + 1) for number in range(len(spec(facts).model.proxies))]
    return [own for own in every if (own / FILE).is_file()]


def under_way(run: Path, facts: Facts) -> Path | None:
    """Folder of the proxy that the run searches on now, or did when it was stopped."""
    for number in pending(facts, len(spec(facts).model.proxies)):
        own = folder_of(run, number)
        return own if (own / FILE).is_file() else None
    return None
