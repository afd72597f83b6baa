"""Variation: a child from its parents by crossover, then mutation, gene by gene.

Numbers: DEAP's simulated binary crossover and polynomial mutation (Deb and Agrawal 1995; Deb and
Goyal 1996) in scaled coordinates. Mixtures: `population.simplex`. Choices: either parent's, or any
other option.
"""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from deap import tools

from population import simplex
from population.genes import Choice, Float, Int, Simplex, Value
from population.individual import Individual
from population.space import AnyGene, Genome, SearchSpace

STEPS = {
    "sphere": simplex.mutate_sphere,
    "dirichlet": simplex.mutate_dirichlet,
    "logit": simplex.mutate_logit,
}
MATINGS = ("crossover", "copy")
OPERATORS = (*MATINGS, *STEPS)
CROSSOVER_ETA = 10.0  # SBX: larger keeps children nearer to a parent
MUTATION_ETA = 10.0  # polynomial: larger makes smaller steps
REACH = 0.25  # how far beyond its parents a mixture may lie, as a share of their distance
# Length of a mixture's step on the sphere, log-uniform between these. Measured on the tasks named
# in strategies/nsga2.py: with steps of at most 0.2 a quarter more regret than with up to 0.8.
STEP = (0.1, 1.0)
SWITCH_RATE = 0.15  # how often a mixture's step also takes a source out or brings one in


@contextmanager
def seeded_random(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global `random`, which DEAP draws from, by `rng`; restore its state afterwards."""
    state = random.getstate()
    random.seed(int(rng.integers(2**63)))
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def seeded_numpy(rng: np.random.Generator) -> Iterator[None]:
    """Like `seeded_random`, for the parts of DEAP that draw from numpy's global state."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@dataclass(frozen=True)
class Odds:
    """Probabilities of the operators: probability matching by the survival rate of their children.

    Thierens 2005, An adaptive pursuit strategy for allocating operator probabilities, sec. 2. Every
    operator keeps a minimum probability. Counts are discounted, so that recent success counts more.
    Only scored individuals count, in their order, so a replayed search has the same odds.
    """

    tried: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 0.0))
    paid: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 0.0))

    DISCOUNT = 0.8  # per population of scored individuals
    FLOOR = 0.15
    PRIOR = 2.0  # children that every operator is taken to have had, half of them survivors

    def after(self, child: Individual, survived: bool, *, memory: int) -> "Odds":
        """The odds after one more child; counts decay by DISCOUNT over `memory` children."""
        kept = self.DISCOUNT ** (1 / memory)
        tried = {name: count * kept for name, count in self.tried.items()}
        paid = {name: count * kept for name, count in self.paid.items()}
        for name in tried.keys() & child.operator.split("+"):
            tried[name] += 1
            paid[name] += survived
        return Odds(tried, paid)

    def probabilities(self, names: Collection[str]) -> dict[str, float]:
        """Probability by operator, summing to 1 over `names`, none below FLOOR."""
        quality = {
            name: (self.paid[name] + self.PRIOR / 2) / (self.tried[name] + self.PRIOR)
            for name in names
        }
        total, free = sum(quality.values()), 1 - self.FLOOR * len(names)
        return {name: self.FLOOR + free * value / total for name, value in quality.items()}

    def draw(self, names: Collection[str], rng: np.random.Generator) -> str:
        odds = self.probabilities(names)
        return list(odds)[int(rng.choice(len(odds), p=list(odds.values())))]


def breed(
    parents: Sequence[Genome],
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    odds: Odds,
    strength: float = 1.0,
) -> tuple[Genome, str]:
    """One child of one or two parents, and the operators that made it, such as "crossover+sphere".

    A `strength` above 1 widens the steps and mutates more genes.
    """
    genome, operators = parents[0], []
    if len(parents) > 1:
        operators.append(odds.draw(MATINGS, rng))
        if operators[0] == "crossover":
            genome = crossover(parents[0], parents[1], space, rng)
    mixed = any(isinstance(gene, Simplex) for gene in space.genes.values())
    step = odds.draw(STEPS, rng) if mixed else ""
    operators.append(step or "mutation")
    return mutate(genome, space, rng, step=step, strength=strength), "+".join(operators)


def crossover(a: Genome, b: Genome, space: SearchSpace, rng: np.random.Generator) -> Genome:
    """A child between a and b, valid in the space; a gene that only one has comes from that one."""
    a, b = space.repair(a), space.repair(b)
    numbers = [n for n in a if n in b and isinstance(space.genes[n], Float | Int)]
    blended = _blend_numbers(numbers, a, b, space, rng)

    def value_of(name: str, gene: AnyGene) -> Value:
        if name in blended:
            return blended[name]
        if name not in a or name not in b:
            known = a if name in a else b
            return known[name] if name in known else gene.middle()
        if isinstance(gene, Simplex):
            weights = simplex.crossover(
                gene.weights(a[name]), gene.weights(b[name]), rng, reach=REACH
            )
            return gene.shares(weights)
        return (a if rng.random() < 0.5 else b)[name]

    return space.assemble(value_of)


def mutate(
    genome: Genome,
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    step: str,
    strength: float = 1.0,
) -> Genome:
    """A neighbour of the genome, valid in the space.

    Mixtures take the named `step`; each other gene moves with a probability of `strength` over
    their number; newly active genes are drawn.
    """
    genome = space.repair(genome)
    others = [name for name in genome if not isinstance(space.genes[name], Simplex)]
    rate = min(1.0, strength / max(len(others), 1))
    numbers = [name for name in others if isinstance(space.genes[name], Float | Int)]
    moved = _mutate_numbers(numbers, genome, space, rng, rate=rate, strength=strength)

    def value_of(name: str, gene: AnyGene) -> Value:
        if name in moved:
            return moved[name]
        if name not in genome:
            return gene.draw(rng)
        if isinstance(gene, Simplex):
            return _mutate_mixture(genome[name], gene, rng, step=step, strength=strength)
        if isinstance(gene, Choice) and len(gene.options) > 1 and rng.random() < rate:
            alternatives = [option for option in gene.options if option != genome[name]]
            return alternatives[int(rng.integers(len(alternatives)))]
        return genome[name]

    return space.assemble(value_of)


def _blend_numbers(
    names: Sequence[str], a: Genome, b: Genome, space: SearchSpace, rng: np.random.Generator
) -> Genome:
    if not names:
        return {}
    genes = [space.genes[name] for name in names]
    first = [gene.encode(a[name])[0] for name, gene in zip(names, genes, strict=True)]
    second = [gene.encode(b[name])[0] for name, gene in zip(names, genes, strict=True)]
    with seeded_random(rng):
        tools.cxSimulatedBinaryBounded(first, second, CROSSOVER_ETA, 0.0, 1.0)
    return {n: gene.decode([x]) for n, gene, x in zip(names, genes, first, strict=True)}


def _mutate_numbers(
    names: Sequence[str],
    genome: Genome,
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    rate: float,
    strength: float,
) -> Genome:
    genes = [space.genes[name] for name in names]
    before = [gene.encode(genome[name])[0] for name, gene in zip(names, genes, strict=True)]
    after = list(before)
    if names:
        with seeded_random(rng):
            tools.mutPolynomialBounded(after, MUTATION_ETA / strength, 0.0, 1.0, rate)
    moved: Genome = {}
    for name, gene, old, new in zip(names, genes, before, after, strict=True):
        if old == new:
            moved[name] = genome[name]  # not through decode, which rounds
            continue
        value = gene.decode([new])
        if isinstance(gene, Int) and isinstance(value, int) and value == genome[name]:
            value = _neighbour(value, gene, upwards=new > old)
        moved[name] = value
    return moved


def _neighbour(value: int, gene: Int, *, upwards: bool) -> int:
    """The next integer, for a step that rounding would undo."""
    step = 1 if upwards else -1
    return value + step if gene.low <= value + step <= gene.high else value - step


def _mutate_mixture(
    mixture: Value, gene: Simplex, rng: np.random.Generator, *, step: str, strength: float
) -> Value:
    """Mutate the part of a mixture above its floors, so a step means the same under any floors."""
    floor, _ = gene.bounds
    free = 1 - floor.sum()
    if gene.size == 1 or free <= simplex.TOLERANCE:
        return mixture
    weights = np.maximum(gene.weights(mixture) - floor, 0.0) / free
    size = strength * np.exp(rng.uniform(*np.log(STEP)))
    weights = STEPS[step](weights / weights.sum(), rng, step=size)
    if rng.random() < SWITCH_RATE * strength:
        weights = simplex.switch_source(weights, rng)
    return gene.shares(floor + free * weights)
