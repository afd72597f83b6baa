"""Search space, baselines, recipes, losses and constraint violations that follow from a spec."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from evo.config.aggregates import NOTHING
from evo.config.sections import ONLY, SearchConfig
from fitness.metrics import SIGN, Direction
from fitness.recipe import Recipe
from population.space import AnyGene, Choice, Float, Genome, Int, SearchSpace, Simplex

SCRATCH = "scratch"


def filled(gene: AnyGene, sources: Iterable[str]) -> AnyGene:
    """Let a mixture gene without names be over all `sources`; other genes are unchanged.

    Raises ValidationError if no mixture of them meets the floors and caps.
    """
    if isinstance(gene, Simplex) and not gene.over:
        return replace(gene, over=tuple(sources))
    return gene


def filled_genes(config: SearchConfig) -> dict[str, AnyGene]:
    """The genes by name, mixtures with the names of all that they are over."""
    return {name: filled(gene, mixable(config)) for name, gene in config.genome.items()}


def mixable(config: SearchConfig) -> tuple[str, ...]:
    """Names that a mixture may be over: the sources, or the parts of a merge."""
    return tuple(config.parts or config.sources)


def mixed_sources(config: SearchConfig) -> tuple[str, ...]:
    """Names that the mixture is over, whether it is a gene or fixed."""
    gene = config.genome.get("mixture")
    return (gene.over if isinstance(gene, Simplex) else ()) or mixable(config)


def space(config: SearchConfig) -> SearchSpace:
    """The search space of the genome.

    Without a mixture of nothing: rounds without a source have none before their first pool.
    """
    genes = filled_genes(config)
    return SearchSpace({n: g for n, g in genes.items() if not isinstance(g, Simplex) or g.over})


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
    """Names of the baselines: `default` if the mixture is given or cannot vary; the spec's own."""
    if len(mixed_sources(config)) < 2:
        return ["default"]
    return [*(["default"] if "mixture" in config.recipe else []), *config.baselines]


def baselines(config: SearchConfig, source_tokens: Mapping[str, int]) -> list[tuple[str, Genome]]:
    """Baselines as (name, genome), in the order of the slots, which they are the first to fill.

    They differ from the default genome only in the mixture. `source_tokens`: for `proportional`.
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
            weights = alone(name.removeprefix(ONLY), over)
        total = sum(weights.values())
        mixture = {source: weight / total for source, weight in weights.items()}
        found.append((name, {**start, "mixture": mixture}))
    return found


def alone(source: str, over: Iterable[str]) -> dict[str, float]:
    """The mixture of one source."""
    return {one: float(one == source) for one in over}


def known_genomes(config: SearchConfig) -> list[Genome]:
    """Genomes under `known` in the spec, repaired to the bounds of the search space.

    A gene that is left out is as in the default genome; a source that is left out has a share of 0.
    """
    start, genes = default_genome(config), space(config)
    return [genes.repair({**start, **genome}) for genome in config.known]


def warm_starts(config: SearchConfig) -> bool:
    """True where children of this search may start from their parents' weights."""
    if not config.form.trains:
        return False
    gene = config.genome.get("start")
    options = gene.options if isinstance(gene, Choice) else (config.recipe.get("start", SCRATCH),)
    return any(option != SCRATCH for option in options)


def decode(config: SearchConfig, genome: Mapping[str, Any]) -> dict[str, Any]:
    """The complete recipe of a genome; with all defaults if the evaluator reads recipes.

    Its mixture is of the sources that its method learns from; see `learned_shares`.
    """
    recipe = {**config.recipe, **genome}
    if not config.form.reads_recipe:
        return recipe
    whole = Recipe.model_validate(recipe).model_dump(mode="json")
    return {**whole, "mixture": learned_shares(config, whole)}


def learned_shares(config: SearchConfig, genome: Mapping[str, Any]) -> dict[str, float]:
    """Shares of the sources that an individual learns from; {} without a mixture, or if none has.

    The share of a source that its method does not learn from goes to the others in proportion.
    """
    given = genome.get("mixture")
    shares: Mapping[str, float] = given if isinstance(given, Mapping) else {}
    method = method_of(config, genome)
    learned = {
        name: share
        for name, share in shares.items()
        if name not in config.sources or config.sources[name].teaches(method)
    }
    if not any(share for name, share in shares.items() if name not in learned):
        return dict(shares)  # not divided, so that they are the same floats
    total = math.fsum(learned.values())
    return {name: share / total for name, share in learned.items()} if total else {}


def learners(config: SearchConfig, source: str) -> list[str]:
    """The methods of this search that learn from a source."""
    return [one for one in possible(config, "method") if config.sources[source].teaches(one)]


def unlearned(config: SearchConfig) -> list[str]:
    """The sources of the mixture that the default genome's method does not learn from."""
    method = method_of(config, default_genome(config))
    sources = ((name, config.sources.get(name)) for name in mixed_sources(config))
    return [name for name, source in sources if source and not source.teaches(method)]


def learning_genome(config: SearchConfig, source: str) -> Genome:
    """The default genome, under another method where its own does not learn from a source."""
    start, methods = default_genome(config), learners(config, source)
    return start if method_of(config, start) in methods else {**start, "method": methods[0]}


def method_of(config: SearchConfig, genome: Mapping[str, Any]) -> str:
    """The training method of a genome: its gene, the recipe's, or the default."""
    method = genome.get("method", config.recipe.get("method", Recipe().method))
    return str(method)


def bounds(config: SearchConfig, field: str) -> tuple[float, float]:
    """Smallest and largest value of a numeric field of the builtin recipe in this search."""
    gene = config.genome.get(field)
    if isinstance(gene, Float | Int):
        return gene.low, gene.high
    if isinstance(gene, Choice):
        options = [float(option) for option in gene.options]
        return min(options), max(options)
    fixed: Any = config.recipe.get(field, Recipe.model_fields[field].default)
    return float(fixed), float(fixed)


def largest(config: SearchConfig, field: str) -> float:
    """Largest value of a numeric field of the builtin recipe in this search."""
    return bounds(config, field)[1]


def train_shares(config: SearchConfig) -> tuple[float, float]:
    """Smallest and largest share of `budget.tokens` that an individual trains on.

    1 where evomix does not draw the data: such a field is the evaluator's own.
    """
    return bounds(config, "train_share") if config.form.mixes else (1.0, 1.0)


def tokens_of(config: SearchConfig) -> str:
    """Tokens of a fine-tune in words: `60,000`, or `12,000 to 60,000`."""
    low, high = (f"{round(config.budget.tokens * share):,}" for share in train_shares(config))
    return low if low == high else f"{low} to {high}"


def possible(config: SearchConfig, field: str) -> list[Any]:
    """Values of a categorical or fixed field of the builtin recipe in this search."""
    gene = config.genome.get(field)
    if isinstance(gene, Choice):
        return list(gene.options)
    return [config.recipe.get(field, Recipe.model_fields[field].default)]


@dataclass(frozen=True, slots=True)
class Objective:
    """A measurement with a direction; `sign` is +1 to minimise and -1 to maximise."""

    name: str
    sign: int

    @classmethod
    def towards(cls, name: str, direction: Direction) -> Self:
        """The objective to minimise or maximise a measurement."""
        return cls(name, SIGN[direction])

    @property
    def direction(self) -> Direction:
        """The direction as a spec says it."""
        return next(direction for direction, sign in SIGN.items() if sign == self.sign)

    def loss(self, measurements: Mapping[str, float]) -> float:
        """The measurement, oriented so that lower is better. KeyError if it was not measured."""
        return self.sign * measurements[self.name]


TIMES_BASE = re.compile(r"(?:(\S+?)\s*\*\s*)?base|base\s*\*\s*(\S+)")


@dataclass(frozen=True, slots=True)
class Constraint:
    """`name <= limit` (sign +1) or `name >= limit` (sign -1).

    With a factor the limit is relative: factor x the value of the untouched base on the same
    split. It is NaN until that value is known (see `against`).
    """

    name: str
    sign: int
    limit: float
    factor: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `<name> <= <number>` or `<name> <= <number> * base`, or `>=`; else ValueError."""
        matched = re.fullmatch(r"\s*([^<>=]*[^<>=\s])\s*(<=|>=)\s*(.+?)\s*", text)
        relative = matched and TIMES_BASE.fullmatch(matched[3])
        try:
            number = (relative[1] or relative[2] or "1") if relative else matched and matched[3]
            value = float(number or math.nan)
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
        """Fill in a relative limit from the measurements of the untouched base."""
        if self.factor is None or self.name not in base:
            return self
        return replace(self, limit=self.factor * base[self.name])

    def excess(self, measurements: Mapping[str, float]) -> float:
        """Relative excess over the limit; 0 if it is met. KeyError if it was not measured.

        Infinite while the limit is not known: such a constraint counts as violated.
        """
        if math.isnan(self.limit):
            return math.inf
        beyond = self.sign * (measurements[self.name] - self.limit)
        return max(0.0, beyond / max(abs(self.limit), 1e-9))

    def __str__(self) -> str:
        """The constraint as in the spec, with the number of a relative limit once it is known."""
        compared = f"{self.name} {'<=' if self.sign > 0 else '>='} "
        if self.factor is None:
            return f"{compared}{self.limit:g}"
        relative = f"{self.factor:g} * base"
        return compared + (relative if math.isnan(self.limit) else f"{self.limit:.4g} ({relative})")


def objectives(config: SearchConfig) -> tuple[Objective, ...]:
    """Objectives in the order of the spec; `best` is decided by the first."""
    return tuple(
        Objective.towards(name, direction) for name, direction in config.objectives.items()
    )


def losses(config: SearchConfig, measurements: Mapping[str, float]) -> tuple[float, ...]:
    """Losses: every objective, oriented so that lower is better. KeyError if one is missing."""
    return tuple(objective.loss(measurements) for objective in objectives(config))


def constraints(
    config: SearchConfig, base: Mapping[str, float] = NOTHING
) -> tuple[Constraint, ...]:
    """Constraints in the order of the spec; `base` has the measurements of the untouched base."""
    return tuple(Constraint.parse(text).against(base) for text in config.constraints)


def violation(
    config: SearchConfig,
    measurements: Mapping[str, float],
    base: Mapping[str, float] = NOTHING,
) -> float:
    """Summed relative excess over all constraints; 0 if all are met. KeyError as in `losses`."""
    return sum(constraint.excess(measurements) for constraint in constraints(config, base))


def feasible(
    config: SearchConfig,
    measurements: Mapping[str, float],
    base: Mapping[str, float] = NOTHING,
) -> bool:
    """True where every constraint is met. KeyError as in `losses`."""
    return violation(config, measurements, base) == 0
