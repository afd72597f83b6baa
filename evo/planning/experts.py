"""Experts: short fine-tunes on one source each, whose sums simulate mixtures without training.

They fill the first slots of a search, and differ from the default genome in the mixture.
"""

from evo.config import SearchConfig
from evo.config.genomes import decode, default_genome, filled_genes, mixed_sources
from population.genes import Simplex
from population.individual import EXPERT, Individual

# Of the tokens of a fine-tune. On the quickstart's 24 mixtures sums of experts of .1, .25, .5 and
# all of the tokens rank alike: .98, .96, .96 and .95 by Spearman's correlation on its target.
SHARE = 0.25


def simulated(config: SearchConfig) -> bool:
    """True where the search simulates mixtures."""
    return not why_not(config)


def why_not(config: SearchConfig) -> str:
    """Reason that a search does not simulate mixtures, as the value of a key; empty if it does."""
    search, gene = config.search, filled_genes(config).get("mixture")
    if search.simulate == "off":
        return "search.simulate: off"
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
    if search.rungs:
        return "search.rungs: experts do not pause at rungs"
    recipe = decode(config, default_genome(config))
    if recipe["adapter"] == "dora":
        return "recipe.adapter: changes by DoRA cannot be summed"
    if recipe["adapter"] != "none" and config.model.task != "causal":
        return f"model.task: {config.model.task} trains a head beside the adapter"
    if gene.size > config.budget.evaluations:
        return (
            f"budget.evaluations: {gene.size} sources need as many experts, with a budget of "
            f"{config.budget.evaluations}"
        )
    return ""


def experts(config: SearchConfig) -> list[Individual]:
    """The experts, one for each source, by slot; none if nothing is simulated."""
    if not simulated(config):
        return []
    start, sources = default_genome(config), mixed_sources(config)
    return [
        Individual(
            slot,
            {**start, "mixture": {one: float(one == name) for one in sources}},
            operator=f"{EXPERT}{name}",
        )
        for slot, name in enumerate(sources)
    ]


def spendable(config: SearchConfig) -> float:
    """Budget in full fine-tunes, without the part of one that is left over beside the experts."""
    spent, budget = SHARE * len(experts(config)), config.budget.evaluations
    return spent + int(budget - spent)


def is_expert(individual: Individual) -> bool:
    """True for a short fine-tune whose weights are summed, which no strategy has bred."""
    return individual.operator.startswith(EXPERT)


def first_fidelity(config: SearchConfig, individual: Individual) -> float:
    """Share of the tokens of an individual's first evaluation."""
    return SHARE if is_expert(individual) else (*config.search.rungs, 1.0)[0]
