"""Experts: fine-tunes of one source each, whose sums simulate mixtures without training.

They are the first individuals of the search, and differ from the default genome in the mixture.
"""

from collections.abc import Mapping

from evo.config import SearchConfig
from evo.config.genomes import decode, default_genome, filled_genes, mixed_sources
from population.genes import Simplex
from population.individual import EXPERT
from population.space import Genome

LARGEST_SHARE = 0.5  # of the evaluations of a search, that its experts may take


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
        return "evaluator: its experts' weights are unknown; the builtin trainer's can be summed"
    if config.parts:
        return "parts: each individual is a merge already"
    if not isinstance(gene, Simplex) or gene.size < 2:
        return "genome.mixture: no mixture of two sources or more is searched"
    if (gene.bounds[0] > 0).any() or (gene.bounds[1] < 1).any():
        return "genome.mixture: a floor or a cap excludes mixtures of one source, the experts"
    if search.rungs:
        return "search.rungs: experts are trained to the end"
    recipe = decode(config, default_genome(config))
    if recipe["adapter"] == "dora":
        return "recipe.adapter: changes by DoRA cannot be summed"
    if recipe["adapter"] != "none" and config.model.task != "causal":
        return f"model.task: {config.model.task} trains a head beside the adapter"
    if gene.size > LARGEST_SHARE * config.budget.evaluations:
        return (
            f"budget.evaluations: {gene.size} sources need as many experts, more than half of "
            f"{config.budget.evaluations} evaluations"
        )
    return ""


def experts(config: SearchConfig) -> list[tuple[str, Genome]]:
    """Operators and genomes of the experts, one for each source; none if nothing is simulated."""
    if not simulated(config):
        return []
    start, sources = default_genome(config), mixed_sources(config)
    return [
        (f"{EXPERT}{name}", {**start, "mixture": {one: float(one == name) for one in sources}})
        for name in sources
    ]


def first_slots(
    config: SearchConfig, anchors: list[tuple[str, Genome]]
) -> tuple[list[tuple[str, Genome]], Mapping[int, str]]:
    """The genomes of the first slots, experts before the other `anchors`, and sources by slot.

    An anchor that is an expert's genome takes its place, under its own operator.
    """
    sources = mixed_sources(config)
    found = experts(config)
    for place, (_, genome) in enumerate(found):
        same = next((anchor for anchor in anchors if anchor[1] == genome), None)
        if same is not None:
            anchors = [anchor for anchor in anchors if anchor is not same]
            found[place] = same
    return [*found, *anchors], dict(enumerate(sources)) if found else {}
