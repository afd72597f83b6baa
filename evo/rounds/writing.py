"""Generation of samples after a round: the individuals that generate, and the workers' jobs."""

from pathlib import Path

import numpy as np

from evo import history
from evo.config import SearchConfig, decode
from evo.config.budget import SEED_STEP
from evo.config.genomes import learned_shares
from evo.planning.lineages import from_fact
from evo.record.facts import Facts
from evo.rounds import opening, pooling
from evo.search.jobs import Job
from fitness.data.prompts import NO_PROMPTS, Prompts, prompts_in
from fitness.evaluate.writing import of_the_worker
from fitness.evaluation import Writing
from fitness.models import folders

CHUNK = 64  # samples that a worker generates in one job


def writers(facts: Facts) -> list[int]:
    """Individuals that generate samples: the winner, then the others of the front, best first."""
    winner = history.winner(facts)
    assert winner is not None
    return list(dict.fromkeys([winner, *map(int, history.front(facts)["individual"])]))


def jobs_of(config: SearchConfig, spec: SearchConfig, facts: Facts, number: int) -> list[Job]:
    """Jobs that generate a round's samples in chunks, each with its own seed and real texts.

    In round 0 the untouched base generates them.
    """
    rounds = config.rounds
    assert rounds is not None
    base = folders.locate(config.model.base)
    prompts = prompts_in(Path(rounds.prompts), base) if rounds.prompts else NO_PROMPTS
    fidelity = 1.0 if number else opening.UNTOUCHED
    best = writers(facts)[: rounds.writers] if number else [opening.base_of(spec).id]
    bred = {fact["id"]: from_fact(fact) for fact in facts if fact["fact"] == "individual"}
    total, each = rounds.writing.count(len(prompts.prompts)), rounds.writing.per_prompt or 1
    size = -(-max(CHUNK, -(-total // SEED_STEP)) // each) * each  # whole prompts
    found = []
    for chunk, first in enumerate(range(0, total, size)):
        count = min(size, total - first)
        writer = bred[best[chunk % len(best)]]
        seed = (config.seed + number) * SEED_STEP + chunk
        rng = np.random.default_rng(seed)
        real = pooling.real_texts(config, learned_shares(spec, writer.genome), rng)
        begun = [real[place] for place in rng.permutation(len(real))[:count]]
        settings = rounds.writing.model_copy(update={"samples": count})
        if not (number and decode(spec, writer.genome)["infill_share"]):
            settings = settings.forward()
        part = prompts
        if rounds.writing.per_prompt:
            part = _part(prompts, first // each, -(-count // each))
        writing = Writing(settings, number, part, tuple(begun), of_the_worker(rounds.filters))
        found.append(Job(writer, seed, fidelity, "samples", writing))
    return found


def _part(prompts: Prompts, first: int, count: int) -> Prompts:
    """So many prompts from the first on; after the last one they begin again."""
    places = [place % len(prompts.prompts) for place in range(first, first + count)]
    return Prompts(
        [prompts.prompts[place] for place in places],
        [prompts.references[place] for place in places],
    )
