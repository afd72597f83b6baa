"""The section `aggregates`: its forms, the numbers they make, and what is wrong with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo import config as configuration
from evo.config import SearchConfig, aggregates, load, meaning, measured_by
from evo.config.aggregates import Aggregate, Combination, Composed
from tests.evo.config.conftest import edited, errors_of, written

OWN = "evaluator: tests.evo.toy:score\nbaselines: []\ngenome:"  # measures what nobody knows before


def aggregated(spec: Path, *lines: str) -> Path:
    """The spec with aggregates, a line each from the 29th line on."""
    text = spec.read_text(encoding="utf-8")
    return written(spec, text + "aggregates:\n" + "".join(f"  {line}\n" for line in lines))


def test_globs_stand_for_the_names_that_they_match_in_the_order_measured(spec: Path) -> None:
    aggregated(spec, "a: {mean: '*/loss'}", "b: {max: [general/*]}", "c: {min: quiz/chrf}")
    config = load(spec)
    assert aggregates(config) == (
        Composed("a", "mean", {"target/loss": 0.5, "general/loss": 0.5}),
        Composed("b", "max", {"general/loss": 0.5, "general/perplexity": 0.5}),
        Composed("c", "min", {"quiz/chrf": 1.0}),
    )
    # The recorded spec has names alone, so that no reader of a ledger has to import a metric.
    plain = configuration.to_plain(config)["aggregates"]
    assert plain["b"]["max"] == ["general/loss", "general/perplexity"]
    configuration.write_config(config, spec)
    assert (
        configuration.difference(configuration.to_plain(config), configuration.to_plain(load(spec)))
        == []
    )


def test_weights_are_normalised_and_a_glob_gives_each_name_its_weight(spec: Path) -> None:
    weights = "{'*/loss': 2, general/perplexity: 1}"
    (found,) = aggregates(load(aggregated(spec, f"q: {{mean: {weights}, relative_to: base}}")))
    assert found.relative
    assert found.weights == {"target/loss": 0.4, "general/loss": 0.4, "general/perplexity": 0.2}


finite = st.floats(0.01, 100)


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=5), st.booleans())
def test_values_are_those_of_numpy(
    members: list[tuple[float, float, float]], by_base: bool
) -> None:
    names = [f"d{place}/loss" for place in range(len(members))]
    weights, values, base = (np.array(column) for column in zip(*members, strict=True))
    measured = dict(zip(names, values.tolist(), strict=True))
    untouched = dict(zip(names, base.tolist(), strict=True))
    wanted = values / base if by_base else values
    for given_as, value in (
        (
            {"mean": dict(zip(names, weights.tolist(), strict=True))},
            np.average(wanted, weights=weights),
        ),
        ({"mean": names}, wanted.mean()),
        ({"max": names}, wanted.max()),
        ({"min": names}, wanted.min()),
    ):
        section = Aggregate.model_validate({**given_as, "relative_to": "base" if by_base else None})
        composed = Composed.of("q", section)
        assert composed.value(measured, untouched) == pytest.approx(value)
        if by_base:
            assert composed.value(untouched, untouched) == 1.0  # exactly, whatever the weights


def test_weights_whose_sum_is_no_float_are_weights_all_the_same() -> None:
    composed = Composed.of("q", Combination(mean={"a": 1.5e308, "b": 1.5e308}))
    assert composed.value({"a": 1.0, "b": 3.0}) == 2.0
    assert composed.value({"a": 1.7e308, "b": 1.7e308}) == np.inf


def test_unit_and_direction_are_those_of_the_measurements(spec: Path) -> None:
    aggregated(
        spec,
        "a: {mean: ['*/loss']}",
        "b: {max: [general/*]}",
        "c: {mean: ['*/loss'], relative_to: base}",
        "loss: {mean: [quiz/chrf, quiz/mean_length]}",
    )
    config = load(spec)
    kinds = {name: meaning(config, name) for name in (*config.aggregates, "target/loss", "loss")}
    assert {name: (one.unit, one.direction) for name, one in kinds.items()} == {
        "a": ("nats", "minimize"),
        "b": ("", "minimize"),
        "c": ("times the base", "minimize"),
        "loss": ("", "maximize"),
        "target/loss": ("nats", "minimize"),
    }
    assert measured_by(config, "b") == ("general/loss", "general/perplexity")
    assert measured_by(config, "target/loss") == ("target/loss",)


def test_objectives_and_constraints_name_aggregates(spec: Path) -> None:
    aggregated(spec, "quality: {mean: ['*/loss']}")
    edited(spec, "objectives:", "objectives:\n  quality: minimize")
    edited(spec, '"general/loss <= 3.1"', '"quality <= 1.02 * base", general/loss <= 3.1')
    assert next(iter(load(spec).objectives)) == "quality"
    edited(spec, "  quality: minimize", "  qualty: minimize")
    edited(spec, "quality <= 1.02", "quality >= 1.02")
    assert errors_of(spec) == [
        ":22: objectives.qualty: unknown measurement qualty; did you mean quality?",
        ":25: constraints.0: 'quality >= 1.02 * base' forbids values better than the limit; write "
        "`quality <= 1.02 * base`",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "q: {mean: [target/los]}",
            "q.mean.0: unknown measurement target/los; did you mean target/loss?",
        ),
        ("q: {mean: ['*/f1']}", "q.mean.0: '*/f1' matches no measurement; there are target/loss, "),
        (
            "q: {mean: [target/loss, target/loss]}",
            "q.mean.1: target/loss is given twice; keep one of them",
        ),
        (
            "q: {max: ['*/loss', target/loss]}",
            "q.max.1: target/loss is given twice, by */loss; keep one",
        ),
        (
            "q: {mean: {'*/loss': 1, 't*': 1}}",
            "q.mean.t*: target/loss is given twice, by */loss and t*;",
        ),
        (
            "q: {mean: ['*/loss', quiz/chrf]}",
            "q.mean: target/loss is better low and quiz/chrf is better high",
        ),
        (
            "q: {mean: [q, target/loss]}",
            "q.mean.0: q is an aggregate; name the measurements themselves",
        ),
        ("q: {mean: {target/loss: 0}}", "q.mean.target/loss: must be above 0, got 0"),
        ("q: {mean: {target/loss: .inf}}", "q.mean.target/loss: must be a finite number, got inf"),
        ("q: {mean: {target/loss: lots}}", "q.mean.target/loss: needs a number, got 'lots'"),
        ("q: {mean: []}", "q.mean: must not be empty"),
        ("q: {mean: 3}", "q.mean: needs a list, got 3"),
        ("q: {mean: [1]}", "q.mean.0: needs text, got 1; put it in quotes"),
        ("q: {max: {target/loss: 1}}", "q.max: needs a list, got a mapping"),
        ("q: {}", "q: needs one of mean, max and min, got none; write for example `mean: "),
        (
            "q: {max: ['*/loss'], min: ['*/loss']}",
            "q: needs one of mean, max and min, got max and min",
        ),
        ("q: {average: ['*/loss']}", "q.average: unknown key; did you mean mean?"),
        (
            "q: {mean: ['*/loss'], relative_to: bse}",
            "q.relative_to: must be base, got 'bse'; did you mean base?",
        ),
        (
            "target/loss: {mean: ['*/loss']}",
            "target/loss: the name must be at most 100 letters, digits",
        ),
    ],
)
def test_an_error_has_its_line_its_key_and_a_remedy(spec: Path, line: str, said: str) -> None:
    found = errors_of(aggregated(spec, "fine: {min: ['*/loss']}", line))
    assert [text for text in found if text.startswith(f":29: aggregates.{said}")], found
    assert len(found) == 1


def test_of_an_evaluator_of_ones_own_every_measurement_is_named(spec: Path) -> None:
    edited(aggregated(spec, "q: {mean: ['*', b, b]}", "r: {max: [q, c]}"), "genome:", OWN)
    assert [text.split(": ", 1)[1] for text in errors_of(spec)] == [
        "aggregates.q.mean.0: '*' is a glob, and what this evaluator measures is not known before; "
        "name each measurement",
        "aggregates.q.mean.2: b is given twice; keep one of them",
        "aggregates.r.max.0: q is an aggregate; name the measurements themselves",
    ]
    edited(edited(spec, "'*', b, b", "a, b"), "[q, c]", "c")
    assert [one.name for one in aggregates(load(spec))] == ["q", "r"]


def test_early_stopping_needs_a_measurement(spec: Path) -> None:
    aggregated(spec, "target: {mean: ['*/loss']}")
    edited(spec, "objectives:", "objectives:\n  target: minimize")
    message = "stops on a measurement, and the first objective is the aggregate target; "
    message += "name a measurement first"
    assert errors_of(spec, "budget.patience=2") == [
        f"--set budget.patience=2: budget.patience: {message}"
    ]


def test_a_spec_of_before_has_no_aggregates_and_is_no_other(spec: Path) -> None:
    plain: dict[str, Any] = configuration.to_plain(load(spec))
    old = {name: value for name, value in plain.items() if name != "aggregates"}
    read = configuration.from_plain(old)
    assert read == load(spec)
    assert aggregates(read) == ()
    assert configuration.difference(configuration.to_plain(read), plain) == []
    assert list(SearchConfig.model_fields).index("aggregates") + 1 == list(
        SearchConfig.model_fields
    ).index("objectives")
