"""Import of earlier searches into a new one: what guides it, what it recalls, what is refused."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evo.config import SearchConfig
from evo.config.composition import needed
from evo.reuse.earlier import Earlier
from evo.reuse.matching import Unfit, translated
from evo.reuse.pairing import Pairing, means
from evo.reuse.repeatable import repeatable, repeatable_base
from evo.reuse.scoring import says_something
from fitness.errors import InputError
from population.space import SearchSpace
from population.strategies import find, guidable

MOST = 250  # individuals of an earlier run that are imported: its baselines, its best, its latest
BY_NAME = "sources by name, since each model has its own tokens"
TRANSFER = "of another base model, from which only mixtures are taken"
TOO_MANY = f"beyond its baselines and the {MOST} best and latest"


@dataclass(frozen=True)
class Import:
    """An earlier search beside the new one, and the fact `imported` that records its use."""

    pair: Pairing
    fact: Mapping[str, Any]


def imported(
    config: SearchConfig, fingerprints: Mapping[str, Any], earlier: Sequence[Earlier]
) -> list[Import]:
    """Import each earlier search. Raises InputError, with the reasons, if nothing can be used."""
    pairs = [Pairing(one, config, fingerprints) for one in earlier]
    found = [Import(pair, fact_of(pair)) for pair in pairs]
    if found and not any(one.fact["guide"] or one.fact["recalled"] for one in found):
        reasons = [line for one in found for line in notes(one)]
        raise InputError(
            "--from: nothing of it can be used; name other runs, or leave it out:\n  "
            + "\n  ".join(reasons)
        )
    return found


def fact_of(pair: Pairing) -> dict[str, Any]:
    """The fact `imported` of one earlier search."""
    guide: list[dict[str, Any]] = []
    recalled = repeatable_base(pair)
    refused, why_not = Counter(pair.earlier.unused), Counter[str]()
    chosen = pair.chosen(MOST)
    for number in pair.evaluations:
        if number not in chosen:
            refused[TOO_MANY] += 1
            continue
        again, other = repeatable(pair, number)
        recalled += again
        why_not += other
        try:
            guide += _guiding(pair, number)
        except Unfit as error:
            refused[str(error)] += not again
    return {
        "fact": "imported",
        "run": pair.earlier.name,
        **({"folder": str(pair.earlier.folder)} if pair.earlier.folder else {}),
        "differs": [*pair.differs, *(f"{why} ({count})" for why, count in why_not.items())],
        "sources": dict(pair.sources.of),
        "genes": list(pair.genes),
        "base": _of_need(pair, pair.base),
        "guide": guide,
        "recalled": recalled,
        "refused": {why: count for why, count in refused.items() if count},
        "time": time.time(),
    }


def _guiding(pair: Pairing, individual: int) -> list[dict[str, Any]]:
    """Records of an individual for a guide, one for each fidelity. Raises Unfit."""
    config, earlier = pair.config, pair.earlier
    kind = find(config.search.strategy)
    if kind is None or not guidable(kind):
        raise Unfit(f"not to be repeated, and {config.search.strategy} takes no guides")
    if not pair.genes:
        raise Unfit(TRANSFER if pair.other_base else "without a gene that this spec has too")
    fixed = earlier.config.recipe if earlier.config else {}
    values = {**fixed, **earlier.genomes[individual]}
    genome = translated(values, SearchSpace(pair.genes), pair.sources)
    found = []
    for level, evaluations in pair.by_fidelity(individual).items():
        measured = _of_need(pair, means(evaluations))
        if not says_something(config, measured, pair.base):
            raise Unfit(f"without a measurement of {next(iter(config.objectives))}")
        record = {"individual": individual, "genome": genome, "fidelity": level}
        found.append({**record, "seeds": len(evaluations), "measurements": measured})
    return found


def _of_need(pair: Pairing, measured: Mapping[str, float]) -> dict[str, float]:
    return {name: measured[name] for name in needed(pair.config) if name in measured}


def _reasons(fact: Mapping[str, Any]) -> list[str]:
    """Reasons why individuals of an earlier run are not used, with their numbers."""
    return [f"{count} {why}" for why, count in fact["refused"].items()]


def notes(one: Import) -> Iterator[str]:
    """Lines for the user: what an earlier run gives, what is refused and why, what was matched."""
    fact, pair = one.fact, one.pair
    guiding = {record["individual"] for record in fact["guide"]}
    again = {record["individual"] for record in fact["recalled"] if record["fidelity"]}
    why = f" ({'; '.join(_reasons(fact))})" if fact["refused"] else ""
    name = fact["run"] if "proxy" in fact else f"--from {fact['run']}"
    yield (
        f"{name}: {len(again)} individuals to recall, {len(guiding)} as a guide, "
        f"{sum(fact['refused'].values())} refused{why}"
    )
    if fact["differs"] and "proxy" not in fact:
        which = " where these differ" if pair.earlier.config else ""
        yield f"{name}: not recalled{which}: {'; '.join(fact['differs'])}"
    if shared := list(_shared(pair)):
        yield f"{name}: {'; '.join(shared)}"
    measured = {key for record in fact["guide"] for key in record["measurements"]}
    if silent := [key for key in needed(pair.config) if guiding and key not in measured]:
        yield f"{name}: says nothing of {', '.join(silent)}, which it did not measure"


def _shared(pair: Pairing) -> Iterator[str]:
    """The matched sources and genes, and those without a match."""
    found = pair.sources
    without = [name for name in pair.config.genome if name not in pair.genes]
    groups = {
        "sources as there": [name for name in found.of if name in found.same],
        "renamed, by content": [
            f"{name} (there {earlier})" for name, earlier in found.of.items() if name != earlier
        ],
        BY_NAME if pair.other_base else "by name alone": list(found.changed),
        "new, so at share 0 there": list(found.new) if found.of else [],
        "left out": list(found.dropped) if found.of else [],
        "genes": list(pair.genes),
        TRANSFER if pair.other_base else "genes without a match": without,
    }
    yield from (f"{label}: {', '.join(names)}" for label, names in groups.items() if names)
