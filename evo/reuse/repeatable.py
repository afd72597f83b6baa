"""Evaluations of an earlier search that a new one would repeat exactly, so that it recalls them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from evo.config import SearchConfig, decode, space
from evo.config.budget import SEED_STEP
from evo.config.composition import needed
from evo.reuse.earlier import Scored
from evo.reuse.pairing import Pairing
from evo.search.recall import recipe_key
from fitness.recipe import idle
from population.space import Genome

ELSEWHERE = "recipe, which this spec cannot make"


def repeatable(pair: Pairing, individual: int) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Evaluations of an individual to recall, as in the fact; and why others are not, counted."""
    if pair.differs:
        return [], Counter()
    own = [one for one in pair.earlier.evaluations if one.individual == individual and one.fidelity]
    genome = _same_genome(pair, individual)
    if isinstance(genome, str):
        return [], Counter([genome])
    reasons = [(one, _why_not(pair, one)) for one in own]
    found = [_recorded(one, genome) for one, why in reasons if not why]
    return found, Counter(why for _, why in reasons if why)


def repeatable_base(pair: Pairing) -> list[dict[str, Any]]:
    """Evaluations of the untouched base to recall."""
    bases = [one for one in pair.earlier.evaluations if not one.fidelity and not pair.differs]
    return [_recorded(one, {}) for one in bases if not _why_not(pair, one)]


def deciding(config: SearchConfig, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that decide its result."""
    off = idle(recipe) if config.form.reads_recipe else ()
    return {name: value for name, value in recipe.items() if name not in off}


def _same_genome(pair: Pairing, individual: int) -> Genome | str:
    """The genome of the new search with the recipe of an individual; if none, the reason."""
    config, earlier = pair.config, pair.earlier
    assert earlier.config is not None
    recipe = decode(earlier.config, earlier.genomes[individual])
    mixture = recipe.get("mixture")
    shares = mixture if isinstance(mixture, Mapping) else {}
    other = [name for name, share in shares.items() if share and name not in pair.sources.same]
    if other:
        return f"content of source {other[0]}"
    genes = space(config)
    try:
        genome = genes.repair({name: recipe[name] for name in genes.genes if name in recipe})
        again = decode(config, genome)
    except ValueError:
        return ELSEWHERE
    keys = [recipe_key(deciding(config, one)) for one in (recipe, again)]
    return genome if keys[0] == keys[1] else ELSEWHERE


def _why_not(pair: Pairing, one: Scored) -> str:
    """Reason why the new search never asks for an evaluation, or could not use it; empty if not."""
    beyond = one.seed - pair.config.seed
    seeds = range(1, SEED_STEP) if one.split == "test" else range(0, 2**63, SEED_STEP)
    if beyond not in seeds:
        return "seed"
    if one.details.get("inherited_from"):
        return "start, from the weights of parents"
    absent = [name for name in needed(pair.config) if name not in one.measurements]
    return f"set of measurements, without {absent[0]}" if absent else ""


def _recorded(one: Scored, genome: Genome) -> dict[str, Any]:
    return {
        "individual": one.individual,
        "genome": genome,
        "seed": one.seed,
        "fidelity": one.fidelity,
        "split": one.split,
        "measurements": dict(one.measurements),
        "details": dict(one.details),
    }
