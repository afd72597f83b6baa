"""Values of genomes and losses of individuals, held to the type that a test expects there."""

from population.individual import Individual
from population.space import Genome


def number(genome: Genome, gene: str) -> float:
    """The value of a numeric gene, as it stands."""
    value = genome[gene]
    assert isinstance(value, int | float), f"{gene} is no number: {value!r}"
    return value


def mixture(genome: Genome, gene: str = "mixture") -> dict[str, float]:
    """The shares of a mixture."""
    value = genome[gene]
    assert isinstance(value, dict), f"{gene} is no mixture: {value!r}"
    return value


def losses_of(individual: Individual) -> tuple[float, ...]:
    """The losses of an individual that was scored."""
    assert individual.losses is not None, f"individual {individual.id} is not scored"
    return individual.losses
