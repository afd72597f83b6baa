"""Made-up tables of finished runs, of the kinds of surfaces that fine-tunes have.

Random designs, as a user's history would be; each surface draws its constants and its rows from a
seed of its own, so that a table is the same wherever it is made. Losses are in no unit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from population.genes import Array
from population.simplex import dirichlet_spread

Row = dict[str, Any]
MIXTURE = {"simplex": {"mixture": "w_*"}}
ONE = {"objectives": {"loss": "minimize"}}
RATE = {"learning_rate": {"log": True}}
TRAINER = {"float": {**RATE, "dropout": {}}, "int": ["epochs", "batch", "warmup"]}


@dataclass(frozen=True)
class Surface:
    """`count` rows, each made by what `constants(rng)` returns."""

    seed: int
    count: int
    constants: Callable[[np.random.Generator], Callable[[np.random.Generator], Row]]
    roles: dict[str, Any]

    def rows(self) -> list[Row]:
        rng = np.random.default_rng(self.seed)
        make = self.constants(rng)
        return [make(rng) for _ in range(self.count)]


def _columns(weights: Array) -> Row:
    return {f"w_{source:02}": round(float(w), 4) for source, w in enumerate(weights)}


def _mixing_law(rng: np.random.Generator, sources: int, domains: int) -> Callable[[Array], Array]:
    """Shares (sources,) -> a loss a domain: less the more text that helps it."""
    helps = rng.dirichlet(np.full(sources, 0.3), domains) * rng.uniform(0.5, 2, (domains, 1))
    power = rng.uniform(0.15, 0.5, domains)
    return lambda weights: 2 + (helps @ weights + 0.01) ** -power


def interior(noise: float, sources: int) -> Callable[..., Callable[..., Row]]:
    """The mean of several domains, which pull to different sources."""

    def constants(rng: np.random.Generator) -> Callable[[np.random.Generator], Row]:
        law = _mixing_law(rng, sources, domains=6)

        def make(rng: np.random.Generator) -> Row:
            weights = dirichlet_spread(sources, rng)
            loss = law(weights).mean() + noise * rng.standard_normal()
            return {**_columns(weights), "loss": loss}

        return make

    return constants


def domains(rng: np.random.Generator) -> Callable[[np.random.Generator], Row]:
    """Losses of eight domains, which pull to different ones of twelve sources."""
    law = _mixing_law(rng, 12, domains=8)

    def make(rng: np.random.Generator) -> Row:
        weights = dirichlet_spread(12, rng)
        losses = law(weights) + 0.005 * rng.standard_normal(8)
        return {**_columns(weights), **{f"loss_{n}": float(x) for n, x in enumerate(losses)}}

    return make


def vertex(rng: np.random.Generator) -> Callable[[np.random.Generator], Row]:
    """Nearly all of one source, a little of two others, none of the rest."""
    sources = 10
    best = np.zeros(sources)
    best[rng.permutation(sources)[:3]] = 0.9, 0.07, 0.03
    cost = rng.uniform(0.3, 2, sources)

    def make(rng: np.random.Generator) -> Row:
        weights = dirichlet_spread(sources, rng)
        return {**_columns(weights), "loss": float(cost @ np.abs(weights - best) ** 1.5)}

    return make


def cliff(noise: float) -> Callable[..., Callable[..., Row]]:
    """Better with a higher learning rate until it diverges, to one value: about a third do."""

    def constants(rng: np.random.Generator) -> Callable[[np.random.Generator], Row]:
        edge = rng.uniform(-4.4, -4.1)
        slope = rng.uniform(0.2, 0.5, 3)

        def make(rng: np.random.Generator) -> Row:
            rate, dropout = rng.uniform(-6, -3), rng.uniform(0, 0.3)
            epochs, batch = int(rng.integers(1, 5)), int(rng.integers(8, 65))
            warmup = int(rng.integers(0, 1001))
            limit = edge + slope[0] * np.log10(batch / 24) + slope[1] * warmup / 1000
            steps = np.log10(epochs * 64 / batch)
            away = rate - (edge - 0.3 - slope[2] * steps)
            loss = 0.3 + 0.05 * away**2 - 0.02 * steps + 0.3 * (dropout - 0.1) ** 2
            loss += noise * rng.standard_normal()
            if rate > limit + 10 * noise * rng.standard_normal():
                loss = 1.1
            row = {"learning_rate": 10**rate, "dropout": dropout, "epochs": epochs}
            return {**row, "batch": batch, "warmup": warmup, "loss": loss}

        return make

    return constants


def mixed(rng: np.random.Generator) -> Callable[[np.random.Generator], Row]:
    """A mixture, a learning rate and a method, whose best learning rates are far apart."""
    law = _mixing_law(rng, 5, domains=3)
    methods = {"full": (-4.6, 0.0), "lora": (-3.6, 0.05), "prefix": (-2.6, 0.3)}

    def make(rng: np.random.Generator) -> Row:
        weights, rate = dirichlet_spread(5, rng), rng.uniform(-6, -2)
        method = str(rng.choice(list(methods)))
        best, extra = methods[method]
        loss = law(weights).mean() + extra + 0.15 * (rate - best) ** 2
        columns = {**_columns(weights), "learning_rate": 10**rate, "method": method}
        return {**columns, "loss": loss + 0.01 * rng.standard_normal()}

    return make


def pair(rng: np.random.Generator) -> Callable[[np.random.Generator], Row]:
    """Two domains, which pull to different sources."""
    law = _mixing_law(rng, 7, domains=2)

    def make(rng: np.random.Generator) -> Row:
        weights = dirichlet_spread(7, rng)
        target, general = law(weights) + 0.01 * rng.standard_normal(2)
        return {**_columns(weights), "target": target, "general": general}

    return make


def price(rng: np.random.Generator) -> Callable[[np.random.Generator], Row]:
    """The loss, and the memory and time that the adapter's rank and the epochs cost."""
    law = _mixing_law(rng, 4, domains=2)

    def make(rng: np.random.Generator) -> Row:
        weights, rate = dirichlet_spread(4, rng), rng.uniform(-5, -3)
        rank, epochs = int(2 ** rng.uniform(0, 7)), int(rng.integers(1, 5))
        loss = law(weights).mean() + 0.1 * (rate + 3.8) ** 2
        loss += 0.5 * rank**-0.5 + 0.3 / epochs + 0.01 * rng.standard_normal()
        columns = {**_columns(weights), "learning_rate": 10**rate, "rank": rank, "epochs": epochs}
        return {**columns, "loss": loss, "cost": epochs * (1 + rank / 64)}

    return make


SURFACES = {
    "interior": Surface(1, 512, interior(0.0, 12), MIXTURE | ONE),
    "interior-noisy": Surface(2, 400, interior(0.05, 8), MIXTURE | ONE),
    "vertex": Surface(3, 400, vertex, MIXTURE | ONE),
    "cliff": Surface(4, 600, cliff(0.0), TRAINER | ONE),
    "cliff-noisy": Surface(5, 400, cliff(0.01), TRAINER | ONE),
    "mixed": Surface(6, 500, mixed, MIXTURE | {"float": RATE, "choice": ["method"]} | ONE),
    "pair": Surface(
        7, 400, pair, MIXTURE | {"objectives": {"target": "minimize", "general": "minimize"}}
    ),
    "price": Surface(
        8,
        300,
        price,
        MIXTURE
        | {"float": RATE, "int": {"rank": {"log": True}, "epochs": {}}}
        | {"objectives": {"loss": "minimize", "cost": "minimize"}},
    ),
}
MANY = Surface(9, 20_000, domains, {})  # searched by means of its losses
