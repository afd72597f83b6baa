"""Checks that facts are of their kinds, and do not contradict one another.

A ledger may come from a stranger, or from a disk that flipped a bit. All facts are checked here
when they are read, so that no reader has to check them again.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evo.config import Constraint
from evo.config.aggregates import Aggregate, is_glob
from evo.record.facts import KINDS, LATEST
from fitness.errors import InputError

TIMES = ("begun", "time", "started", "finished")


@cache
def _validator(kind: str) -> TypeAdapter[Any] | None:
    return TypeAdapter(KINDS[kind]) if kind in KINDS else None


def _is_time(value: object) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LATEST
    )


def check(fact: Mapping[str, Any]) -> None:
    """Raise ValueError, which names the key and the value, for a fact that is not of its kind."""
    kind = fact["fact"]
    validator = _validator(kind) if isinstance(kind, str) else None
    if not isinstance(kind, str):
        raise ValueError(f"`fact` is {kind!r:.40}; it must be the name of a kind")
    try:
        if validator is not None:
            validator.validate_python(fact, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        given = "" if first["type"] == "missing" else f", not {first['input']!r:.40}"
        raise ValueError(f"`{kind}`: {key}: {first['msg'].lower()}{given}") from None
    for key in TIMES:  # read of facts of every kind, those of later versions too
        if not _is_time(fact.get(key)):
            raise ValueError(f"`{kind}`: {key} is {fact[key]!r:.40}; it must be in Unix seconds")
    if kind == "simulation" and fact["scores"] and len(fact["scores"]) != len(fact["mixtures"]):
        raise ValueError(
            f"`{kind}`: {len(fact['scores'])} scores of {len(fact['mixtures'])} mixtures"
        )
    spec = fact.get("config") or {}
    for name, one in (spec.get("aggregates") or {}).items():
        try:
            patterns = Aggregate.model_validate(one).patterns.values()
        except ValidationError as error:
            why = error.errors(include_url=False)[0]["msg"].lower()
            raise ValueError(f"`{kind}`: config.aggregates.{name}: {why}") from None
        if glob := next((pattern for pattern, _ in patterns if is_glob(pattern)), None):
            raise ValueError(f"`{kind}`: config.aggregates.{name}: {glob!r} is a glob, not a name")
    for text in spec.get("constraints") or ():
        try:
            Constraint.parse(text)
        except ValueError as error:
            raise ValueError(f"`{kind}`: config.constraints: {error}") from None


def check_together(facts: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raise InputError, beginning with file and line, if facts contradict one another."""
    bred = {fact["id"] for fact in facts if fact["fact"] in ("individual", "control")}
    ids: set[int] = set()
    mixed: dict[str, bool] = {}  # whether a gene is a mixture, by name: in all genomes or none
    evaluated: set[tuple[Any, ...]] = set()
    for line, fact in enumerate(facts, 1):
        kind, fault = fact["fact"], ""
        if kind == "search" and line > 1:
            fault = "a second `search`"
        elif kind in ("individual", "control"):
            known = ids if kind == "individual" else bred
            parents = fact["parents"] if kind == "individual" else [fact["individual"]]
            if fact["id"] in ids:
                fault = f"a second individual {fact['id']}"
            elif unknown := [parent for parent in parents if parent not in known]:
                fault = (
                    f"individual {fact['id']} has the parent {unknown[0]}, which is not before it"
                )
            for name, gene in fact["genome"].items():
                if mixed.setdefault(name, isinstance(gene, dict)) != isinstance(gene, dict):
                    fault = f"gene {name!r} of individual {fact['id']} is {gene!r:.40}"
            ids.add(fact["id"])
        elif kind == "evaluation":
            key = (fact["individual"], fact["seed"], fact["fidelity"], fact["split"])
            if fact["individual"] not in bred and fact["fidelity"] > 0:
                fault = f"an evaluation of individual {fact['individual']}, which there is not"
            elif key in evaluated:
                fault = f"a second evaluation of individual {key[0]} under seed {key[1]}"
            evaluated.add(key)
        elif kind in ("repeat", "winner") and fact["individual"] not in bred:
            fault = f"`{kind}` names individual {fact['individual']}, which there is not"
        if fault:
            raise InputError(f"{where}:{line}: {fault}; restore the file from a copy")
