"""Control experiments: the winner's recipe without generated samples, or with them unfiltered."""

from collections.abc import Iterator, Mapping
from typing import Any

from evo.config import SearchConfig, decode
from evo.config.rounds import PAIRS, POOL, WHOLE
from fitness.mixture.thresholds import score_of_field
from fitness.recipe import Recipe
from population.individual import Individual

CONTROL = "control:"  # begins the operator of a control
NOTHING_GENERATED = "nothing generated"
UNFILTERED = "generated, unfiltered"


def controls(config: SearchConfig, winner: Individual) -> Iterator[Individual]:
    """The winner's recipe without generated samples, and with all of them unfiltered; equal tokens.

    Unfiltered samples are those that thresholds and requirements leave out as well. Nothing if its
    mixture has no generated samples. Controls have no slot: their ids are negative.
    """
    recipe = decode(config, winner.genome)
    pools = {name for name, one in config.sources.items() if one.kind == "sample"}
    pools |= {PAIRS} if POOL in config.sources else set()
    mixture: Mapping[str, float] = recipe.get("mixture") or {}
    real = {name: share for name, share in mixture.items() if name not in pools}
    generated = sum(share for name, share in mixture.items() if name in pools)
    if not generated:
        return
    if total := sum(real.values()):
        shares = {name: share / total for name, share in real.items()}
        yield _control(winner, 1, NOTHING_GENERATED, {"mixture": shares})
    thresholds = {
        name: field.default
        for name, field in Recipe.model_fields.items()
        if score_of_field(name) and recipe[name] != field.default
    }
    changes: dict[str, Any] = dict(thresholds)
    if WHOLE in config.sources and mixture.get(POOL):
        changes["mixture"] = {WHOLE if name == POOL else name: mixture[name] for name in mixture}
    if changes:
        yield _control(winner, 2, UNFILTERED, changes)


def _control(winner: Individual, number: int, name: str, changes: Mapping[str, Any]) -> Individual:
    genome = {**winner.genome, **changes}
    return Individual(-2 * winner.id - number, genome, winner.parents, f"{CONTROL}{name}")
