"""The population that a spec gets which names none."""

from pathlib import Path

import pytest

from evo.config import ConfigError, load
from tests.evo.toy import write_spec


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec without a population, for one objective and no baselines."""
    path = write_spec(tmp_path)
    path.write_text(path.read_text().replace("strategy: nsga2, population: 6, ", ""))
    return path


@pytest.mark.parametrize(
    ("overrides", "population"),
    [
        (["budget.evaluations=40"], 16),
        (["budget.evaluations=16"], 16),
        (["budget.evaluations=6"], 3),
        (["budget.evaluations=1"], 1),
        (["budget.evaluations=6", "search.strategy=nsga2"], 4),
        (["budget.evaluations=6", "search.population=5"], 5),
    ],
)
def test_a_population_is_found_that_fits_the_budget_and_the_strategy(
    spec: Path, overrides: list[str], population: int
) -> None:
    assert load(spec, overrides).search.population == population


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["search.population=8", "budget.evaluations=6"],
            "6 is less than one population of 8; raise it, or lower search.population to 6",
        ),
        (
            ["budget.evaluations=3", "search.strategy=nsga2"],
            "3 is less than one population of 4; raise it",
        ),
    ],
)
def test_a_budget_that_is_too_small_is_told_a_remedy_that_works(
    spec: Path, overrides: list[str], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(spec, overrides)
    assert str(caught.value).rstrip().endswith(told)
