"""Generation of samples after a round: the individuals that generate, and the workers' jobs."""

from pathlib import Path
from typing import Any

import numpy as np

from evo import history
from evo.config import SearchConfig, decode
from evo.config.sections import SEED_STEP
from evo.planning.lineages import from_fact
from evo.record.facts import Facts
from evo.rounds import pooling
from evo.samples.generate import prompts_in
from evo.search.jobs import Job
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
    """Jobs that generate a round's samples in chunks, each with its own seed and real texts."""
    rounds = config.rounds
    assert rounds is not None
    base = folders.locate(config.model.base)
    prompts = tuple(prompts_in(Path(rounds.prompts), base)) if rounds.prompts else ()
    best = writers(facts)[: rounds.writers]
    bred = {fact["id"]: from_fact(fact) for fact in facts if fact["fact"] == "individual"}
    total = rounds.writing.samples
    size = max(CHUNK, -(-total // SEED_STEP))
    sizes = [min(size, total - first) for first in range(0, total, size)]
    found = []
    for chunk, count in enumerate(sizes):
        writer = bred[best[chunk % len(best)]]
        seed = (config.seed + number) * SEED_STEP + chunk
        rng = np.random.default_rng(seed)
        mixture: Any = writer.genome["mixture"]
        real = pooling.real_texts(config, mixture, rng)
        begun = [real[place] for place in rng.permutation(len(real))[:count]]
        settings = rounds.writing.model_copy(update={"samples": count})
        if not decode(spec, writer.genome)["infill_share"]:
            settings = settings.forward()
        writing = Writing(settings, number, prompts, tuple(begun), of_the_worker(rounds.filters))
        found.append(Job(writer, seed, split="samples", writing=writing))
    return found
