"""What a winner that learned from models' own writing is held against: itself on another diet."""

from collections.abc import Iterator, Mapping
from typing import Any

from evo.config import SearchConfig, decode
from fitness.data.thresholds import score_of_field
from fitness.recipe import Recipe
from population.individual import Individual

CONTROL = "control:"  # begins the operator of a control
NOTHING_GENERATED = "nothing generated"
UNFILTERED = "generated, unfiltered"


def controls(config: SearchConfig, winner: Individual) -> Iterator[Individual]:
    """Its recipe with what models wrote left out, and with all that they wrote; equal tokens.

    None where its mixture has nothing of the kind. No slot is theirs: their ids are negative.
    """
    recipe = decode(config, winner.genome)
    pools = {name for name, source in config.sources.items() if source.kind == "sample"}
    mixture: Mapping[str, float] = recipe.get("mixture") or {}
    real = {name: share for name, share in mixture.items() if name not in pools}
    generated = sum(share for name, share in mixture.items() if name in pools)
    if not generated:
        return
    if total := sum(real.values()):
        shares = {name: share / total for name, share in real.items()}
        yield _control(winner, 1, NOTHING_GENERATED, {"mixture": shares})
    cuts = {
        name: field.default
        for name, field in Recipe.model_fields.items()
        if score_of_field(name) and recipe[name] != field.default
    }
    if cuts:
        yield _control(winner, 2, UNFILTERED, cuts)


def _control(winner: Individual, number: int, name: str, changes: Mapping[str, Any]) -> Individual:
    genome = {**winner.genome, **changes}
    return Individual(-2 * winner.id - number, genome, winner.parents, f"{CONTROL}{name}")
