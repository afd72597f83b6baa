"""The search loop: breed, evaluate, record, learn; then name the winner and compare it.

Resuming runs the same code: every step is taken again from the first one, evaluations are taken
from the ledger where it has them, and the genomes bred must equal the recorded ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from evo.cluster.connection import ClusterError
from evo.config import SearchConfig, baselines, decode, known_genomes, space, warm_starts
from evo.config.composition import composed_parts
from evo.planning import schedule
from evo.planning.experts import experts, first_fidelity, is_expert, spendable
from evo.planning.lineages import portion, train_share
from evo.planning.schedule import Breed, Learn
from evo.planning.spending import continued_from
from evo.record.artifacts import Artifacts
from evo.search.decisions import Decisions
from evo.search.jobs import Job
from evo.search.replicates import Replicates, closing, seed_of
from evo.search.requests import Requests
from evo.search.rungs import Rungs, share
from evo.search.simulation import Simulation
from fitness.cost import Cost
from population.guides import Guide
from population.individual import ANCHOR, KNOWN, Individual
from population.strategies import make
from population.strategies.surrogate import Surrogate

LONGER = 1 + 1e-6  # least fidelity of the winner's recipe from scratch: above 1 it has no parents


def evolve(
    config: SearchConfig,
    sizes: Mapping[str, int],
    cost: Cost,
    decisions: Decisions,
    requests: Requests,
    artifacts: Artifacts,
    guides: Iterable[Guide] = (),
) -> Individual:
    """Run the search and return its winner; `sizes`: tokens by source. ClusterError if all fail.

    `guides` have scores of other origins, for a strategy that takes them.
    """
    anchors = [(f"{ANCHOR}{name}", genome) for name, genome in baselines(config, sizes)]
    anchors += [(KNOWN, genome) for genome in known_genomes(config)]
    first = experts(config)
    strategy = make(
        config.search.strategy,
        space(config),
        population=config.search.population,
        budget=config.budget.evaluations,
        anchors=anchors,
        warm_start=warm_starts(config),
        composition=composed_parts(config).composition,
    )
    if isinstance(strategy, Surrogate):
        for guide in guides:
            strategy.guide(guide)
    replicates, rungs = Replicates(config), Rungs(config, artifacts)
    simulation = Simulation(config, first)
    jobs: dict[int, Job] = {}  # by slot; started, result not yet given to the strategy
    bucket: list[Job] = []  # bred one after the other, to be requested together
    last: int | None = None

    def again() -> Job | None:
        return replicates.due() or rungs.due()

    def begin() -> None:
        requests.request(*bucket)
        bucket.clear()

    def finished() -> list[int]:
        begin()
        return list(decisions.slots(requests.new()))

    for step in schedule.steps(
        config.search,
        spendable(config),
        closing=closing(config),
        duration=lambda slot: virtual_duration(config, cost, jobs[slot]),
        share=lambda slot: share(config, jobs[slot]),
        workers=requests.workers,
        recorded=decisions.recorded(requests.results.new),
        finished=finished,
    ):
        if isinstance(step, Breed):
            is_anchor = step.slot < len(first) + len(anchors)
            job = None if is_anchor else decisions.repeated(step.slot, otherwise=again)
            if job is None:
                rng = np.random.default_rng(
                    np.random.SeedSequence(config.seed, spawn_key=(step.slot,))
                )
                if step.slot < len(first):
                    individual = first[step.slot]
                else:
                    asked = strategy.ask(step.slot - len(first), rng)
                    individual = replace(asked, id=step.slot)
                    strategy.tell(individual)  # pending, without a score: not proposed again
                job = Job(individual, seed_of(config, 0), first_fidelity(config, individual))
            jobs[step.slot] = job
            replicates.begun(job, share=share(config, job))
            rungs.begun(job)
            decisions.decide(step.slot, job, learned_from=last)
            if step.slot == 0:  # the untouched base: the first recipe with none of its budget
                requests.request(replace(job, fidelity=0.0))
            bucket.append(job)
            if len(bucket) == config.search.together:
                begin()
        elif isinstance(step, Learn):
            begin()
            job, last = jobs.pop(step.slot), step.slot
            scored = replicates.learned(job, requests.result(job), requests.untouched())
            if is_expert(scored):
                simulated = simulation.learned(scored, requests)
                if simulated is not None and isinstance(strategy, Surrogate):
                    strategy.guide(simulated)
                artifacts.keep_also(simulation.needed)  # none, once they have been simulated
                continue
            strategy.tell(scored)
            rungs.learned(scored)
            kept = set(simulation.needed)
            if warm_starts(config):
                others = [*artifacts.front, *replicates.contenders(), scored.id]
                others += [running.individual.id for running in jobs.values()]
                kept |= requests.lineages.needed(strategy.possible_parents(), others)
            artifacts.keep_also(kept)
            artifacts.keep_or_delete(scored)
    rungs.close()
    winner = replicates.winner()
    if winner is None:
        raise ClusterError(
            f"none of {config.budget.evaluations} evaluations succeeded; `evo history` lists why"
        )
    decisions.name_winner(winner)
    return winner


def compare(
    config: SearchConfig, winner: Individual, decisions: Decisions, requests: Requests
) -> None:
    """Evaluate base, baselines and winner on the test split, under new seeds.

    A winner trained on generated samples is also compared with its own recipe without any of
    them, and with all of them unfiltered, on as many tokens.

    A winner that started from its parents' weights is also compared with its own recipe from
    scratch, on as many tokens as its whole lineage was trained on, or all of its own if that is
    more.
    """
    contenders = [(decisions.individual(0), 0.0)]
    contenders += [(individual, 1.0) for individual in [*decisions.baselines(), winner]]
    if requests.lineages.of(winner).parents:
        own = config.budget.tokens * train_share(config, winner.genome)
        contenders.append((winner, max(LONGER, requests.lineages.tokens(winner) / own)))
    contenders += [(control, 1.0) for control in decisions.controls(winner)]
    seeds = range(config.seed + 1, config.seed + 1 + config.comparison.seeds)
    jobs = [Job(i, seed, fidelity, "test") for seed in seeds for i, fidelity in contenders]
    requests.all_of(jobs)


def virtual_duration(config: SearchConfig, cost: Cost, job: Job) -> float:
    """Duration of a job on the virtual clock, in the unit of `cost`: scoring and training."""
    recipe = decode(config, job.individual.genome)
    begin = continued_from(config, job.seed, job.fidelity, job.split)
    whole = portion(config, job.individual)
    trained = cost(recipe, begin * whole) - cost(recipe, 0.0) if begin else 0.0
    return cost(recipe, job.fidelity * whole) - trained
