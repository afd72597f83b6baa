"""Budgets in passes over the sources (`budget.epochs`), as tokens."""

import math
from collections.abc import Iterator, Mapping

from evo.config import SearchConfig, largest
from fitness.data.sources import TokenFile
from fitness.evaluation import Task


def epoch_tokens(file: TokenFile, sequence_length: int) -> int:
    """Tokens of the budget that one pass over a source takes; a labelled text is a sequence."""
    return file.rows * sequence_length if file.kind == "label" else file.tokens


def budget_tokens(config: SearchConfig, sources: Mapping[str, TokenFile]) -> int:
    """Training tokens of a fine-tune: `budget.tokens`, or fewer if `budget.epochs` ends it earlier.

    At least one step of the largest batch.
    """
    budget = config.budget
    if budget.epochs is None or not sources:
        return budget.tokens
    length = int(largest(config, "sequence_length"))
    wanted = _wanted(budget.epochs, sources)
    if not wanted:  # of sources that rounds add, before there are any
        return budget.tokens
    passes = sum(times * epoch_tokens(sources[name], length) for name, times in wanted.items())
    step = int(largest(config, "batch_size")) * length
    return min(budget.tokens, max(step, math.ceil(passes)))


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
