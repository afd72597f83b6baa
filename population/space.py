"""The search space: named genes, the genomes over them, their distances and identities."""

import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any

import numpy as np

from population.genes import Array, Choice, Float, Gene, Int, Scalar, Simplex, Value

__all__ = ["Choice", "Float", "Gene", "Genome", "Int", "SearchSpace", "Simplex", "Value"]

Genome = dict[str, Value]
AnyGene = Float | Int | Choice | Simplex
DIGITS = 12


@dataclass(frozen=True)
class SearchSpace:
    """Genes by name. A genome holds a natural value for each active gene, in order, and no other.

    A gene with `when: {other: value}` is active while `other` is active and has that value (or one
    of a list of values).
    Raises ValueError when there are no genes, a mixture is over nothing, or a `when` cannot be met.
    """

    genes: Mapping[str, AnyGene]
    _order: tuple[str, ...] = field(init=False, repr=False, compare=False)  # controllers first
    _slices: Mapping[str, slice] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.genes:
            raise ValueError("genome: at least one gene is needed, got none; name what to evolve")
        slices, start = {}, 0
        for name, gene in self.genes.items():
            if isinstance(gene, Simplex) and not gene.over:
                raise ValueError(f"gene {name!r}: over must name at least one source, got none")
            _check_when(name, gene, self.genes)
            slices[name] = slice(start, start + gene.size)
            start += gene.size
        try:
            order = TopologicalSorter(
                {n: g.when or {} for n, g in self.genes.items()}
            ).static_order()
            object.__setattr__(self, "_order", tuple(order))
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise ValueError(f"genes depend on each other: {circle}; remove one `when`") from error
        object.__setattr__(self, "genes", MappingProxyType(dict(self.genes)))
        object.__setattr__(self, "_slices", MappingProxyType(slices))

    @property
    def n_coordinates(self) -> int:
        return sum(gene.size for gene in self.genes.values())

    def assemble(self, value_of: Callable[[str, AnyGene], Value]) -> Genome:
        """A genome from a value for each active gene, those that decide which are active first."""
        chosen: Genome = {}
        for name in self._order:
            if _is_active(self.genes[name], chosen):
                chosen[name] = value_of(name, self.genes[name])
        return {name: chosen[name] for name in self.genes if name in chosen}

    def sample(self, rng: np.random.Generator) -> Genome:
        """A random genome: uniform on each gene's scale, mixtures by `simplex.dirichlet_spread`."""
        return self.assemble(lambda name, gene: gene.draw(rng))

    def repair(self, genome: Mapping[str, Any]) -> Genome:
        """The nearest genome of this space: values clipped, rounded, projected; inactive dropped.

        An active gene without a value gets its middle (geometric if log), first option or uniform
        mixture.
        Raises ValueError when a value is of the wrong kind or not finite.
        """
        return self.assemble(
            lambda name, gene: (
                _repaired(name, gene, genome[name]) if name in genome else gene.middle()
            )
        )

    def encode(self, genome: Mapping[str, Any]) -> Array:
        """(n_coordinates,), each from 0 to 1: roots of shares, scaled numbers, choices one-hot.

        The coordinates of inactive genes are 0.
        """
        coordinates = np.zeros(self.n_coordinates)
        for name, value in self.repair(genome).items():
            coordinates[self._slices[name]] = self.genes[name].encode(value)
        return coordinates

    def decode(self, coordinates: Array) -> Genome:
        """The genome nearest to any (n_coordinates,); undoes `encode` up to rounding."""
        if coordinates.shape != (self.n_coordinates,):
            raise ValueError(
                f"expected {self.n_coordinates} coordinates, got shape {coordinates.shape}"
            )
        return self.assemble(lambda name, gene: gene.decode(coordinates[self._slices[name]]))

    def distance(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
        """Root of the summed squares over genes active in both, each from 0 to 1 (Hellinger)."""
        a, b = self.repair(a), self.repair(b)
        common = [name for name in a if name in b]
        return math.sqrt(sum(self.genes[n].squared_distance(a[n], b[n]) for n in common))

    def key(self, genome: Mapping[str, Any]) -> str:
        """A string equal for equal genomes: sorted, 12 digits, no inactive genes or absent sources.

        Nothing is repaired, so a genome outside the space has a key of its own.
        """
        known: Genome = {}
        for name in self._order:
            if name in genome and _is_active(self.genes[name], known):
                known[name] = genome[name]
        foreign = {name: value for name, value in genome.items() if name not in self.genes}
        plain = {name: canonical(value) for name, value in (known | foreign).items()}
        return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _allowed(values: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    return values if isinstance(values, tuple) else (values,)


def _is_active(gene: AnyGene, known: Mapping[str, Value]) -> bool:
    if not gene.when:
        return True
    return all(name in known and known[name] in _allowed(of) for name, of in gene.when.items())


def _repaired(name: str, gene: AnyGene, value: Any) -> Value:
    try:
        return gene.repair(value)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"gene {name!r}: {value!r} is no value of a {gene.type} gene") from error


def canonical(value: Any) -> Any:
    """A value that is equal for equal values of a gene: 12 digits, no absent sources."""
    if isinstance(value, Mapping):
        # To decimals, not significant digits: a share of 1e-17 means absence.
        rounded = {name: round(float(share), DIGITS) for name, share in value.items()}
        return {name: share for name, share in rounded.items() if share}
    if isinstance(value, bool | str) or value is None:
        return value
    return float(f"{value:.{DIGITS}g}")


def _check_when(name: str, gene: AnyGene, genes: Mapping[str, AnyGene]) -> None:
    for other, values in (gene.when or {}).items():
        if other not in genes:
            close = difflib.get_close_matches(other, genes, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"the genes are {', '.join(genes)}"
            raise ValueError(f"gene {name!r}: when names {other!r}, which is no gene; {remedy}")
        controller = genes[other]
        if not _allowed(values):
            raise ValueError(f"gene {name!r}: when gives {other!r} no values; list at least one")
        for value in _allowed(values):
            if isinstance(controller, Choice):
                possible, rule = (
                    value in controller.options,
                    f"its options are {controller.options}",
                )
            elif isinstance(controller, Int):
                possible = isinstance(value, int) and controller.low <= value <= controller.high
                rule = f"it runs from {controller.low} to {controller.high}"
            else:
                raise ValueError(
                    f"gene {name!r}: when may name a choice or an int gene, {other!r} is a"
                    f" {controller.type} gene"
                )
            if not possible:
                raise ValueError(f"gene {name!r}: when {other!r} is {value!r} never holds; {rule}")
