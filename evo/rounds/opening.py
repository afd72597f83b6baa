"""Round 0: the untouched base is measured and generates samples, before the first search."""

from evo.config import SearchConfig, default_genome
from evo.config import of as config_of
from evo.record.facts import Evaluated, Facts
from evo.record.facts import Round as RoundFact
from evo.search.decisions import Decisions
from evo.search.jobs import Job
from evo.search.replicates import score
from evo.search.requests import Requests
from population.individual import Individual

NUMBER = 0
UNTOUCHED = 0.0  # fidelity: nothing was trained


def base_of(config: SearchConfig) -> Individual:
    """The untouched base as an individual: the default genome, which it never trains."""
    return Individual(0, default_genome(config), operator="untouched base")


def measure(config: SearchConfig, decisions: Decisions, requests: Requests) -> None:
    """Measure the untouched base on both splits, as what all rounds are compared with."""
    base = base_of(config)
    first = Job(base, config.seed, UNTOUCHED)
    decisions.decide(0, first, learned_from=None)
    requests.all_of([first])
    seeds = range(config.seed + 1, config.seed + 1 + config.comparison.seeds)
    requests.all_of([Job(base, seed, UNTOUCHED, "test") for seed in seeds])


def result(facts: Facts) -> RoundFact:
    """The `round` fact, less its pool, of a base that has been measured."""
    config = config_of(facts)
    measurements = dict(evaluated(facts)["measurements"])
    base = base_of(config)
    scored = score(config, base, [measurements], measurements)
    assert scored.losses is not None
    return {
        "fact": "round",
        "round": NUMBER,
        "individual": base.id,
        "genome": dict(base.genome),
        "front": [],
        "seeds": 1,
        "loss": scored.losses[0],
        "violation": scored.violation,
        "measurements": measurements,
    }


def evaluated(facts: Facts) -> Evaluated:
    """The evaluation of the untouched base on the selection split."""
    return next(
        fact
        for fact in facts
        if fact["fact"] == "evaluation"
        and fact["fidelity"] == UNTOUCHED
        and fact["split"] == "selection"
    )
