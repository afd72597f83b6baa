"""The section `benchmarks` of a spec: names of measurements, and all that may be wrong with it."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from evo.config import aggregates, load
from evo.config.composition import scored_sets
from evo.record.trust import code_in
from evo.reuse.conditions import differences
from fitness.benchmarks import catalogue
from tests.evo.config.conftest import errors_of
from tests.fitness.benchmarks.tasks import FOLDER

BENCH = f"benchmarks={{bench: {{tasks: [which, prose], include: {FOLDER}}}}}"
ACC = "objectives={bench/which/acc: maximize}"


def test_measurements_of_benchmarks_are_objectives_constraints_and_in_aggregates(
    spec: Path,
) -> None:
    config = load(
        spec,
        [
            BENCH,
            "objectives={all: maximize}",
            "constraints=[bench/prose/bits_per_byte <= 1.1 * base]",
            "aggregates={all: {mean: ['bench/*/acc*']}}",
        ],
    )
    (together,) = aggregates(config)
    assert list(together.weights) == ["bench/which/acc", "bench/which/acc_norm"]
    assert (together.meaning.unit, together.meaning.direction) == ("share", "maximize")
    assert scored_sets(config) == {"bench"}


def test_a_folder_is_relative_to_the_spec_and_is_code_that_resuming_elsewhere_must_trust(
    spec: Path,
) -> None:
    (spec.parent / "mine").mkdir()
    for file in FOLDER.glob("*.yaml"):
        (spec.parent / "mine" / file.name).write_bytes(file.read_bytes())
    config = load(spec, ["benchmarks={bench: {tasks: [which], include: mine}}", ACC])
    assert config.benchmarks["bench"].include == str(spec.parent / "mine")
    (code,) = code_in(config.model_dump(mode="json"))
    assert (code.where, code.name) == ("benchmarks.bench.include", str(spec.parent / "mine"))


def test_benchmarks_alone_are_enough_to_measure(spec: Path) -> None:
    config = load(spec, [BENCH, ACC, "domains={}", "prompts={}", "constraints=[]"])
    assert not config.domains


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["objectives={bench/which/ac: maximize}"], "did you mean bench/which/acc?"),
        (["constraints=[bench/prose/loss <= 2]"], "unknown measurement bench/prose/loss"),
        (["aggregates={a: {mean: ['bench/*/f1']}}"], "'bench/*/f1' matches no measurement"),
        (["benchmarks.bench.tasks=[]"], "must not be empty"),
        (["benchmarks.bench.tasks=[which, which]"], "task 'which' is named twice"),
        (["benchmarks.bench.include=nowhere"], "there is no such folder; name one"),
        (["benchmarks.bench.limit=0"], "must be at least 1"),
        (["benchmarks.bench.fewshot=2"], "did you mean few_shot?"),
        (["evaluator=tests.evo.toy:score"], "are measured by the builtin evaluator or TRL alone"),
        (["model.task=masked", "prompts={}"], "needs a model that predicts text"),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_told(
    spec: Path, overrides: list[str], told: str
) -> None:
    found = errors_of(spec, BENCH, ACC, *overrides)
    assert any(told in line for line in found), found


def test_a_name_that_a_domain_has_is_refused(spec: Path) -> None:
    named = BENCH.replace("{bench:", "{target:")
    found = errors_of(spec, named)
    assert any("the name of a domain or a prompt set too; rename one" in line for line in found)


@pytest.mark.slow  # reads the thousands of tasks of the package
def test_an_unknown_task_is_told_with_one_that_is_near(spec: Path) -> None:
    found = errors_of(spec, BENCH, ACC, "benchmarks.bench.tasks=[hellaswga]")
    assert any("knows no task 'hellaswga'; did you mean 'hellaswag'?" in one for one in found)
    found = errors_of(spec, BENCH, ACC, "benchmarks.bench.tasks=[whic]")
    assert any("knows no task 'whic'; did you mean 'which'?" in one for one in found)


def test_a_missing_package_is_told_with_the_command_that_installs_it(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(catalogue, "version", gone)
    found = errors_of(spec, BENCH, ACC)
    assert any("needs lm-eval; pip install 'evomix[benchmarks]'" in line for line in found)


def test_scores_of_other_tasks_are_not_taken_over() -> None:
    earlier = {"search.bucket": 1, "benchmarks.a": {"few_shot": None, "tasks": {"t": "1"}}}
    now = {"search.bucket": 1, "benchmarks.a": {"few_shot": None, "tasks": {"t": "2"}}}
    assert "benchmarks.a" in differences(earlier, now)[0]
