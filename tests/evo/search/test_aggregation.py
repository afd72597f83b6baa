"""Searches with aggregates, without Ray: their values, when they are known, and what they lack."""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo import config as configuration
from evo.cluster.queue import ClusterError
from evo.config import SearchConfig, load
from evo.record.artifacts import Artifacts
from evo.record.ledger import Ledger
from evo.search.aggregation import aggregated
from evo.search.decisions import Decisions
from evo.search.loop import evolve
from evo.search.requests import Requests, StopRequests
from evo.significance import Sample
from fitness.cost import cost_of
from fitness.errors import InputError
from fitness.evaluate.items import items
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from tests.evo import toy
from tests.evo.facts import read
from tests.evo.search.test_loop import InProcess, outcome, search
from tests.evo.toy import write_spec

MEAN = "quality: {mean: [target, general]}"
RELATIVE = "quality: {mean: {target: 2, general: 1}, relative_to: base}"
WORST = "worst: {max: [target, general], relative_to: base}"


def with_aggregates(folder: Path, *lines: str, limit: str = "quality <= 3.4", **more: Any) -> Path:
    """The toy spec with aggregates, of which `quality` is the first objective."""
    spec = write_spec(folder, **more)
    text = spec.read_text().replace("objectives: {target:", "objectives: {quality:")
    text = text.replace("[general <= 2.9]", f"[{limit}]")
    spec.write_text(text + "aggregates:\n" + "".join(f"  {line}\n" for line in lines))
    return spec


def precomputed(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    """The toy's measurements, and their aggregate as one of them."""
    found = toy.score(recipe, seed=seed, fidelity=fidelity, split=split)
    return {**found, "quality": float(np.mean(list(found.values())))}


@pytest.fixture
def task() -> Task:
    return Task("tests.evo.toy:score")


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [fact for fact in read(run) if fact["fact"] == "evaluation" and fact["status"] == "ok"]


def test_a_search_by_an_aggregate_is_the_search_by_its_numbers(tmp_path: Path, task: Task) -> None:
    spec = with_aggregates(tmp_path, MEAN, evaluations=12)
    first = search(tmp_path / "a", spec, InProcess(task))
    text = spec.read_text().split("aggregates:")[0]
    spec.write_text(text.replace("tests.evo.toy:score", f"{__name__}:precomputed"))
    second = search(tmp_path / "b", spec, InProcess(Task(f"{__name__}:precomputed")))
    runs = [outcome(tmp_path / name) for name in "ab"]
    a, b = ([fact for fact in facts if "Traceback" not in fact] for facts in runs)  # of the toy
    assert a == b
    assert len(a) > 12
    assert first == second
    found = evaluations(tmp_path / "a")
    assert {fact["split"] for fact in found} == {"selection", "test"}
    assert all(list(fact["measurements"]) == ["target", "general", "quality"] for fact in found)


@pytest.mark.parametrize("schedule", ["clock", "asynchronous"])
def test_relative_to_the_base_is_its_quotient_on_each_split(
    tmp_path: Path, task: Task, schedule: str
) -> None:
    limit = "quality <= 1.1, worst <= 1.4 * base"
    spec = with_aggregates(tmp_path, RELATIVE, WORST, limit=limit, schedule=schedule)
    search(tmp_path / "a", spec, InProcess(task, random.Random(0), size=4))
    found = evaluations(tmp_path / "a")
    for split in ("selection", "test"):
        base, *others = (fact["measurements"] for fact in found if fact["split"] == split)
        assert (base["target"], base["general"]) == (5.0, 2.0)  # recorded before any other
        assert (base["quality"], base["worst"]) == (1.0, 1.0)
        for one in others:
            quotients = [one["target"] / 5, one["general"] / 2]
            assert one["quality"] == pytest.approx(np.average(quotients, weights=[2, 1]))
            assert one["worst"] == max(quotients)


def test_relative_aggregates_are_the_same_on_any_workers_and_after_any_kill(
    tmp_path: Path, task: Task
) -> None:
    spec = with_aggregates(tmp_path, RELATIVE, WORST, limit="quality <= 1.1", evaluations=8)
    search(tmp_path / "whole", spec, InProcess(task, size=1))
    wanted = outcome(tmp_path / "whole")
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines), 2):
        run = tmp_path / f"cut-{number}"
        run.mkdir()
        (run / "ledger.jsonl").write_bytes(b"".join(lines[:number]))
        search(run, spec, InProcess(task, random.Random(number), size=8))
        assert outcome(run) == wanted


def test_equal_genomes_share_an_evaluation_with_its_aggregates(tmp_path: Path, task: Task) -> None:
    spec = with_aggregates(tmp_path, RELATIVE, limit="quality <= 1.1", evaluations=8)
    alike = "{mixture: {a: 1, b: 0, c: 0}, rate: 0.01, kind: x}"
    spec.write_text(spec.read_text() + f"known: [{alike}, {alike}]\n")
    search(tmp_path / "a", spec, InProcess(task))
    found = evaluations(tmp_path / "a")
    (copied, *_) = [fact for fact in found if "same_as" in fact["details"]]
    (first, *_) = [
        fact
        for fact in found
        if fact["individual"] == copied["details"]["same_as"] and fact["fidelity"] == 1
    ]
    assert copied["measurements"] == first["measurements"]
    assert list(copied["measurements"]) == ["target", "general", "quality"]


def untouched_at(value: float) -> Any:
    def measure(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, float]:
        return {"target": 1.0, "general": 2.0 if fidelity else value}

    return measure


zero, below = untouched_at(0.0), untouched_at(-1.0)


@pytest.mark.parametrize(("function", "value"), [("zero", "0"), ("below", "-1")])
def test_nothing_is_divided_by_a_base_of_0_or_less(
    tmp_path: Path, function: str, value: str
) -> None:
    spec = with_aggregates(tmp_path, RELATIVE)
    cluster = InProcess(Task(f"{__name__}:{function}"), random.Random(0), size=8)
    with pytest.raises(InputError) as raised:
        search(tmp_path / "a", spec, cluster)
    assert str(raised.value) == (
        "aggregates.quality: relative_to divides by what the untouched base has, which must be "
        f"above 0, but its general on the selection split is {value}; leave out relative_to, or "
        "general"
    )
    assert cluster.asked == [(0, 0, 0.0, "selection")]  # and nothing else was begun


@pytest.mark.parametrize(
    ("aggregate", "said"),
    [
        (
            "quality: {mean: [target, genral]}",
            "aggregate quality: genral was not measured, only target, general; did you mean "
            "general?",
        ),
        (
            "target: {mean: [general]}",
            "aggregate target: a measurement has this name already; rename the aggregate",
        ),
    ],
)
def test_an_aggregate_that_cannot_be_made_of_what_is_measured_stops_at_the_base(
    tmp_path: Path, task: Task, aggregate: str, said: str
) -> None:
    spec = write_spec(tmp_path)
    spec.write_text(spec.read_text() + f"aggregates:\n  {aggregate}\n")
    with pytest.raises(ClusterError) as raised:
        search(tmp_path / "a", spec, InProcess(task))
    assert str(raised.value) == f"the untouched base could not be evaluated (error): {said}"


def config_of(folder: Path, *lines: str) -> SearchConfig:
    return load(with_aggregates(folder, *lines))


def measured(config: SearchConfig, base: Mapping[str, float] | None = None, **values: float) -> Any:
    one = Evaluation(EvaluationSpec(1, {}, 0), Status.OK, values)
    return aggregated(config, one, base or {})


def test_an_evaluation_without_a_finite_aggregate_has_failed(tmp_path: Path) -> None:
    config = config_of(tmp_path, RELATIVE)
    base = {"target": 1.0, "general": 1e-300}
    absent = measured(config, base, target=1.0)
    assert (absent.status, absent.message) == (
        Status.ERROR,
        "aggregate quality: general was not measured, only target",
    )
    for values in ({"target": 1.0, "general": 1e300}, {"target": 1.7e308, "general": 1e8}):
        huge = measured(config, base, **values)
        assert (huge.status, huge.message) == (
            Status.ERROR,
            "aggregate quality: is inf, which is not finite",
        )
    assert measured(config, base, target=1.0, general=1e-300).measurements["quality"] == 1.0


def test_failures_and_generated_samples_have_no_aggregates(tmp_path: Path) -> None:
    config = config_of(tmp_path, MEAN)
    for one in (
        Evaluation(EvaluationSpec(1, {}, 0), Status.DIVERGED, message="loss is nan"),
        Evaluation(EvaluationSpec(1, {}, 0, split="samples"), Status.OK),
    ):
        assert aggregated(config, one) == one


def test_an_evaluation_of_an_earlier_round_has_them_once(tmp_path: Path, task: Task) -> None:
    """Aggregates are made of its measurements again, here by a base that has changed."""
    spec = with_aggregates(tmp_path, RELATIVE, WORST, limit="quality <= 1.1", evaluations=6)
    config, run = load(spec), tmp_path / "run"
    header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
    Ledger.create(run, header).close()

    def earlier(wanted: EvaluationSpec) -> Evaluation | None:
        if wanted.split != "selection":
            return None
        values = {"target": 4.0, "general": 2.0, "quality": 99.0, "worst": 98.0}
        details = {"items": {"quality": items("text", [1.0, 2.0])}}
        return Evaluation(replace(wanted, recipe={}), Status.OK, values, details=details)

    with Ledger(run) as ledger:
        decisions = Decisions(config, ledger)
        cluster: Any = InProcess(task)
        asked = StopRequests()
        requests = Requests(config, ledger, cluster, decisions.individual, asked, earlier)
        cost = cost_of(Task(config.evaluator))
        evolve(config, {}, cost, decisions, requests, Artifacts(run / "artifacts"))
    assert cluster.asked == []
    wanted = {"target": 4.0, "general": 2.0, "quality": 1.0, "worst": 1.0}
    assert [fact["measurements"] for fact in evaluations(run)] == [wanted] * 7
    assert all("quality" not in fact["details"]["items"] for fact in evaluations(run))


def test_scores_by_item_of_a_mean_are_recorded_and_of_a_maximum_are_not(tmp_path: Path) -> None:
    config = config_of(tmp_path, RELATIVE, WORST)
    details = {
        "items": {
            "target": items("document", [2.0, 4.0, 9.0], [1.0, 2.0, 3.0]),
            "general": items("document", [1.0, 2.0, 2.0, 7.0]),
        }
    }
    spec, values = EvaluationSpec(1, {}, 0), {"target": 2.5, "general": 3.0}
    base = {"target": 5.0, "general": 2.0}
    found = aggregated(config, Evaluation(spec, Status.OK, values, details=details), base).details
    assert list(found["items"]) == ["target", "general", "quality"]
    target, general, quality = (Sample.of(found, name) for name in found["items"])
    assert target is not None
    assert general is not None
    assert quality is not None
    assert (quality.unit, quality.count) == ("document", 7)
    assert quality.value == pytest.approx((2 * 2.5 / 5 + 3.0 / 2) / 3, rel=1e-5)
    assert quality.error() == pytest.approx(
        np.hypot(2 / 3 / 5 * target.error(), 1 / 3 / 2 * general.error()), rel=1e-5
    )
    one_absent = {"items": {"target": details["items"]["target"]}}
    evaluation = Evaluation(spec, Status.OK, values, details=one_absent)
    assert aggregated(config, evaluation, base).details == one_absent
