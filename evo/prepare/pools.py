"""Checks of pools of generated samples: contamination, requirements and scores."""

import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from evo.config import SearchConfig
from evo.config.rounds import WHOLE
from evo.prepare.evaluated import evaluated
from fitness.data.documents import Source, records
from fitness.data.prompts import Prompts
from fitness.data.samples import Sample, sample_in
from fitness.data.sources import TokenFile
from fitness.errors import InputError
from fitness.mixture.thresholds import missing_scores, score_of_field
from fitness.recipe import Recipe
from fitness.samples.contamination import contaminated
from fitness.suggest import listed


def left_out_of(config: SearchConfig, prompts: Iterable[Prompts]) -> dict[str, set[str]]:
    """Ids of the samples that are not trained on, by source; InputError where none is left.

    These contain evaluation texts of this search, miss a requirement, or are too many of a prompt.
    Contamination is computed anew, whatever scores a pool has: it may come from a search with
    other held-out texts.
    """
    pools = {name: source for name, source in config.sources.items() if source.kind == "sample"}
    if not pools:
        return {}
    held_out = evaluated(config, prompts)
    found = {}
    for name, pool in pools.items():
        try:
            samples = [sample_in(record, where) for where, record in records(pool, Path.cwd())]
        except InputError as error:
            raise InputError(f"sources.{name}: {error}") from error
        dirty = contaminated(samples, held_out)
        found[name] = dirty | _missed(name, pool, samples, dirty)
        left = sum(sample.id not in dirty for sample in samples)
        if left < len(samples) and name != WHOLE:  # of which the same was said as the pool
            warnings.warn(
                f"sources.{name}: {len(samples) - left} of its {len(samples)} samples contain text "
                "of the evaluation sets (domains or prompts) and are left out",
                stacklevel=2,
            )
        if not left:
            raise InputError(
                f"sources.{name}: every sample contains text of the evaluation sets (domains or "
                "prompts); generate from other prompts"
            )
    return found


def _missed(name: str, pool: Source, samples: Sequence[Sample], dirty: Collection[str]) -> set[str]:
    """Ids of the samples that miss a requirement or are too many. InputError if none is left."""
    scores = sorted({score for one in samples for score in one.scores})
    if missing := pool.missing(scores):
        raise InputError(
            f"sources.{name}: requires the score {missing}, which its samples do not have, they "
            f"have {listed(scores) if scores else 'none'}; score them with this filter"
        )
    left = {one.id for one in pool.learned(samples, without=dirty)}
    if not left and len(dirty) < len(samples):
        raise InputError(
            f"sources.{name}: none of its {len(samples)} samples meets what it requires, "
            f"{', '.join(f'{one}: {wanted}' for one, wanted in pool.require.items())}"
        )
    return {one.id for one in samples} - left


def check_scores(config: SearchConfig, name: str, file: TokenFile) -> None:
    """Raise InputError if the samples lack a score that some threshold of the search needs."""
    thresholds = [name for name in {**config.recipe, **config.genome} if score_of_field(name)]
    for key in thresholds:
        fixed = {} if key in config.genome else {key: config.recipe[key]}
        recipe = Recipe.model_validate(fixed or {key: 0.5})
        if absent := missing_scores(recipe, file.scores):
            have = f"they have {listed(file.scores)}" if file.scores else "they have none"
            raise InputError(
                f"sources.{name}: {key} is a threshold of the score {absent[0]}, which its samples "
                f"do not have, {have}; score them with this filter, or leave {key} out"
            )
