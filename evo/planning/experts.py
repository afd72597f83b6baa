"""Experts: short fine-tunes on one source each, whose sums simulate mixtures without training.

They fill the first slots of a search, and differ from the default genome in the mixture.
"""

from typing import Literal

from evo.config import SearchConfig
from evo.config.genomes import (
    alone,
    baseline_names,
    decode,
    default_genome,
    filled_genes,
    mixed_sources,
    unlearned,
    warm_starts,
)
from evo.planning.lineages import train_share
from fitness.cost import Cost
from fitness.errors import InputError
from fitness.models.heads import NEW_HEAD
from population.genes import Simplex
from population.individual import EXPERT, Individual

# Of the tokens of a fine-tune. On random mixtures of the quickstart sums of experts of .1, .25, .5
# and all of the tokens rank alike. But with shorter ones the best sum is nearer a corner than the
# best fine-tune: so little training on one source alone has not yet done the harm that it will.
SHARES = (0.1, 0.25)  # at least and at most, by the number of sources
TOGETHER = 3.0  # fine-tunes that all experts cost, unless the shortest ones cost more
# Simulated, at least and at most. Of 24 on the quickstart the best is as good as of more, and
# fewer guide worse than the fine-tunes that they save would, even at a third of a fine-tune each.
MIXTURES = (24, 256)
LEAST = 3  # evaluations that are bred after the simulation, for it to be worth anything
SPENT = 0.1  # of the cost of all fine-tunes, unless that is less than the fewest mixtures cost


def settled(config: SearchConfig, cost: Cost) -> SearchConfig:
    """The config with `auto` as the number of mixtures to simulate, or `off`.

    It is recorded at the launch, so that a larger budget on a resume does not change it. Raises
    InputError for a number where none can be simulated.
    """
    asked, reason = config.search.simulate, why_not(config)
    if isinstance(asked, int) and reason:
        raise InputError(
            f"search.simulate: {asked}, but none can be simulated ({reason}); use auto"
        )
    if asked != "auto":
        return config
    found: int | Literal["off"] = "off"
    if not reason:
        recipe = decode(config, default_genome(config))
        affordable = SPENT * config.budget.evaluations * cost(recipe, 1.0) / cost(recipe, 0.0)
        found = min(max(MIXTURES[0], round(affordable)), MIXTURES[1])
    search = config.search.model_copy(update={"simulate": found})
    return config.model_copy(update={"search": search})


def why_not(config: SearchConfig) -> str:
    """Reason that a search cannot simulate mixtures, as the value of a key; empty if it can."""
    search, gene = config.search, filled_genes(config).get("mixture")
    if search.strategy != "surrogate":
        return f"search.strategy: {search.strategy} takes no simulated scores, `surrogate` does"
    if not config.form.trains:
        return (
            "evaluator: weights of other trainers are unknown; the builtin trainer's can be summed"
        )
    if config.parts:
        return "parts: each individual is a merge already"
    if not isinstance(gene, Simplex) or gene.size < 2:
        return "genome.mixture: no mixture of two sources or more is searched"
    if gene.when:
        return "genome.mixture: by its `when` an individual may have no mixture"
    if names := unlearned(config):
        return f"sources.{names[0]}.methods: the default genome's method does not learn from it"
    if search.rungs:
        return "search.rungs: experts do not pause at rungs"
    if warm_starts(config):
        return "start: children start from the weights of their parents, not of experts"
    recipe = decode(config, default_genome(config))
    if recipe["adapter"] == "dora":
        return "recipe.adapter: changes by DoRA cannot be summed"
    if recipe["adapter"] != "none" and config.model.task in NEW_HEAD:
        return f"model.task: {config.model.task} trains a head beside the adapter"
    if config.budget.evaluations - expert_share(gene.size) * gene.size < _needed(config):
        return (
            f"budget.evaluations: {config.budget.evaluations} leave too little to guide after "
            f"{gene.size} experts, the baselines, and what runs at the same time"
        )
    return ""


def _needed(config: SearchConfig) -> int:
    """Evaluations besides the experts: the baselines and known genomes.

    With `auto` also some that are bred after the experts were scored. Not with a number, which is
    asked for, or was settled before the size of a bucket was measured.
    """
    search = config.search
    anchors = len(baseline_names(config)) + len(config.known)
    if search.simulate != "auto":
        return anchors
    generational = search.schedule == "generational"
    together = search.population if generational else search.parallel * search.together
    return max(anchors, together) + LEAST


def experts(config: SearchConfig) -> list[Individual]:
    """The experts of a settled config, one for each source, by slot; none without simulation."""
    if not isinstance(config.search.simulate, int):
        return []
    start, sources = default_genome(config), mixed_sources(config)
    return [
        Individual(
            slot,
            {**start, "mixture": alone(name, sources)},
            operator=f"{EXPERT}{name}",
        )
        for slot, name in enumerate(sources)
    ]


def spendable(config: SearchConfig) -> float:
    """Budget in full fine-tunes, without the part of one that is left over beside the experts."""
    spent = spent_on_experts(config)
    return spent + int(config.budget.evaluations - spent)


def spent_on_experts(config: SearchConfig) -> float:
    """Budget that the experts take, in full fine-tunes."""
    simulates = isinstance(config.search.simulate, int)
    if not simulates:
        return 0.0
    count = len(mixed_sources(config))
    return expert_share(count) * count * train_share(config, default_genome(config))


def expert_share(sources: int) -> float:
    """Share of the tokens of a fine-tune that each of so many experts trains on."""
    return max(SHARES[0], min(SHARES[1], round(TOGETHER / sources, 2)))


def is_expert(individual: Individual) -> bool:
    """True for a short fine-tune whose weights are summed, which no strategy has bred."""
    return individual.operator.startswith(EXPERT)


def first_fidelity(config: SearchConfig, individual: Individual) -> float:
    """Share of the tokens of an individual's first evaluation."""
    if is_expert(individual):
        return expert_share(len(mixed_sources(config)))
    return (*config.search.rungs, 1.0)[0]
