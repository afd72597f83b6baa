"""The parts behind losses and constraints: they compose to what `losses` and `violation` say."""

from pathlib import Path

import numpy as np
import pytest

from evo.config import SearchConfig, aggregates, load, losses, violation
from evo.config.composition import composed_parts
from population.composition import Term

BASE = {"target/loss": 4.0, "general/loss": 2.0, "general/perplexity": 7.4, "quiz/chrf": 10.0}


def composed(term: Term, parts: tuple[float, ...]) -> float:
    signed = [np.sign(weight) * parts[part] for part, weight in term.weights.items()]
    return float(term(np.array(signed)))


def spec_with(spec: Path, objectives: str, constraints: str) -> SearchConfig:
    relative = "q: {mean: {target/loss: 3, general/loss: 1}, relative_to: base}"
    sections = {
        "aggregates": f"{{{relative}, worst: {{max: ['*/loss']}}}}",
        "objectives": objectives,
        "constraints": constraints,
    }
    return load(spec, [f"{name}={value}" for name, value in sections.items()])


def with_aggregates(config: SearchConfig, measured: dict[str, float]) -> dict[str, float]:
    return measured | {one.name: one.value(measured, BASE) for one in aggregates(config)}


@pytest.mark.parametrize(
    ("objectives", "constraints", "parts"),
    [
        ("{target/loss: minimize}", "[]", 1),
        ("{quiz/chrf: maximize}", "[target/loss <= 3.9, quiz/chrf >= 9]", 2),
        ("{q: minimize, general/loss: minimize}", "[general/loss <= 1.02 * base]", 4),
        ("{worst: minimize}", "[worst <= 0.9 * base, quiz/chrf >= base]", 5),
        ("{worst: maximize}", "[q >= 0.9]", 4),
    ],
)
def test_parts_compose_to_losses_and_limits(
    spec: Path, objectives: str, constraints: str, parts: int
) -> None:
    config = spec_with(spec, objectives, constraints)
    behind = composed_parts(config)
    assert len(behind.parts) == behind.composition.size == parts
    base = with_aggregates(config, BASE)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        drawn = {name: value * rng.uniform(0.8, 1.2) for name, value in BASE.items()}
        measured = with_aggregates(config, drawn)
        values = behind.of(measured, base)
        terms = behind.composition.losses
        assert [composed(term, values) for term in terms] == pytest.approx(losses(config, measured))
        met = all(composed(one.term, values) <= one.most for one in behind.composition.limits)
        assert met == (violation(config, measured, base) == 0)
        seen.add(met)
    assert len(seen) == (1 if constraints == "[]" else 2)
