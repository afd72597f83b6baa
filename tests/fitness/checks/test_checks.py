"""Checks of answers: what each accepts, several references, commands, and bad references."""

import sys
from pathlib import Path

import pytest

from fitness.checks.own import own_check
from fitness.checks.table import CHECKS, check_references
from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.metrics import METRICS
from fitness.samples.scoring import Given, scored
from fitness.training.rewards import REWARDS, Group, rewards

SCHEMA = '{"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}}'
REMOTE = '{"$ref": "https://example.invalid/schema.json"}'


@pytest.mark.parametrize(
    ("check", "reference", "output", "value"),
    [
        ("exact_match", "a b", " A  b\n", 1),
        ("exact_match", "c d", "c, d", 0),
        ("exact_match", ("no", "a b"), "A B", 1),
        ("squad_match", "The Eiffel Tower", "eiffel tower.", 1),
        ("squad_match", "a cat", "two cats", 0),
        ("squad_match", "theme", "me", 0),  # an article only where it is a word
        ("token_f1", "the cat sat", "a cat sat down", 0.8),
        ("token_f1", "x", "", 0),
        ("token_f1", ("x y", "x"), "x", 1),
        ("numeric", "#### 1,234", "so it is 1234.0", 1),
        ("numeric", "7", "7 of 8", 0),
        ("numeric", "-3", "minus -3", 1),
        ("numeric", "0.1", "0.1000000001", 1),
        ("numeric", "1e3", "1000", 1),
        ("numeric", "3", "three", 0),
        ("regex", r"\d{4}-\d\d", " 2026-11\n", 1),
        ("regex", r"\d+", "12 a", 0),
        ("json_schema", SCHEMA, '{"age": 3}', 1),
        ("json_schema", SCHEMA, '{"age": "3"}', 0),
        ("json_schema", SCHEMA, "{", 0),
        ("json_schema", SCHEMA, "[" * 100_000, 0),
    ],
)
def test_a_check_as_a_metric_a_reward_and_a_filter(
    check: str, reference: str, output: str, value: float
) -> None:
    assert METRICS[check].function(["p"], [reference], [output]) == pytest.approx([value])
    sample = Sample("p", output, 0, 0, reference=reference)
    (found,) = scored([sample], [check], Given())
    assert found.scores[check] == pytest.approx(value)
    if isinstance(reference, str):
        group = Group("p", reference, [output], [[1]], 4, [0.0], [0.0])
        assert rewards(group, {check: 1.0}) == pytest.approx([value])


def test_a_sample_without_a_reference_has_no_score_of_a_check() -> None:
    (found,) = scored([Sample("p", "a", 0, 0)], list(CHECKS), Given())
    assert found.scores == {}
    assert CHECKS.keys() <= REWARDS.keys()


@pytest.mark.parametrize(
    ("check", "reference", "message"),
    [
        ("numeric", "none", "'none', has no number, which numeric needs"),
        ("regex", ("a", "("), "is not a regular expression"),
        ("json_schema", "{", "is not a JSON Schema"),
        ("json_schema", "1", "is not a JSON Schema: it must be an object"),
        ("json_schema", '{"type": "nothing"}', "is not a JSON Schema: 'nothing' is not valid"),
    ],
)
def test_a_reference_that_a_check_cannot_use_is_named(
    check: str, reference: str, message: str
) -> None:
    sound = {"numeric": "1"}.get(check, "{}")
    with pytest.raises(InputError, match=r"p.jsonl: the reference of prompt 2, .*") as caught:
        check_references([check, "chrf"], [sound, reference], "p.jsonl")
    assert message in str(caught.value)


def test_a_schema_elsewhere_is_not_fetched() -> None:
    with pytest.raises(InputError, match=r"refers to https://example\.invalid/schema\.json"):
        CHECKS["json_schema"](["p"], [REMOTE], ["{}"])


def test_a_command_reads_answers_and_writes_numbers(tmp_path: Path) -> None:
    program = tmp_path / "check it.py"
    program.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    one = json.loads(line)\n"
        "    print(float(one['output'] == one['reference'] + one['prompt']))\n"
    )
    name = f"command:{sys.executable} '{program}'"
    check = own_check(name, "metric")
    assert check(["\n", "é"], ["a", "b"], ["a\n", "b"]) == [1.0, 0.0]
    samples = [Sample("x", "yx", 0, 0, reference="y"), Sample("x", "y", 0, 0)]
    assert [one.scores for one in scored(samples, [name], Given())] == [
        {"command": 1.0},
        {"command": 0.0},
    ]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("", "names no program"),
        ('"', "No closing quotation"),
        ("no-such-program", "No such file"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"broken\")'", "status 1: broken"),
        (f"{sys.executable} -c 'print(\"good\")'", "must write a number for each line"),
        (f"{sys.executable} -c 'print(1); print(2)'", "gave 2 numbers for 1 samples"),
    ],
)
def test_a_command_that_fails_is_named(program: str, message: str) -> None:
    with pytest.raises(InputError, match=r"filter .command:") as caught:
        scored([Sample("p", "a", 0, 0)], [f"command:{program}"], Given())
    assert message in str(caught.value)
