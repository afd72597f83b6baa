from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness.data.prompts import Prompts, PromptSet
from fitness.errors import InputError
from fitness.metrics import (
    HELD_OUT,
    MEASUREMENTS,
    METRICS,
    OF_BENCHMARKS,
    distinct_n,
    measured_names,
    measurement,
    repetition,
    resolve,
    score,
)
from fitness.plugins import load_function

ASKED = Prompts(["p", "q"], ["a b", "c d"])
OWN = """
import fractions
import numpy as np

def length(prompts, references, outputs):
    return sum(map(len, outputs))

def numpy_number(prompts, references, outputs):
    return np.float32(0.5)

def text(prompts, references, outputs):
    return "good"

def truth(prompts, references, outputs):
    return True

def nothing(prompts, references, outputs):
    return float("nan")

def narrow(outputs):
    return 0.0

def chrf(prompts, references, outputs):
    return 0.0

table = {}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metrics.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("1 / 0")
    (tmp_path / "own_needy.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)


def prompt_set(*metrics: str) -> PromptSet:
    return PromptSet(selection="a.jsonl", test="b.jsonl", metrics=metrics)


def test_distinct_n_pools_the_outputs() -> None:
    assert distinct_n(["a b a", "a b"], 1) == 2 / 5
    assert distinct_n(["a b a", "a b"], 2) == 2 / 3
    assert distinct_n(["a", ""], 2) == 0.0


def test_repetition_counts_four_words_that_come_again_in_the_same_output() -> None:
    assert repetition(["a b c d e f", "x x x x x x"]) == pytest.approx([0, 2 / 3])
    assert repetition(["a b c d", "a b c d", "a b", ""]) == [0, 0, 0, 0]


def test_the_mean_length_counts_words() -> None:
    scores = score(["mean_length"], Prompts(["", ""], ["", ""]), ["a b c", ""])
    assert scores["mean_length"].value == 1.5


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_every_metric_gives_a_number_in_its_range_for_any_text(
    pairs: list[tuple[str, str]],
) -> None:
    references, outputs = map(list, zip(*pairs, strict=True))
    names = METRICS.keys() - {"regex", "json_schema"}  # whose references cannot be any text
    scores = score(names, Prompts(references, references), outputs)

    assert scores.keys() == names
    for name, one in scores.items():
        top = {"share": 1, "0 to 100": 100.0001}.get(MEASUREMENTS[name].unit, float("inf"))
        assert 0 <= one.value <= top


def test_every_metric_of_the_product_is_in_the_table() -> None:
    held_out = {name for names in HELD_OUT.values() for name in names}
    of_benchmarks = {one.name for one in OF_BENCHMARKS}
    assert METRICS.keys() | held_out | of_benchmarks == MEASUREMENTS.keys()
    assert measurement("target/loss").direction == "minimize"
    assert measurement("jargon/chrf").direction == "maximize"
    assert measurement("jargon/rhyme").direction is None


@pytest.mark.usefixtures("own")
def test_ones_own_metric_is_measured_under_its_functions_name() -> None:
    scores = score(["own_metrics:length", "own_metrics:numpy_number"], ASKED, ["xyz", ""])

    assert {name: one.value for name, one in scores.items()} == {"length": 3, "numpy_number": 0.5}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["text", "truth", "nothing"])
def test_a_metric_that_gives_no_finite_number_is_named(name: str) -> None:
    with pytest.raises(InputError, match=rf"'own_metrics:{name}': returned .* a finite number"):
        score([f"own_metrics:{name}"], ASKED, ["a", "b"])


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("chfr", r"unknown; choose one of 'chrf', .* did you mean 'chrf'"),
        ("own_metrics:lenght", r"own_metrics has no 'lenght', it has .* did you mean 'length'"),
        ("own_metric:length", r"no module 'own_metric'; did you mean 'own_metrics'.*PYTHONPATH"),
        ("fitness.nowhere:length", r"no module 'fitness.nowhere'"),
        ("own_metrics:table", "is a dict; it must be a function"),
        ("own_metrics:narrow", "cannot be called with prompts, references, outputs"),
        ("own_broken:length", "importing own_broken failed: ZeroDivisionError"),
        ("own_needy:length", "importing own_needy failed: No module named 'no_such_module_at_all'"),
        ("own_metrics:", "must look like module:function"),
        (":length", "must look like module:function"),
        (".own:length", "must look like module:function"),
    ],
)
def test_a_metric_that_cannot_be_resolved_says_why(metric: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(metric)


def test_a_function_is_loaded_for_others_under_their_own_name() -> None:
    assert load_function("math:sqrt", "evaluator")(9) == 3
    with pytest.raises(InputError, match=r"^evaluator 'math:squrt': .* did you mean 'sqrt'"):
        load_function("math:squrt", "evaluator")


@pytest.mark.usefixtures("own")
def test_what_will_be_measured_is_known_before_the_run() -> None:
    names = measured_names(
        {"target": "text", "pairs": "preference"},
        {"jargon": prompt_set("chrf", "own_metrics:length")},
    )

    assert names == [
        "target/loss",
        "target/perplexity",
        "pairs/loss",
        "pairs/perplexity",
        "pairs/accuracy",
        "jargon/chrf",
        "jargon/length",
    ]


@pytest.mark.usefixtures("own")
def test_two_measurements_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="'jargon/chrf': measured twice"):
        measured_names({}, {"jargon": prompt_set("chrf", "own_metrics:chrf")})


def test_an_unknown_metric_of_a_prompt_set_is_refused_before_the_run() -> None:
    with pytest.raises(InputError, match="'chfr': unknown"):
        measured_names({"target": "text"}, {"jargon": prompt_set("chfr")})
