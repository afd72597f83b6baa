"""Budgets in passes over the sources or in learned tokens, as tokens."""

import math
from collections.abc import Iterator, Mapping

from evo.config import SearchConfig, decode, default_genome, largest
from evo.config.genomes import learning_genome, mixed_sources, train_shares, warm_starts
from fitness.data.sources import TokenFile
from fitness.evaluation import Task
from fitness.mixture.decks import RecordDeck, deck_of
from fitness.recipe import Recipe


def epoch_tokens(config: SearchConfig, source: str, file: TokenFile) -> int:
    """Tokens of the budget that one pass over a source takes, padding included.

    For records under the default genome, since what they take depends on the recipe; see
    `learning_genome`.
    """
    return file.tokens if file.kind == "text" else _deck(config, source, file).available


def learned_tokens(config: SearchConfig, source: str, file: TokenFile) -> int | None:
    """Tokens learned in one pass over a source: all of a text, the answers of records.

    For records under the default genome; None where they teach something else than tokens.
    """
    return file.tokens if file.kind == "text" else _deck(config, source, file).learned


def budget_tokens(config: SearchConfig, sources: Mapping[str, TokenFile]) -> int:
    """Training tokens of a fine-tune: `budget.tokens`, or fewer if the data end it earlier.

    By `budget.epochs` or `budget.learned_tokens`, the earlier of both. At least one step of the
    largest batch for the individual that trains on the smallest share.
    """
    budget = config.budget
    if not budget.by_data or not sources:
        return budget.tokens
    mixed = {name: sources[name] for name in mixed_sources(config)}
    wanted = min(_by_epochs(config, mixed), _by_learned_tokens(config, mixed))
    if math.isinf(wanted):
        return budget.tokens
    least = train_shares(config)[0] * (budget.inherit_share if warm_starts(config) else 1.0)
    step = largest(config, "batch_size") * largest(config, "sequence_length") / least
    return min(budget.tokens, math.ceil(max(step, wanted)))


def with_budget(config: SearchConfig, task: Task) -> SearchConfig:
    """The config with the tokens of its task as its budget."""
    if not config.budget.by_data or not task.sources:
        return config
    budget = config.budget.model_copy(update={"tokens": task.budget_tokens})
    return config.model_copy(update={"budget": budget})


def passes_note(config: SearchConfig, task: Task, given: int) -> Iterator[str]:
    """Note on the tokens that passes or learned tokens allow; `given` are those of the spec."""
    if not config.budget.by_data or config.budget.tokens >= given:
        return
    mixed = {name: task.sources[name] for name in mixed_sources(config)}
    by_epochs, by_learned = _by_epochs(config, mixed), _by_learned_tokens(config, mixed)
    key = "epochs" if by_epochs <= by_learned else "learned_tokens"
    yield f"budget.{key}: {config.budget.tokens:,} of {given:,} tokens for each fine-tune"


def _by_epochs(config: SearchConfig, sources: Mapping[str, TokenFile]) -> float:
    """Tokens of the passes asked for; infinite without any, or before there are their sources."""
    if config.budget.epochs is None:
        return math.inf
    wanted = _wanted(config.budget.epochs, sources)
    passes = sum(
        times * epoch_tokens(config, name, sources[name]) for name, times in wanted.items()
    )
    return passes if wanted else math.inf


def _by_learned_tokens(config: SearchConfig, sources: Mapping[str, TokenFile]) -> float:
    """Tokens in which the default genome's mixture learns as many as asked for; or infinite."""
    if config.budget.learned_tokens is None:
        return math.inf
    mixture: Mapping[str, float] = decode(config, default_genome(config)).get("mixture") or {}
    rate = 0.0  # learned tokens of each token of the budget
    for name, file in sources.items():
        share = mixture.get(name, 0.0) if mixture else 1 / len(sources)
        if share:
            learned = learned_tokens(config, name, file) or 0
            rate += share * learned / max(1, epoch_tokens(config, name, file))
    return config.budget.learned_tokens / rate if rate else math.inf


def _deck(config: SearchConfig, source: str, file: TokenFile) -> RecordDeck:
    """The deck of a source of records under the default genome."""
    recipe = Recipe.model_validate(decode(config, learning_genome(config, source)))
    deck = deck_of(file.open(), recipe, separator=0)
    assert isinstance(deck, RecordDeck)
    return deck


def _wanted(
    epochs: float | Mapping[str, float], sources: Mapping[str, TokenFile]
) -> dict[str, float]:
    """Passes by source, of those that are there."""
    if isinstance(epochs, Mapping):
        return {name: times for name, times in epochs.items() if name in sources}
    return dict.fromkeys(sources, epochs)
