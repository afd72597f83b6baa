from pathlib import Path

import pytest

from evo.config import load
from population.space import Float
from tests.evo.config.conftest import edited, errors_of


def test_overrides_reach_sections_lists_genes_and_new_names(spec: Path) -> None:
    config = load(
        spec,
        [
            "search.population=24",
            "budget.evaluations=48",
            "genome.learning_rate.high=1e-1",
            "sources.jargon.path=/elsewhere/x.jsonl",
            "constraints.0=target/loss <= 2",
            "objectives.general/loss=minimize",
            "resources.address=ray://host:10001",
            "sources.rfc={path: rfc.txt}",
        ],
    )
    assert config.search.population == 24
    assert config.genome["learning_rate"] == Float(1e-4, 1e-1, log=True)
    assert config.sources["jargon"].path == "/elsewhere/x.jsonl"
    assert config.constraints == ("target/loss <= 2",)
    assert list(config.objectives) == ["target/loss", "quiz/chrf", "general/loss"]
    assert config.resources.address == "ray://host:10001"
    assert list(config.sources) == ["jargon", "devil", "wordnet", "rfc"]


def test_an_override_finds_names_that_hold_dots(spec: Path) -> None:
    edited(spec, "devil:", "v1.5:")
    config = load(spec, ["sources.v1.5.path=/x.txt"])
    assert config.sources["v1.5"].path == "/x.txt"


def test_errors_of_overrides_name_the_override(spec: Path) -> None:
    assert errors_of(
        spec,
        "search.populaton=6",
        "budget.tokens=many",
        "genome.learning_rate.high=1e-9",
        "sources.jargn.path=x",
        "constraints.3=x",
        "name.first=x",
    ) == [
        "--set budget.tokens=many: budget.tokens: needs a whole number, got 'many'",
        "--set constraints.3=x: constraints: has 1 entries, counted from 0",
        "--set genome.learning_rate.high=1e-9: genome.learning_rate: low must be below high, "
        "got low=0.0001, high=1e-09; swap them",
        "--set name.first=x: name: is a single value, so it has no first",
        "--set search.populaton=6: search.populaton: unknown key; did you mean population?",
        "--set sources.jargn.path=x: sources.jargn: unknown key; did you mean jargon?",
    ]


@pytest.mark.parametrize("override", ["population", "=3", "search.population=[1"])
def test_an_override_that_cannot_be_read_is_refused(spec: Path, override: str) -> None:
    assert errors_of(spec, override)[0].startswith(f"--set {override}: ")
