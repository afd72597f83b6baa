"""Whose weights an individual begins with, what that costs, and its lineage for the workers.

An individual that wants to (`start` in its recipe) and has parents begins with the weights that
they had when they were first evaluated. Parents are bred from only once they were learned from, so
under every schedule these weights are known before the child is.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evo.config import SearchConfig, decode
from evo.config.genomes import SCRATCH
from fitness.evaluation import Ancestor
from fitness.evaluators import BUILTIN
from fitness.merging.lineage import added
from population.individual import Individual

PARENT = "parent"
FULL = 1.0
Tokens = Mapping[str, int]  # by source


def origins(
    recipe: Mapping[str, Any], genome: Mapping[str, Any], parents: Sequence[int]
) -> tuple[int, ...]:
    """The parents whose weights are taken over; () from scratch. `recipe` is the spec's."""
    start = {**recipe, **genome}.get("start", SCRATCH)
    if start == SCRATCH:
        return ()
    return tuple(parents[:1] if start == PARENT else parents)


def origins_of(config: SearchConfig, individual: Individual) -> tuple[int, ...]:
    """As `origins`; an evaluator of one's own begins as it likes."""
    if config.evaluator != BUILTIN:
        return ()
    return origins(config.recipe, individual.genome, individual.parents)


def from_fact(fact: Mapping[str, Any]) -> Individual:
    """The individual that a ledger's fact records, as it was bred."""
    return Individual(fact["id"], fact["genome"], tuple(fact["parents"]), fact["operator"])


def portion(config: SearchConfig, individual: Individual) -> float:
    """The share of the token budget that its full fine-tune takes."""
    return config.budget.inherit_share if origins_of(config, individual) else FULL


@dataclass(frozen=True, slots=True)
class Lineage:
    """What an individual begins with; `ancestors` oldest first, `seen` by all of them together."""

    parents: tuple[int, ...] = ()
    seen: Tokens = field(default_factory=dict)
    ancestors: tuple[Ancestor, ...] = ()


def recorded(config: SearchConfig, facts: Sequence[Mapping[str, Any]], number: int) -> Lineage:
    """The lineage of an individual of a run, from its ledger."""
    born = {f["id"]: from_fact(f) for f in facts if f["fact"] == "individual" and f["id"] <= number}
    first = {
        f["individual"]: f["details"]
        for f in facts
        if f["fact"] == "evaluation"
        and (f["seed"], f["fidelity"], f["split"]) == (config.seed, FULL, "selection")
    }
    lineages = Lineages(config, born.__getitem__, first.__getitem__)
    for individual in born.values():  # oldest first, so that nothing recurs deeper than once
        lineages.of(individual)
    return lineages.of(born[number])


class Lineages:
    """The lineages of a run, from its individuals and what they were trained on.

    `individual` gives a known one, `details` those of its first evaluation at full fidelity.
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
        self._known: dict[int, Lineage] = {}

    def of(self, individual: Individual) -> Lineage:
        """Its parents must have been evaluated. An equal one's evaluation stands for its own."""
        if (known := self._known.get(individual.id)) is not None:
            return known
        lineage = self._known[individual.id] = self._from(self.origins(individual))
        return lineage

    def itself(self, individual: Individual) -> Lineage:
        """What takes over an evaluated individual's own weights, to put them to use."""
        return self._from((self.trained(individual.id),))

    def _from(self, parents: tuple[int, ...]) -> Lineage:
        """Of whatever begins with the weights of these."""
        chain: dict[int, Ancestor] = {}
        for parent in parents:
            begun = self.of(self._individual(parent))
            chain |= {ancestor.individual: ancestor for ancestor in begun.ancestors}
            recipe = decode(self._config, self._individual(parent).genome)
            chain[parent] = Ancestor(parent, recipe, self._config.seed, begun.parents, begun.seen)
        ancestors = tuple(chain[number] for number in sorted(chain))
        seen: dict[str, int] = {}
        for ancestor in ancestors:
            seen = added(seen, self._own(ancestor))
        return Lineage(parents, seen, ancestors)

    def needed(self, living: Collection[int], others: Iterable[int]) -> set[int]:
        """Whose weights may still be asked for.

        Those of the living, and what they and `others` began with: it takes that to evaluate them
        again under another seed.
        """
        found = {self.trained(one) for one in living}
        for one in {*living, *others}:
            found.update(self.of(self._individual(one)).parents)
        return found

    def tokens(self, individual: Individual) -> int:
        """Training tokens of its whole lineage, its own included."""
        return sum(self._details(individual.id)["cumulative_tokens"].values())

    def origins(self, individual: Individual) -> tuple[int, ...]:
        """Whose weights it takes over: those who were really trained, each once."""
        wanted = origins_of(self._config, individual)
        return tuple(dict.fromkeys(self.trained(parent) for parent in wanted))

    def trained(self, individual: int) -> int:
        """Who was really trained: itself, or one of equal genome and parents."""
        return int(self._details(individual).get("same_as", individual))

    def _own(self, ancestor: Ancestor) -> dict[str, int]:
        total: Tokens = self._details(ancestor.individual)["cumulative_tokens"]
        return {source: count - ancestor.seen.get(source, 0) for source, count in total.items()}
