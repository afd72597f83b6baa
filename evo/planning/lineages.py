"""Warm start: which parent checkpoints a child starts from, its share of the budget, its lineage.

A lineage is what workers need to rebuild lost checkpoints. If `start` in its recipe says so, and
it has parents, a child starts from the weights that its parents had after their first evaluation.
The strategy breeds only from individuals whose evaluation has finished, so that under every
schedule the parents' checkpoints exist before the child does.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evo.config import SearchConfig, decode
from evo.config.genomes import SCRATCH
from fitness.evaluation import Ancestor
from fitness.merging.lineage import added
from population.individual import Individual

PARENT = "parent"
FULL = 1.0  # fidelity of a whole fine-tune
Tokens = Mapping[str, int]  # by source


def origins(
    recipe: Mapping[str, Any], genome: Mapping[str, Any], parents: Sequence[int]
) -> tuple[int, ...]:
    """Parents from whose weights a genome starts; () from scratch. `recipe` is the spec's."""
    start = {**recipe, **genome}.get("start", SCRATCH)
    if start == SCRATCH:
        return ()
    return tuple(parents[:1] if start == PARENT else parents)


def origins_of(config: SearchConfig, individual: Individual) -> tuple[int, ...]:
    """Parents from whose weights an individual starts, see `origins`.

    None under a user's own evaluator, which decides itself where training starts.
    """
    if not config.form.trains:
        return ()
    return origins(config.recipe, individual.genome, individual.parents)


def from_fact(fact: Mapping[str, Any]) -> Individual:
    """The individual of an `individual` fact, as it was bred."""
    return Individual(fact["id"], fact["genome"], tuple(fact["parents"]), fact["operator"])


def portion(config: SearchConfig, individual: Individual) -> float:
    """Share of the token budget that an individual's full fine-tune takes."""
    inherited = config.budget.inherit_share if origins_of(config, individual) else FULL
    return inherited * train_share(config, individual.genome)


def train_share(config: SearchConfig, genome: Mapping[str, Any]) -> float:
    """Share of the token budget that a genome's fine-tune from scratch takes."""
    if not config.form.mixes:
        return FULL
    return float({**config.recipe, **genome}.get("train_share", FULL))


@dataclass(frozen=True, slots=True)
class Lineage:
    """Warm start of an individual: parents, and all ancestors, oldest first.

    `seen` is the tokens that all ancestors together were trained on, by source.
    """

    parents: tuple[int, ...] = ()
    seen: Tokens = field(default_factory=dict)
    ancestors: tuple[Ancestor, ...] = ()


def recorded(config: SearchConfig, facts: Sequence[Mapping[str, Any]], number: int) -> Lineage:
    """The lineage of an individual of a run, from its ledger."""
    individuals = {
        f["id"]: from_fact(f) for f in facts if f["fact"] == "individual" and f["id"] <= number
    }
    first = {
        f["individual"]: f["details"]
        for f in facts
        if f["fact"] == "evaluation"
        and (f["seed"], f["fidelity"], f["split"]) == (config.seed, FULL, "selection")
    }
    lineages = Lineages(config, individuals.__getitem__, first.__getitem__)
    for individual in individuals.values():  # oldest first, so that recursion is one level deep
        lineages.of(individual)
    return lineages.of(individuals[number])


class Lineages:
    """The lineages of a run, from its individuals and the data they were trained on.

    `individual` looks up an individual by its number, and `details` the details of its first
    evaluation at full fidelity.
    """

    def __init__(
        self,
        config: SearchConfig,
        individual: Callable[[int], Individual],
        details: Callable[[int], Mapping[str, Any]],
    ) -> None:
        self._config = config
        self._individual = individual
        self._details = details
        self._lineages: dict[int, Lineage] = {}

    def of(self, individual: Individual) -> Lineage:
        """Lineage of an individual whose parents have been evaluated.

        A parent that was answered from an equal genome is replaced by the individual trained.
        """
        if (cached := self._lineages.get(individual.id)) is not None:
            return cached
        lineage = self._lineages[individual.id] = self._from(self.origins(individual))
        return lineage

    def itself(self, individual: Individual) -> Lineage:
        """Lineage that ends with an evaluated individual itself, to use its weights."""
        return self._from((self.trained(individual.id),))

    def _from(self, parents: tuple[int, ...]) -> Lineage:
        """Lineage of a child that starts from the weights of these parents."""
        chain: dict[int, Ancestor] = {}
        for parent in parents:
            start = self.of(self._individual(parent))
            chain |= {ancestor.individual: ancestor for ancestor in start.ancestors}
            recipe = decode(self._config, self._individual(parent).genome)
            chain[parent] = Ancestor(parent, recipe, self._config.seed, start.parents, start.seen)
        ancestors = tuple(chain[number] for number in sorted(chain))
        seen: dict[str, int] = {}
        for ancestor in ancestors:
            seen = added(seen, self._own(ancestor))
        return Lineage(parents, seen, ancestors)

    def needed(self, population: Collection[int], others: Iterable[int]) -> set[int]:
        """Individuals whose checkpoints may still be needed.

        These are the population, which children may start from, and the parents from whose weights
        the population and `others` started: evaluating those again under another seed trains them
        again from the same weights.
        """
        checkpoints = {self.trained(number) for number in population}
        for number in {*population, *others}:
            checkpoints.update(self.of(self._individual(number)).parents)
        return checkpoints

    def tokens(self, individual: Individual) -> int:
        """Training tokens of an individual's whole lineage, its own included."""
        return sum(self._details(individual.id)["cumulative_tokens"].values())

    def origins(self, individual: Individual) -> tuple[int, ...]:
        """Individuals from whose weights it starts: the ones actually trained, without repeats."""
        wanted = origins_of(self._config, individual)
        return tuple(dict.fromkeys(self.trained(parent) for parent in wanted))

    def trained(self, individual: int) -> int:
        """The individual that was actually trained: itself, or one of equal genome and parents."""
        return int(self._details(individual).get("same_as", individual))

    def _own(self, ancestor: Ancestor) -> dict[str, int]:
        total: Tokens = self._details(ancestor.individual)["cumulative_tokens"]
        return {source: count - ancestor.seen.get(source, 0) for source, count in total.items()}
