"""What a spec means for genomes: search space, baselines, recipes, losses and violations."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

from evo.config.sections import ONLY, SearchConfig
from fitness.evaluators import BUILTIN, knows_recipe
from fitness.recipe import Recipe
from population.space import AnyGene, Choice, Float, Genome, Int, SearchSpace, Simplex

SCRATCH = "scratch"
NOTHING: Mapping[str, float] = MappingProxyType({})


def filled(gene: AnyGene, sources: Iterable[str]) -> AnyGene:
    """The gene, over all sources if it is a mixture that does not say what it is over.

    Raises ValidationError when floors and caps cannot be met over them.
    """
    if isinstance(gene, Simplex) and not gene.over:
        return replace(gene, over=tuple(sources))
    return gene


def filled_genes(config: SearchConfig) -> dict[str, AnyGene]:
    """The genes by name, mixtures with all that they are over."""
    return {name: filled(gene, mixable(config)) for name, gene in config.genome.items()}


def mixable(config: SearchConfig) -> tuple[str, ...]:
    """What a mixture may be over: the sources, or the parts of a merge."""
    return tuple(config.parts or config.sources)


def mixed_sources(config: SearchConfig) -> tuple[str, ...]:
    """What the mixture is over, whether it is a gene or fixed."""
    gene = config.genome.get("mixture")
    return (gene.over if isinstance(gene, Simplex) else ()) or mixable(config)


def space(config: SearchConfig) -> SearchSpace:
    """The search space of the genome."""
    return SearchSpace(filled_genes(config))


def default_genome(config: SearchConfig) -> Genome:
    """Each active gene at the recipe's value, exactly as given, else in the middle of its range."""
    genes = space(config)
    given: dict[str, Any] = {n: v for n, v in config.recipe.items() if n in genes.genes}
    for name, value in given.items():
        gene = genes.genes[name]
        if isinstance(gene, Simplex):
            given[name] = {source: value.get(source, 0.0) for source in gene.over}
    return {name: given.get(name, value) for name, value in genes.repair(given).items()}


def baseline_names(config: SearchConfig) -> list[str]:
    """`default` if the recipe gives a mixture or none can vary; then the spec's baselines."""
    if len(mixed_sources(config)) < 2:
        return ["default"]
    return [*(["default"] if "mixture" in config.recipe else []), *config.baselines]


def baselines(config: SearchConfig, source_tokens: Mapping[str, int]) -> list[tuple[str, Genome]]:
    """Name and genome of each individual to compare against, in the order of the first slots.

    They differ from the default genome in the mixture alone. `source_tokens`: for `proportional`.
    """
    start, over = default_genome(config), mixed_sources(config)
    found = []
    for name in baseline_names(config):
        if name == "default":
            found.append((name, start))
            continue
        if name == "uniform":
            weights = dict.fromkeys(over, 1.0)
        elif name == "proportional":
            weights = {source: float(source_tokens[source]) for source in over}
        else:
            weights = {source: float(source == name.removeprefix(ONLY)) for source in over}
        total = sum(weights.values())
        mixture = {source: weight / total for source, weight in weights.items()}
        found.append((name, {**start, "mixture": mixture}))
    return found


def known(config: SearchConfig) -> list[Genome]:
    """The genomes that the spec gives to begin with, as the search space can hold them.

    A gene that is left out starts as in the default genome, a source that is has a share of 0.
    """
    start, genes = default_genome(config), space(config)
    return [genes.repair({**start, **genome}) for genome in config.known]


def inherits(config: SearchConfig) -> bool:
    """Whether a child of this search may begin with its parents' weights."""
    if config.evaluator != BUILTIN:
        return False
    gene = config.genome.get("start")
    options = gene.options if isinstance(gene, Choice) else (config.recipe.get("start", SCRATCH),)
    return any(option != SCRATCH for option in options)


def decode(config: SearchConfig, genome: Mapping[str, Any]) -> dict[str, Any]:
    """The whole recipe of a genome; for an evaluator that knows recipes all of Recipe."""
    recipe = {**config.recipe, **genome}
    if knows_recipe(config.evaluator):
        return Recipe.model_validate(recipe).model_dump(mode="json")
    return recipe


def bounds(config: SearchConfig, field: str) -> tuple[float, float]:
    """The smallest and the largest value that a number of the builtin recipe can take here."""
    gene = config.genome.get(field)
    if isinstance(gene, Float | Int):
        return gene.low, gene.high
    if isinstance(gene, Choice):
        options = [float(option) for option in gene.options]
        return min(options), max(options)
    fixed: Any = config.recipe.get(field, Recipe.model_fields[field].default)
    return float(fixed), float(fixed)


def largest(config: SearchConfig, field: str) -> float:
    """The largest value that a number of the builtin recipe can take in this search."""
    return bounds(config, field)[1]


def possible(config: SearchConfig, field: str) -> list[Any]:
    """The values that a choice, or a fixed value, of the builtin recipe can take in this search."""
    gene = config.genome.get(field)
    if isinstance(gene, Choice):
        return list(gene.options)
    return [config.recipe.get(field, Recipe.model_fields[field].default)]


@dataclass(frozen=True, slots=True)
class Objective:
    """A measurement with a direction; `sign` is +1 to minimise and -1 to maximise."""

    name: str
    sign: int

    def loss(self, measurements: Mapping[str, float]) -> float:
        """The measurement oriented so that lower is better; KeyError when it was not measured."""
        return self.sign * measurements[self.name]


TIMES_BASE = re.compile(r"(?:(\S+?)\s*\*\s*)?base|base\s*\*\s*(\S+)")


@dataclass(frozen=True, slots=True)
class Constraint:
    """`name <= limit` (sign +1) or `name >= limit` (sign -1).

    With a factor the limit is that times what the untouched base measures on the same split, and
    NaN until that is known (see `against`).
    """

    name: str
    sign: int
    limit: float
    factor: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for anything but `<measurement> <= <number>` or `<number> * base`."""
        matched = re.fullmatch(r"\s*([^<>=]*[^<>=\s])\s*(<=|>=)\s*(.+?)\s*", text)
        relative = matched and TIMES_BASE.fullmatch(matched[3])
        try:
            told = (relative[1] or relative[2] or "1") if relative else matched and matched[3]
            value = float(told or math.nan)
        except ValueError:
            value = math.nan
        if matched is None or not math.isfinite(value):
            raise ValueError(
                f"needs `<measurement> <= <number>` or `<= <number> * base`, or `>=`, got "
                f"{text!r}; write for example `general/loss <= 3.1`, or "
                "`general/loss <= 1.02 * base`"
            )
        if relative and value <= 0:
            raise ValueError(
                f"the factor of the base must be above 0, got {text!r}; 1 is the base itself"
            )
        sign = 1 if matched[2] == "<=" else -1
        return cls(matched[1], sign, math.nan, value) if relative else cls(matched[1], sign, value)

    def against(self, base: Mapping[str, float]) -> Self:
        """With the limit that follows from the base's measurements, where it is relative."""
        if self.factor is None or self.name not in base:
            return self
        return replace(self, limit=self.factor * base[self.name])

    def excess(self, measurements: Mapping[str, float]) -> float:
        """How far beyond the limit, relative to it; 0 within. KeyError when not measured.

        Infinite while the limit is not known: nobody has met it yet.
        """
        if math.isnan(self.limit):
            return math.inf
        beyond = self.sign * (measurements[self.name] - self.limit)
        return max(0.0, beyond / max(abs(self.limit), 1e-9))

    def __str__(self) -> str:
        """As in the spec, with the number that a relative limit comes to."""
        compared = f"{self.name} {'<=' if self.sign > 0 else '>='} "
        if self.factor is None:
            return f"{compared}{self.limit:g}"
        relative = f"{self.factor:g} * base"
        return compared + (relative if math.isnan(self.limit) else f"{self.limit:.4g} ({relative})")


def objectives(config: SearchConfig) -> tuple[Objective, ...]:
    """In the order of the spec; `best` goes by the first."""
    return tuple(
        Objective(name, -1 if direction == "maximize" else 1)
        for name, direction in config.objectives.items()
    )


def losses(config: SearchConfig, measurements: Mapping[str, float]) -> tuple[float, ...]:
    """Every objective, lower is better. KeyError when one was not measured."""
    return tuple(objective.loss(measurements) for objective in objectives(config))


def constraints(
    config: SearchConfig, base: Mapping[str, float] = NOTHING
) -> tuple[Constraint, ...]:
    """The spec's constraints, in its order; `base` is what the untouched base measures."""
    return tuple(Constraint.parse(text).against(base) for text in config.constraints)


def violation(
    config: SearchConfig,
    measurements: Mapping[str, float],
    base: Mapping[str, float] = NOTHING,
) -> float:
    """Summed relative excess over the constraints; 0 when all are met. KeyError as in `losses`."""
    return sum(constraint.excess(measurements) for constraint in constraints(config, base))


def feasible(
    config: SearchConfig,
    measurements: Mapping[str, float],
    base: Mapping[str, float] = NOTHING,
) -> bool:
    """Whether every constraint is met. KeyError as in `losses`."""
    return violation(config, measurements, base) == 0
