"""A recorded spec of another version, read as a config of this one."""

from typing import Any

import pytest

from evo import config as configuration
from evo.config import SearchConfig, to_plain
from evo.config.budget import Budget
from evo.config.search import Search
from evo.record.spec import recorded
from evo.starter import QUICKSTART_FOLDER
from population.space import Float


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return to_plain(configuration.load(QUICKSTART_FOLDER / "search.yaml"))


def test_a_spec_of_this_version_is_read_as_it_was_written(plain: dict[str, Any]) -> None:
    config, whole = recorded(plain), configuration.from_plain(plain)
    for name in SearchConfig.model_fields.keys() - {"domains"}:  # which no result is read by
        assert getattr(config, name) == getattr(whole, name), name


def test_keys_of_a_later_version_are_left_out(plain: dict[str, Any]) -> None:
    later = {
        **plain,
        "brand": {"new": 1},
        "search": {**plain["search"], "brand": "new"},
        "sources": {n: {**source, "brand": "new"} for n, source in plain["sources"].items()},
        "genome": {**plain["genome"], "strange": {"type": "quantum", "spin": 0.5}},
    }
    config, known = recorded(later), recorded(plain)
    assert config == known
    assert isinstance(config.genome["learning_rate"], Float)


def test_keys_that_a_record_lacks_have_the_defaults_of_their_sections() -> None:
    config = recorded({"search": {"replicates": None}, "budget": {"evaluations": 7}})
    for section, read in ((Search, config.search), (Budget, config.budget)):
        for name, field in section.model_fields.items():
            if not field.is_required() and field.default_factory is None:
                assert getattr(read, name) == field.default, name
    assert config.seed == SearchConfig.model_fields["seed"].default
    assert config.rounds is None


def test_a_required_key_that_a_record_lacks_is_empty() -> None:
    config = recorded({"objectives": None, "sources": {"broken": 3}, "prompts": 5})
    assert (config.name, config.objectives, config.genome) == ("", {}, {})
    assert (config.budget.evaluations, config.budget.tokens) == (0, 0)
    assert (config.sources, config.prompts) == ({}, {})
