"""Simulated mixtures in the loop: what is asked, recorded and learned, and what a resume makes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.config import SearchConfig
from evo.config.search import Search
from evo.planning.experts import MIXTURES, settled
from evo.record.ledger import Ledger
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from tests.evo.facts import read
from tests.evo.search.test_loop import InProcess, outcome, search

SPEC = """\
name: small
model: {base: quickstart}
sources: {a: {path: a.txt}, b: {path: b.txt}, c: {path: c.txt}}
domains: {held: {selection: {path: a.txt}, test: {path: b.txt}}}
recipe: {learning_rate: 1e-3}
genome:
  mixture: {type: simplex}
  learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}
objectives: {held/loss: minimize}
constraints: [held/perplexity <= 1.2 * base]
baselines: [uniform]
search: {parallel: 2, population: 6, replicates: 1}
budget: {evaluations: 12, tokens: 1536}
comparison: {seeds: 1}
"""
BEST = {"a": 0.5, "b": 0.3, "c": 0.2}


class Formula:
    """In place of a worker's evaluator: a loss by the mixture, of which sums know nearly all."""

    def __init__(self, broken: tuple[str, ...] = (), simulates: bool = True) -> None:
        self._broken = broken
        self._simulates = simulates

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        if spec.simulation is not None:
            if not self._simulates:
                return failed(spec, Status.OUT_OF_MEMORY, "too large")
            assert spec.scored == {"held"}
            assert {(one.seed, one.fidelity) for one in spec.ancestors} == {(0, 0.25)}
            scores = [measured(mixture, 0.1) for mixture in spec.simulation.mixtures]
            return Evaluation(spec, Status.OK, details={"scores": scores})
        shares = spec.recipe["mixture"]
        if spec.fidelity and any(shares[name] == 1 for name in self._broken):
            return failed(spec, Status.DIVERGED, "broken on purpose")
        details: dict[str, Any] = {"cumulative_tokens": {}, "items": {}}
        found = measured(shares, 0.0)
        if spec.scored is None:
            found["other/loss"] = 1.0
        return Evaluation(spec, Status.OK, found, details=details)


def measured(shares: Mapping[str, float], more: float) -> dict[str, float]:
    loss = 3 + more + sum((shares.get(name, 0.0) - best) ** 2 for name, best in BEST.items())
    return {"held/loss": loss, "held/perplexity": 20.0}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    for name in BEST:
        (tmp_path / f"{name}.txt").write_text("text\n")
    path = tmp_path / "search.yaml"
    path.write_text(SPEC)
    return path


def cluster(**formula: Any) -> InProcess:
    found = InProcess(Task("tests.evo.toy:score"))
    found._evaluator = Formula(**formula)  # type: ignore[assignment]
    return found


def cost(recipe: Mapping[str, object], fidelity: float) -> float:
    return 0.1 + fidelity


def test_the_first_individual_bred_after_it_is_near_the_best_mixture(
    tmp_path: Path, spec: Path
) -> None:
    winner = search(tmp_path / "run", spec, cluster(), cost=cost)
    facts = read(tmp_path / "run")
    bred = [fact for fact in facts if fact["fact"] == "individual"]
    assert [one["operator"] for one in bred[:4]] == [
        *("expert: a", "expert: b", "expert: c", "anchor: uniform")
    ]
    done = [fact for fact in facts if fact["fact"] == "simulation"]
    assert sum(len(fact["mixtures"]) for fact in done) == MIXTURES[0]
    assert all(fact["experts"] == [0, 1, 2] for fact in done)
    after = next(one for one in bred if one["operator"].startswith("simulated"))
    assert after["id"] <= 7
    assert set(after["parents"]) >= {0, 1, 2}
    mixture: Any = after["genome"]["mixture"]
    assert sum((mixture[name] - best) ** 2 for name, best in BEST.items()) < 0.01
    mixture = winner.genome["mixture"]
    assert sum((mixture[name] - best) ** 2 for name, best in BEST.items()) < 0.002


class Short(Formula):
    """Experts that have not come as far as fine-tunes: all of them and their sums miss the limit.

    `a` has the lowest loss and the highest perplexity.
    """

    def evaluate(self, spec: EvaluationSpec) -> Evaluation:
        behind = 8.0 if spec.simulation or spec.fidelity < 1 else 0.0

        def scored(shares: Mapping[str, float]) -> dict[str, float]:
            a = shares.get("a", 0.0)
            return {"held/loss": 4 - a, "held/perplexity": 20.0 + behind + 8 * a}

        if spec.simulation:
            scores = [scored(mixture) for mixture in spec.simulation.mixtures]
            return Evaluation(spec, Status.OK, details={"scores": scores})
        found = scored(spec.recipe["mixture"]) if spec.fidelity else {"held/perplexity": 20.0}
        details: dict[str, Any] = {"cumulative_tokens": {}, "items": {}}
        return Evaluation(spec, Status.OK, {"held/loss": 5.0, **found}, details=details)


def test_where_no_expert_meets_the_constraints_sums_cover_the_front(
    tmp_path: Path, spec: Path
) -> None:
    cluster = InProcess(Task("tests.evo.toy:score"))
    cluster._evaluator = Short()  # type: ignore[assignment]
    winner = search(tmp_path / "run", spec, cluster, cost=cost)
    facts = read(tmp_path / "run")
    done = [fact for fact in facts if fact["fact"] == "simulation"]
    shares = [one.get("a", 0.0) for fact in done for one in fact["mixtures"]][8:]
    assert min(shares) < 0.1
    assert max(shares) > 0.8
    assert sum(0.2 < one < 0.8 for one in shares) >= 4
    mixture: Any = winner.genome["mixture"]
    assert 0.35 < mixture["a"] <= 0.5 + 1e-9, "the limit, of 1.2 * base, is met at .5"


def test_experts_and_sums_are_scored_by_what_the_search_needs_alone(
    tmp_path: Path, spec: Path
) -> None:
    more = "other: {selection: {path: a.txt}, test: {path: b.txt}}}"
    text = SPEC.replace("path: b.txt}}}", "path: b.txt}}, " + more)
    spec.write_text(text + "aggregates: {both: {mean: [held/loss, other/loss]}}\n")
    search(tmp_path / "run", spec, cluster(), cost=cost)
    facts = read(tmp_path / "run")
    done = [fact for fact in facts if fact["fact"] == "evaluation" and fact["split"] == "selection"]
    whole = {"held/loss", "held/perplexity", "other/loss", "both"}
    assert {(one["fidelity"], frozenset(one["measurements"])) for one in done} == {
        (0.0, frozenset(whole)),
        (0.25, frozenset({"held/loss", "held/perplexity"})),
        (1.0, frozenset(whole)),
    }
    simulated = [fact for fact in facts if fact["fact"] == "simulation"]
    assert simulated
    assert all(
        set(one) == {"held/loss", "held/perplexity"} for f in simulated for one in f["scores"]
    )


def test_a_resume_after_any_fact_ends_the_same(tmp_path: Path, spec: Path) -> None:
    search(tmp_path / "whole", spec, cluster(), cost=cost)
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for cut in range(2, len(lines), 7):
        run = tmp_path / f"cut {cut}"
        run.mkdir()
        (run / "ledger.jsonl").write_bytes(b"".join(lines[:cut]))
        search(run, spec, cluster(), cost=cost)
        assert outcome(run) == outcome(tmp_path / "whole")


def test_other_mixtures_under_the_same_number_stop_a_resume(tmp_path: Path, spec: Path) -> None:
    search(tmp_path / "run", spec, cluster(), cost=cost)
    launch, *facts = read(tmp_path / "run")
    with Ledger.create(tmp_path / "other", launch) as ledger:
        for fact in facts[: facts.index(next(f for f in facts if f["fact"] == "winner"))]:
            if fact["fact"] == "simulation" and fact["number"] < 2:
                fact["number"] = 1 - fact["number"]
            ledger.append(**fact)
    with pytest.raises(InputError, match="simulation 0 differs from the one recorded"):
        search(tmp_path / "other", spec, cluster(), cost=cost)


def test_a_failed_expert_is_left_out_and_without_two_nothing_is_simulated(
    tmp_path: Path, spec: Path
) -> None:
    search(tmp_path / "one", spec, cluster(broken=("b",)), cost=cost)
    done = [fact for fact in read(tmp_path / "one") if fact["fact"] == "simulation"]
    assert done
    assert all(fact["sources"] == ["a", "c"] for fact in done)
    search(tmp_path / "two", spec, cluster(broken=("a", "b")), cost=cost)
    assert not [fact for fact in read(tmp_path / "two") if fact["fact"] == "simulation"]


def test_a_simulation_that_fails_costs_the_search_nothing_else(tmp_path: Path, spec: Path) -> None:
    search(tmp_path / "run", spec, cluster(simulates=False), cost=cost)
    facts = read(tmp_path / "run")
    statuses = {fact["status"] for fact in facts if fact["fact"] == "simulation"}
    assert statuses == {"out_of_memory"}
    assert len([fact for fact in facts if fact["fact"] == "individual"]) == 3 + 11


def test_more_is_simulated_where_scoring_is_cheap_beside_training(spec: Path) -> None:
    config = configuration.load(spec)
    budget = config.budget.model_copy(update={"evaluations": 40})
    config = config.model_copy(update={"budget": budget})

    def found(scoring: float, spec: SearchConfig = config) -> object:
        return settled(spec, lambda recipe, fidelity: scoring + fidelity).search.simulate

    assert [found(scoring) for scoring in (1.0, 0.05, 0.001)] == [MIXTURES[0], 84, MIXTURES[1]]
    search = config.search.model_copy(update={"simulate": 5})
    assert found(1.0, config.model_copy(update={"search": search})) == 5
    assert found(1.0, config.model_copy(update={"search": none(search)})) == "off"


def none(search: Search) -> Search:
    return search.model_copy(update={"simulate": "off"})


def test_a_number_where_nothing_can_be_simulated_is_an_error_that_says_why(spec: Path) -> None:
    settings = ["search.simulate=20", "search.strategy=nsga2"]
    with pytest.raises(InputError, match=r"search.simulate: 20, but .*\(search.strategy: nsga2"):
        settled(configuration.load(spec, settings), cost)


def test_a_larger_budget_on_a_resume_simulates_nothing_more(tmp_path: Path, spec: Path) -> None:
    settings = settled(configuration.load(spec), cost).search.simulate
    larger = settled(configuration.load(spec, ["budget.evaluations=400"]), cost).search.simulate
    assert larger != settings
    run = tmp_path / "run"
    spec.write_text(SPEC.replace("replicates: 1", f"replicates: 1, simulate: {settings}"))
    search(run, spec, cluster(), cost=cost)
    before = [fact for fact in read(run) if fact["fact"] in ("individual", "simulation")]
    spec.write_text(spec.read_text().replace("evaluations: 12", "evaluations: 20"))
    search(run, spec, cluster(), cost=cost)
    after = [fact for fact in read(run) if fact["fact"] in ("individual", "simulation")]
    assert after[: len(before)] == before
    assert len(after) == len(before) + 8
