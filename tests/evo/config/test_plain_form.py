import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo import config as configuration
from evo.config import ConfigError, load
from evo.config.file import read


def test_plain_form_yaml_and_json_lead_back_to_the_same_config(spec: Path, tmp_path: Path) -> None:
    config = load(
        spec,
        [
            "genome.warmup_share={type: float, low: 0, high: 1e-7, when: {decay: [cosine]}}",
            "genome.dropout={type: choice, options: [0, 0.1]}",
            "name='1e-3'",
            "recipe.learning_rate=0.1234567890123456789",
        ],
    )
    plain = configuration.to_plain(config)
    assert configuration.from_plain(json.loads(json.dumps(plain))) == config
    again = tmp_path / "run" / "config.yaml"
    again.parent.mkdir()
    configuration.write_config(config, again)
    reloaded = load(again)
    assert reloaded == config
    assert configuration.difference(plain, configuration.to_plain(reloaded)) == []
    assert list(again.parent.iterdir()) == [again]


PLAIN = st.recursive(
    st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.sampled_from(["yes", "1e-3", "null", "~", "2024-01-01", "<<", "=", "- a", "a: b", "#"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["<<", "1"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100)
@given(value=PLAIN)
def test_whatever_is_written_as_yaml_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.yaml"
    configuration.write_yaml({"x": value}, path)
    found = read(path)
    assert repr(found.data) == repr({"x": value})
    assert not found.problems


def test_the_config_of_a_run_is_the_last_recorded(spec: Path) -> None:
    first, second = load(spec), load(spec, ["budget.evaluations=99"])
    facts: list[dict[str, Any]] = [
        {"fact": "search", "config": configuration.to_plain(first)},
        {"fact": "resumed", "config": configuration.to_plain(second)},
        {"fact": "finished"},
    ]
    assert configuration.of(facts) == second
    assert configuration.of(facts[:1]) == first


def test_a_recorded_config_that_no_longer_fits_is_told(spec: Path) -> None:
    plain = configuration.to_plain(load(spec))
    plain["search"]["populaton"] = 3
    with pytest.raises(ConfigError, match=r"^the recorded spec: search\.populaton: unknown key"):
        configuration.from_plain(plain)


def test_differences_are_told_a_line_each(spec: Path) -> None:
    old = configuration.to_plain(load(spec))
    new = configuration.to_plain(
        load(spec, ["search.population=8", "recipe.mixture={jargon: 1}", "constraints=[]"])
    )
    assert configuration.difference(old, new) == [
        'recipe.mixture: (left out) -> {"jargon": 1.0}',
        'constraints: ["general/loss <= 3.1"] -> []',
        "search.population: 6 -> 8",
    ]
    assert configuration.difference(old, old) == []


def test_another_order_of_objectives_is_a_difference(spec: Path) -> None:
    old = configuration.to_plain(load(spec))
    new = old | {"objectives": dict(reversed(old["objectives"].items()))}
    assert configuration.difference(old, new) == [
        "objectives: order target/loss, quiz/chrf -> quiz/chrf, target/loss"
    ]
