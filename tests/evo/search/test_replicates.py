"""Evaluating again under other seeds: who is, in which slots, and that no lucky draw wins."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo import config as configuration
from evo import history
from evo.search.replicates import Noise, closing, seed_of
from fitness.evaluation import Evaluation, Task
from tests.evo.facts import read
from tests.evo.search.test_loop import InProcess, outcome, search
from tests.evo.toy import score, write_spec


def unlike(recipe: Any, *, seed: int) -> float:
    """A number in [0, 1) that looks random, of a recipe and a seed."""
    text = repr((recipe["rate"], recipe["mixture"], seed)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") / 2**32


def lucky(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    """One individual in ten draws a far better target, under its first seed."""
    values = score(recipe, seed=0, fidelity=fidelity, split=split)
    luck = fidelity == 1 and seed == 0 and unlike(recipe, seed=seed) < 0.1
    return {**values, "target": values["target"] - 3 * luck}


def noisy(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    values = score(recipe, seed=0, fidelity=fidelity, split=split)
    return {**values, "target": values["target"] + 0.3 * unlike(recipe, seed=seed)}


def spec_of(folder: Path, evaluator: str, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    spec = write_spec(folder, **settings)
    spec.write_text(
        spec.read_text()
        .replace("tests.evo.toy:score", f"tests.evo.search.test_replicates:{evaluator}")
        .replace("[x, y, broken]", "[x, y]")
    )
    return spec


def searched(folder: Path, evaluator: str, **settings: Any) -> tuple[Any, list[Any]]:
    """The winner and the facts of a search."""
    spec = spec_of(folder, evaluator, **settings)
    winner = search(
        folder / "run", spec, InProcess(Task(f"tests.evo.search.test_replicates:{evaluator}"))
    )
    return winner, read(folder / "run")


def test_a_lucky_draw_wins_unless_it_is_drawn_again(tmp_path: Path) -> None:
    once, _ = searched(tmp_path / "once", "lucky", evaluations=40, replicates=1)
    assert once.losses[0] < 2.5
    winner, _ = searched(tmp_path / "thrice", "lucky", evaluations=40)
    assert winner.seeds == 3
    assert winner.losses[0] > 3


def test_the_winner_and_only_means_of_as_many_seeds_compete_for_it(tmp_path: Path) -> None:
    winner, facts = searched(tmp_path, "noisy", evaluations=40)
    scores = history.scores(facts)
    full = scores.query("seeds == 3 and violation == 0")
    assert len(full) >= 2
    assert winner.id == full.sort_values("losses.target")["individual"].iloc[0]
    assert winner.losses[0] == pytest.approx(full["losses.target"].min(), abs=1e-12)
    assert history.best(facts) == history.winner(facts) == winner.id
    assert history.status(facts)["done"] == 40


def test_replicates_count_against_the_budget_and_share_their_seeds(tmp_path: Path) -> None:
    _, facts = searched(tmp_path, "noisy", evaluations=40)
    born = [f for f in facts if f["fact"] == "individual"]
    again = [f for f in facts if f["fact"] == "repeat"]
    assert len(born) + len(again) == 40
    assert {f["slot"] for f in again} | {f["id"] for f in born} == set(range(40))
    assert {f["slot"] for f in again} >= set(range(36, 40))  # the closing slots
    assert {f["seed"] for f in again} == {1000, 2000}
    tested = {f["seed"] for f in facts if f["fact"] == "evaluation" and f["split"] == "test"}
    assert tested == {1, 2}


def test_without_noise_the_leader_alone_is_doubted(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "lucky", evaluations=100)
    plain = "tests.evo.search.test_replicates:noiseless"
    spec.write_text(spec.read_text().replace("tests.evo.search.test_replicates:lucky", plain))
    search(tmp_path / "run", spec, InProcess(Task(plain)))
    again = [f["slot"] for f in read(tmp_path / "run") if f["fact"] == "repeat"]
    assert len(again) <= 10 + 3


def noiseless(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    return score(recipe, seed=0, fidelity=fidelity, split=split)


class ByItem(InProcess):
    """Evaluations that come with scores by held-out item, as those of models do.

    The items of an individual differ from those of another by much more than their means.
    """

    def poll(self, seconds: float) -> list[Any]:
        results = []
        for result in super().poll(seconds):
            scored = isinstance(result, Evaluation) and "target" in result.measurements
            if isinstance(result, Evaluation) and scored and result.spec.fidelity:
                target = result.measurements["target"]
                noise = random.Random(result.spec.individual).choices((-4, 4), k=30)
                sums = [target + by - sum(noise) / 30 for by in noise]
                item = {"unit": "document", "count": 30, "sums": sums}
                result = replace(result, details={"items": {"target": item}})
            results.append(result)
        return results


def test_contenders_whom_the_held_out_sample_cannot_tell_apart_are_evaluated_again(
    tmp_path: Path,
) -> None:
    named = "tests.evo.search.test_replicates:noiseless"
    again = {}
    for cluster in (InProcess, ByItem):
        spec = spec_of(tmp_path / cluster.__name__, "noiseless", evaluations=60)
        run = tmp_path / cluster.__name__ / "run"
        search(run, spec, cluster(Task(named)))
        again[cluster] = [f["individual"] for f in read(run) if f["fact"] == "repeat"][:-6]
    assert len(set(again[ByItem])) > len(set(again[InProcess]))


def test_a_ledger_without_scores_by_item_is_replayed_as_it_was_recorded(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "noisy", evaluations=24)
    task = Task("tests.evo.search.test_replicates:noisy")
    search(tmp_path / "run", spec, InProcess(task))
    before = read(tmp_path / "run")
    resumed = ByItem(task)
    search(tmp_path / "run", spec, resumed)
    assert read(tmp_path / "run") == before
    assert not resumed.asked
    ledger = tmp_path / "run" / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:30]))  # killed on the way, and resumed by this version
    search(tmp_path / "run", spec, ByItem(task))
    assert read(tmp_path / "run")[:30] == before[:30]
    assert history.status(read(tmp_path / "run"))["done"] == 24


def test_a_larger_budget_goes_on_after_the_closing_slots(tmp_path: Path) -> None:
    task = Task("tests.evo.search.test_replicates:noisy")
    for schedule in ("clock", "generational", "asynchronous"):
        settings = {"evaluations": 20, "schedule": schedule}
        spec = spec_of(tmp_path / schedule, "noisy", **settings)
        run = tmp_path / schedule / "run"
        search(run, spec, InProcess(task, random.Random(0)))
        before = read(run)
        spec.write_text(spec.read_text().replace("evaluations: 20", "evaluations: 30"))
        search(run, spec, InProcess(task, random.Random(1)))
        assert read(run)[: len(before)] == before
        wanted = outcome(run)
        search(run, spec, InProcess(task))
        assert outcome(run) == wanted
        assert history.status(read(run))["done"] == 30


def test_a_budget_of_one_population_leaves_no_room_for_replicates(tmp_path: Path) -> None:
    winner, facts = searched(tmp_path, "noisy", evaluations=6)
    assert winner.seeds == 1
    assert not [f for f in facts if f["fact"] == "repeat"]


@pytest.mark.parametrize(
    ("evaluations", "replicates", "slots"),
    [(6, 3, 0), (7, 3, 1), (10, 3, 2), (60, 3, 6), (100_000, 3, 16), (60, 1, 0), (60, 20, 19)],
)
def test_closing_slots(tmp_path: Path, evaluations: int, replicates: int, slots: int) -> None:
    spec = write_spec(tmp_path, evaluations=evaluations, replicates=replicates)
    assert closing(configuration.load(spec)) == slots


def test_a_replicate_has_the_same_seed_for_everybody_and_none_of_the_comparison(
    tmp_path: Path,
) -> None:
    config = configuration.load(write_spec(tmp_path), ["seed=7", "comparison.seeds=999"])
    seeds = [seed_of(config, replicate) for replicate in range(100)]
    assert seeds[:3] == [7, 1007, 2007]
    assert not set(seeds) & set(range(8, 8 + config.comparison.seeds))


def test_every_baseline_is_evaluated_before_anybody_is_again(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "noisy", evaluations=24)
    named = "[uniform, only a, only b, only c]"
    text = spec.read_text().replace("baselines: []", f"baselines: {named}")
    text = text.replace("genome:", "recipe: {mixture: {a: 0.2, b: 0.8}}\ngenome:", 1)
    spec.write_text(text.replace("population: 6", "population: 6, parallel: 1"))
    search(tmp_path / "run", spec, InProcess(Task("tests.evo.search.test_replicates:noisy")))
    facts = [fact for fact in read(tmp_path / "run") if fact["fact"] in ("individual", "repeat")]
    wanted = ["default", "uniform", "only a", "only b", "only c"]
    assert [fact.get("operator") for fact in facts[:5]] == [f"anchor: {name}" for name in wanted]
    assert any(fact["fact"] == "repeat" for fact in facts)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=4), max_size=5))
def test_noise_is_pooled_over_individuals(values: list[list[float]]) -> None:
    noise = Noise()
    for individual, seen in enumerate(values):
        for count in range(1, len(seen) + 1):
            noise.see(individual, seen[:count])
    squares = sum((v - sum(vs) / len(vs)) ** 2 for vs in values for v in vs)
    freedom = sum(len(vs) - 1 for vs in values)
    assert noise.deviation == pytest.approx((squares / max(1, freedom)) ** 0.5, abs=1e-9)
    assert noise.known == (freedom > 0)
