"""The whole search on one screen: breed, evaluate, write down, learn; then name and compare.

Resuming is the same code: every step is taken again from the first one, what the ledger holds is
not evaluated again, and the genomes it holds must come out equal.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from evo.cluster import ClusterError
from evo.config import SearchConfig, baselines, losses, space, violation
from evo.evaluations import Evaluations
from evo.schedule import Breed, Learn, generational
from fitness import weights
from fitness.evaluation import Evaluation, Status
from population.individual import Individual
from population.selection import best, front
from population.strategies import make


def evolve(
    config: SearchConfig, sizes: Mapping[str, int], evaluations: Evaluations, artifacts: Path
) -> Individual:
    """The search itself; `sizes` are tokens by source. Returns the individual it names."""
    genes = space(config)
    strategy = make(
        config.search.strategy,
        genes,
        population=config.search.population,
        anchors=baselines(config, sizes),
    )
    bred: dict[int, Individual] = {}
    scored: list[Individual] = []
    living: list[Individual] = []
    for step in generational(config.budget.evaluations, config.search.population):
        if isinstance(step, Breed):
            rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(step.slot,)))
            individual = bred[step.slot] = strategy.ask(step.slot, rng)
            strategy.tell(individual)  # not scored yet: pending, so that nobody proposes it again
            evaluations.breed(individual, step.generation, scored)
            if step.slot == 0:  # the untouched base: the first recipe with none of its budget
                evaluations.request(individual, seed=config.seed, fidelity=0.0)
            evaluations.request(individual, seed=config.seed)
        elif isinstance(step, Learn):
            individual = bred.pop(step.slot)
            evaluation = evaluations.result(individual, seed=config.seed)
            scored.append(score(config, individual, evaluation))
            strategy.tell(scored[-1])
            living = survivors(artifacts, living, scored[-1])
    winner = best(scored)
    if winner is None:
        raise ClusterError(
            f"none of {len(scored)} individuals could be evaluated; `evo history` lists why"
        )
    evaluations.name_winner(winner)
    return winner


def compare(config: SearchConfig, winner: Individual, evaluations: Evaluations) -> None:
    """The untouched base, the baselines and the winner on the test split, under fresh seeds."""
    contenders = [(evaluations.individual(0), 0.0)]
    contenders += [(individual, 1.0) for individual in [*evaluations.baselines(), winner]]
    seeds = range(config.seed + 1, config.seed + 1 + config.comparison.seeds)
    jobs = [(contender, seed, fidelity) for seed in seeds for contender, fidelity in contenders]
    for contender, seed, fidelity in jobs:
        evaluations.request(contender, seed=seed, fidelity=fidelity, split="test")
    for contender, seed, fidelity in jobs:
        evaluations.result(contender, seed=seed, fidelity=fidelity, split="test")


def score(config: SearchConfig, individual: Individual, evaluation: Evaluation) -> Individual:
    """The individual with its losses, lower is better; a failed one loses to every other."""
    if evaluation.status is not Status.OK:
        nothing = (float("inf"),) * len(config.objectives)
        return replace(individual, losses=nothing, violation=float("inf"))
    return replace(
        individual,
        losses=losses(config, evaluation.measurements),
        violation=violation(config, evaluation.measurements),
    )


def survivors(artifacts: Path, living: list[Individual], scored: Individual) -> list[Individual]:
    """The front of `living` and one more; the weights of whoever drops out are deleted."""
    candidates = [*living, scored]
    kept = front(candidates)
    for individual in candidates:
        if individual not in kept:
            shutil.rmtree(weights.folder_of(artifacts, individual.id), ignore_errors=True)
    return kept
