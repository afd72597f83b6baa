"""Files and folders that a spec names and that do not exist: told at their lines, with the rest."""

from pathlib import Path

import pytest

from evo.cli import BAD_INPUT, main
from evo.config import ConfigError, load
from tests.evo.config.conftest import SPEC, edited, errors_of, written

FILES = (
    "jargon.jsonl",
    "texts/devil.txt",
    "held_out.jsonl",
    "general/selection.jsonl",
    "general/test.jsonl",
    "quiz.jsonl",
    "quiz.test.jsonl",
)


@pytest.fixture
def whole(spec: Path) -> Path:
    """A spec whose files exist, empty."""
    for name in FILES:
        (spec.parent / name).parent.mkdir(exist_ok=True)
        (spec.parent / name).touch()
    return spec


def missing(path: Path, *overrides: str) -> list[str]:
    """The lines of the error screen, the file's name cut off."""
    with pytest.raises(ConfigError) as raised:
        load(path, overrides, existing=True)
    return [line.removeprefix(str(path)) for line in str(raised.value).splitlines()]


@pytest.mark.parametrize(
    ("file", "line", "key"),
    [
        ("jargon.jsonl", 4, "sources.jargon.path"),
        ("texts/devil.txt", 5, "sources.devil.path"),
        ("held_out.jsonl", 8, "domains.target.path"),
        ("general/selection.jsonl", 10, "domains.general.selection.path"),
        ("general/test.jsonl", 11, "domains.general.test.path"),
        ("quiz.jsonl", 13, "prompts.quiz.selection"),
        ("quiz.test.jsonl", 13, "prompts.quiz.test"),
    ],
)
def test_a_missing_file_is_told_at_its_line(whole: Path, file: str, line: int, key: str) -> None:
    load(whole, existing=True)
    gone = whole.parent / file
    gone.rename(gone.with_name(f"{gone.name}x"))
    [error] = missing(whole)
    assert error == (
        f":{line}: {key}: {gone}: there is no {gone.name!r} in {gone.parent}; did you mean "
        f"'{gone.name}x'?"
    )
    load(whole)  # reading a spec alone needs none of its files


def test_models_parts_and_prompts_of_rounds_are_looked_for(whole: Path) -> None:
    edited(whole, "{base: quickstart}", "{base: ./mine}")
    rounds = "rounds: {prompts: gone.jsonl, second: ./other, filters: [likelihood]}\n"
    written(whole, whole.read_text() + rounds)
    base, prompts, second = missing(whole)
    assert f":2: model.base: {whole.parent / 'mine'}: there is no 'mine' in" in base
    assert ":27: rounds.prompts: " in prompts
    assert ":27: rounds.second: " in second
    edited(whole, "{base: ./mine}", "{base: owner/model}")
    assert len(missing(whole)) == 2, "a Hub id is no path"
    text = SPEC[: SPEC.index("sources:")] + "parts: {code: code}\n"
    parts = "prompts:" + SPEC.partition("prompts:")[2].replace("tokens: 1e5", "tokens: 0")
    domains = "domains:" + SPEC.partition("domains:")[2].partition("prompts:")[0]
    written(whole, text + domains + parts)
    [part] = missing(whole, "baselines=[uniform]", "genome={merge_density: {type: float, low: 0.1, "
                     "high: 1}}", "recipe={}")  # fmt: skip
    assert f":3: parts.code: {whole.parent / 'code'}: there is no 'code' in" in part


def test_errors_of_keys_hide_no_missing_file_and_the_other_way_round(spec: Path) -> None:
    edited(spec, "path: jargon.jsonl", "path: jargon.jsonl, kind: txt")
    edited(spec, "search: {population: 6}", "search: {populaton: 6}")
    edited(spec, "prompts:\n", "prompts:\n  worse: {selection: none.jsonl}\n")
    lines = missing(spec)
    assert {":".join(line.split(":")[1:3]) for line in lines} == {
        "4: sources.jargon.path",
        "4: sources.jargon.kind",
        "5: sources.devil.path",
        "8: domains.target.path",
        "10: domains.general.selection.path",
        "11: domains.general.test.path",
        "13: prompts.worse.selection",
        "13: prompts.worse.test",
        "14: prompts.quiz.selection",
        "14: prompts.quiz.test",
        "26: search.populaton",
    }
    assert len(errors_of(spec)) == 3


def test_an_override_with_a_missing_file_is_named(whole: Path) -> None:
    given = "sources.jargon.path=jagon.jsonl"
    [error] = missing(whole, given)
    assert error.startswith(f"--set {given}: sources.jargon.path: ")
    assert error.endswith("did you mean 'jargon.jsonl'?")


def test_files_that_an_evaluator_of_ones_own_does_not_read_may_be_missing(spec: Path) -> None:
    load(spec, ["evaluator=math:sqrt", "baselines=[uniform]"], existing=True)
    lines = missing(spec, "evaluator={command: [ls], data: jsonl}", "prompts={}")
    assert {line.split(": ")[1] for line in lines} == {"sources.jargon.path", "sources.devil.path"}


@pytest.mark.parametrize("more", [["--dry-run"], ["--run", "never"]])
def test_a_launch_names_missing_files_by_line(
    spec: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", str(spec), *more]) == BAD_INPUT
    assert f"{spec}:4: sources.jargon.path: " in capsys.readouterr().err
    assert not Path("never").exists()
