"""Budgets in passes over the sources (`budget.epochs`), as tokens."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from evo.config import SearchConfig, decode, default_genome, largest
from evo.config.genomes import mixed_sources, train_shares, warm_starts
from fitness.data.sources import TokenFile
from fitness.evaluation import Task
from fitness.mixture.decks import deck_of
from fitness.recipe import Recipe


def epoch_tokens(config: SearchConfig, file: TokenFile) -> int:
    """Tokens of the budget that one pass over a source takes, padding included.

    For records under the default genome, since what they take depends on the recipe.
    """
    if file.kind == "text":
        return file.tokens
    recipe = Recipe.model_validate(decode(config, default_genome(config)))
    content = file.open()
    assert not isinstance(content, np.ndarray)
    return deck_of(content, recipe, separator=0).available


def budget_tokens(config: SearchConfig, sources: Mapping[str, TokenFile]) -> int:
    """Training tokens of a fine-tune: `budget.tokens`, or fewer if `budget.epochs` ends it earlier.

    At least one step of the largest batch for the individual that trains on the smallest share.
    """
    budget = config.budget
    if budget.epochs is None or not sources:
        return budget.tokens
    mixed = {name: sources[name] for name in mixed_sources(config)}
    wanted = _wanted(budget.epochs, mixed)
    if not wanted:  # of sources that rounds add, before there are any
        return budget.tokens
    passes = sum(times * epoch_tokens(config, sources[name]) for name, times in wanted.items())
    least = train_shares(config)[0] * (budget.inherit_share if warm_starts(config) else 1.0)
    step = largest(config, "batch_size") * largest(config, "sequence_length") / least
    return min(budget.tokens, math.ceil(max(step, passes)))


def with_budget(config: SearchConfig, task: Task) -> SearchConfig:
    """The config with the tokens of its task as its budget."""
    if config.budget.epochs is None or not task.sources:
        return config
    budget = config.budget.model_copy(update={"tokens": task.budget_tokens})
    return config.model_copy(update={"budget": budget})


def passes_note(config: SearchConfig, given: int) -> Iterator[str]:
    """Note on the tokens that `budget.epochs` allows; `given` are those of the spec."""
    if config.budget.epochs is not None and config.budget.tokens < given:
        yield f"budget.epochs: {config.budget.tokens:,} of {given:,} tokens for each fine-tune"


def _wanted(
    epochs: float | Mapping[str, float], sources: Mapping[str, TokenFile]
) -> dict[str, float]:
    """Passes by source, of those that are there."""
    if isinstance(epochs, Mapping):
        return {name: times for name, times in epochs.items() if name in sources}
    return dict.fromkeys(sources, epochs)
