"""The search without Ray: what is bred, learned and recorded, and what a resume makes of it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.cluster.queue import ClusterError, Lost
from evo.config import SearchConfig
from evo.planning.experts import settled
from evo.record.artifacts import Artifacts
from evo.record.ledger import Fact, Ledger
from evo.search.decisions import Decisions
from evo.search.loop import compare, evolve
from evo.search.requests import Requests, Stopped, StopRequests
from fitness.cost import Cost, cost_of
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task, failed
from population.individual import Individual
from tests.evo.facts import read
from tests.evo.toy import write_spec

TIMES = ("time", "started", "finished", "worker", "cost", "busy_seconds")


class InProcess:
    """Stands in for the cluster: evaluates in this process, one a poll.

    Of the `size` that were asked for first, as many as there are workers, any may come next.
    """

    def __init__(
        self, task: Task, shuffle: random.Random | None = None, lose: int = 0, size: int = 2
    ) -> None:
        self.size = size
        self._evaluator = Evaluator(task)
        self._queue: list[EvaluationSpec] = []
        self._shuffle = shuffle
        self._lose = lose
        self.asked: list[tuple[int, int, float, str]] = []
        self.busy = 0

    def submit(self, *specs: EvaluationSpec) -> None:
        self._queue += specs

    def cancel_queued(self) -> int:
        self._queue.clear()
        return 0

    def poll(self, seconds: float) -> list[Evaluation | Lost]:
        running = min(self.size, len(self._queue))
        place = self._shuffle.randrange(running) if self._shuffle else 0
        if self._lose:
            self._lose -= 1
            return [Lost(self._queue[place], 1, "host/1", "killed")]
        spec = self._queue.pop(place)
        self.asked.append((spec.individual, spec.seed, spec.fidelity, spec.split))
        return [self._evaluator.evaluate(spec)]


def parts(
    config: SearchConfig,
    ledger: Ledger,
    cluster: Any,
    asked: StopRequests | None = None,
    watch: Callable[[Fact], None] | None = None,
) -> tuple[Decisions, Requests]:
    """Decisions and requests of a search whose evaluations a stand-in for the cluster runs."""
    ledger.on_append = watch or ledger.on_append
    decisions = Decisions(config, ledger)
    asked = asked or StopRequests()
    return decisions, Requests(config, ledger, cluster, decisions.individual, asked)


def search(
    run: Path,
    spec: Path,
    cluster: Any,
    watch: Callable[[Fact], None] = lambda fact: None,
    cost: Cost | None = None,
) -> Individual:
    """Launch, or resume where there is a ledger, to the end."""
    config = configuration.load(spec)
    if not (run / "ledger.jsonl").exists():
        header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
        Ledger.create(run, header).close()
    cost = cost or cost_of(Task(config.evaluator))
    config = settled(config, cost)
    with Ledger(run) as ledger:
        decisions, requests = parts(config, ledger, cluster, watch=watch)
        winner = evolve(config, {}, cost, decisions, requests, Artifacts(run / "artifacts"))
        compare(config, winner, decisions, requests)
    return winner


def outcome(run: Path) -> list[str]:
    """All that a run found, without times, in an order of its own."""
    facts = [
        {name: value for name, value in fact.items() if name not in TIMES}
        for fact in read(run)
        if fact["fact"] in ("individual", "repeat", "evaluation", "simulation", "winner")
    ]
    return sorted(map(repr, facts))


@pytest.fixture
def task() -> Task:
    return Task("tests.evo.toy:score")


@pytest.mark.parametrize("schedule", ["clock", "generational"])
def test_number_and_speed_of_workers_and_order_of_completions_change_nothing(
    tmp_path: Path, task: Task, schedule: str
) -> None:
    spec = write_spec(tmp_path, schedule=schedule)
    search(tmp_path / "a", spec, InProcess(task, size=1))
    for number, size in enumerate((1, 2, 8, 100)):
        run = tmp_path / f"{size} workers"
        search(run, spec, InProcess(task, random.Random(number), size=size))
        assert outcome(run) == outcome(tmp_path / "a")


def test_the_clock_learns_as_it_goes(tmp_path: Path, task: Task) -> None:
    """Four at a time, of equal virtual duration: each wave learns from the one before the last."""
    search(tmp_path / "a", write_spec(tmp_path, replicates=1), InProcess(task))
    learned = {
        f["id"]: f["learned_from"] for f in read(tmp_path / "a") if f["fact"] == "individual"
    }
    assert [learned[slot] for slot in range(13)] == [None] * 8 + [3] * 4 + [7]


def test_an_asynchronous_search_learns_from_all_that_has_finished(
    tmp_path: Path, task: Task
) -> None:
    spec = write_spec(tmp_path, schedule="asynchronous", replicates=1)
    for size in (1, 3):
        run = tmp_path / f"{size} workers"
        search(run, spec, InProcess(task, random.Random(0), size=size))
        finished: list[int] = []
        for fact in read(run):
            if fact["fact"] == "individual":
                assert fact["learned_from"] == (finished[-1] if finished else None)
                assert fact["id"] - len(finished) < size
            elif fact["fact"] == "evaluation" and fact["fidelity"] == 1:
                finished.append(fact["individual"])


def test_another_seed_is_another_search(tmp_path: Path, task: Task) -> None:
    spec = write_spec(tmp_path)
    search(tmp_path / "a", spec, InProcess(task))
    spec.write_text(spec.read_text() + "seed: 1\n")
    search(tmp_path / "b", spec, InProcess(task))
    assert outcome(tmp_path / "a") != outcome(tmp_path / "b")


@pytest.mark.filterwarnings("ignore:.*torn last line")
def test_a_ledger_cut_anywhere_resumes_to_the_same_run_and_repeats_nothing(
    tmp_path: Path, task: Task
) -> None:
    spec = write_spec(tmp_path, evaluations=12)
    search(tmp_path / "whole", spec, InProcess(task, random.Random(0)))
    wanted = outcome(tmp_path / "whole")
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines)):
        for torn in (b"", lines[number][: len(lines[number]) // 2]):
            run = tmp_path / f"cut-{number}-{len(torn)}"
            run.mkdir()
            (run / "ledger.jsonl").write_bytes(b"".join(lines[:number]) + torn)
            done = {
                (f["individual"], f["seed"], f["fidelity"], f["split"])
                for f in read(run)
                if f["fact"] == "evaluation"
            }
            cluster = InProcess(task, random.Random(number))
            search(run, spec, cluster)
            assert outcome(run) == wanted
            assert not done & set(cluster.asked)
            assert len(set(cluster.asked)) == len(cluster.asked)


def test_the_surrogate_too_resumes_to_the_same_run(tmp_path: Path, task: Task) -> None:
    spec = write_spec(tmp_path, evaluations=24, strategy="surrogate")
    search(tmp_path / "whole", spec, InProcess(task, random.Random(0)))
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for number in (5, 30, 47):
        run = tmp_path / f"cut-{number}"
        run.mkdir()
        (run / "ledger.jsonl").write_bytes(b"".join(lines[:number]))
        search(run, spec, InProcess(task, random.Random(number), size=4))
        assert outcome(run) == outcome(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore:.*torn last line")
def test_an_asynchronous_search_resumes_exactly_from_any_line_of_its_ledger(
    tmp_path: Path, task: Task
) -> None:
    """Recorded decisions come out again, or the search would stop; others may differ."""
    spec = write_spec(tmp_path, evaluations=12, schedule="asynchronous")
    search(tmp_path / "whole", spec, InProcess(task, random.Random(0), size=3))
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines)):
        run = tmp_path / f"cut-{number}"
        run.mkdir()
        (run / "ledger.jsonl").write_bytes(b"".join(lines[:number]) + lines[number][:9])
        before = read(run)
        cluster = InProcess(task, random.Random(number), size=1 + number % 4)
        search(run, spec, cluster)
        assert read(run)[:number] == before
        filled = [f for f in read(run) if f["fact"] in ("individual", "repeat")]
        assert [f["slot" if f["fact"] == "repeat" else "id"] for f in filled] == list(range(12))
        done = {
            (f["individual"], f["seed"], f["fidelity"], f["split"])
            for f in before
            if f["fact"] == "evaluation"
        }
        assert not done & set(cluster.asked)
        assert len(set(cluster.asked)) == len(cluster.asked)
        again = InProcess(task)
        search(run, spec, again)
        assert not again.asked


def test_lost_attempts_are_recorded_and_charged_to_nobody(tmp_path: Path, task: Task) -> None:
    spec = write_spec(tmp_path)
    search(tmp_path / "a", spec, InProcess(task))
    search(tmp_path / "b", spec, InProcess(task, lose=3))
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    assert sum(fact["fact"] == "lost" for fact in read(tmp_path / "b")) == 3


def test_broken_individuals_are_recorded_and_never_win(tmp_path: Path, task: Task) -> None:
    winner = search(tmp_path / "a", write_spec(tmp_path), InProcess(task))
    facts = read(tmp_path / "a")
    errors = [f for f in facts if f["fact"] == "evaluation" and f["status"] == "error"]
    assert errors
    assert all("broken on purpose" in fact["message"] for fact in errors)
    assert winner.genome["kind"] != "broken"


def test_the_winner_meets_the_constraint_and_is_named_before_the_test_split_is_read(
    tmp_path: Path, task: Task
) -> None:
    search(tmp_path / "a", write_spec(tmp_path), InProcess(task))
    facts = read(tmp_path / "a")
    named = next(place for place, fact in enumerate(facts) if fact["fact"] == "winner")
    evaluations = [(p, f) for p, f in enumerate(facts) if f["fact"] == "evaluation"]
    assert all((place > named) == (f["split"] == "test") for place, f in evaluations)
    winner = facts[named]["individual"]
    allowed = [
        (fact["measurements"]["target"], fact["individual"])
        for _, fact in evaluations
        if fact["status"] == "ok"
        and fact["split"] == "selection"
        and fact["fidelity"] == 1
        and fact["measurements"]["general"] <= 2.9
    ]
    assert winner == min(allowed)[1]


@pytest.mark.parametrize("schedule", ["clock", "asynchronous"])
def test_a_constraint_relative_to_the_base_is_the_same_search_as_its_number(
    tmp_path: Path, task: Task, schedule: str
) -> None:
    spec = write_spec(tmp_path, schedule=schedule)
    search(tmp_path / "number", spec, InProcess(task))
    spec.write_text(spec.read_text().replace("general <= 2.9", "general <= 1.45 * base"))
    late = random.Random(3)  # so that the base is now and then measured after others
    search(tmp_path / "base", spec, InProcess(task, late if schedule == "clock" else None))
    assert outcome(tmp_path / "number") == outcome(tmp_path / "base")


def test_a_base_that_cannot_be_evaluated_stops_the_search(tmp_path: Path, task: Task) -> None:
    class Broken(InProcess):
        def poll(self, seconds: float) -> list[Evaluation | Lost]:
            return [failed(self._queue.pop(0), Status.ERROR, "no such thing")]

    with pytest.raises(ClusterError, match=r"untouched base .* no such thing"):
        search(tmp_path / "a", write_spec(tmp_path), Broken(task))


def test_a_request_to_stop_ends_the_search_and_resuming_completes_it(
    tmp_path: Path, task: Task
) -> None:
    spec = write_spec(tmp_path)
    search(tmp_path / "whole", spec, InProcess(task))
    config = configuration.load(spec)
    asked = StopRequests()

    def watch(fact: Fact) -> None:
        asked.times = int(fact["fact"] == "evaluation" and fact["individual"] == 9)

    header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
    with Ledger.create(tmp_path / "run", header) as ledger:
        decisions, requests = parts(config, ledger, InProcess(task), asked, watch)
        artifacts = Artifacts(tmp_path / "artifacts")
        with pytest.raises(Stopped):
            evolve(config, {}, cost_of(task), decisions, requests, artifacts)
    assert outcome(tmp_path / "run") != outcome(tmp_path / "whole")
    search(tmp_path / "run", spec, InProcess(task))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_equal_genomes_share_one_evaluation(tmp_path: Path, task: Task) -> None:
    spec = write_spec(tmp_path, evaluations=12, replicates=1)
    text = spec.read_text()
    spec.write_text(
        text.replace("  mixture: {type: simplex, over: [a, b, c]}\n", "")
        .replace("  rate: {type: float, low: 1e-4, high: 1e-1, log: true}\n", "")
        .replace("tests.evo.toy:score", "tests.evo.search.test_loop:three")
    )
    cluster = InProcess(Task("tests.evo.search.test_loop:three"))
    search(tmp_path / "a", spec, cluster)
    selection = [key for key in cluster.asked if key[3] == "selection" and key[2] == 1]
    assert len(selection) <= 3
    facts = [f for f in read(tmp_path / "a") if f["fact"] == "evaluation"]
    copies = [f for f in facts if "same_as" in f["details"]]
    assert len(copies) >= 9
    assert all(f["cost"] == {} for f in copies)


def three(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    return {"target": float(ord(recipe["kind"][0])), "general": 2.0}


def partial(recipe: Any, *, seed: int, fidelity: float, split: str) -> dict[str, float]:
    """Leaves one objective out unless the base is asked for or the kind is x."""
    known = {"target": 1.0, "general": 2.0}
    return known if fidelity == 0 or recipe["kind"] == "x" else {"target": 0.5}


def test_an_objective_left_out_is_an_error_of_that_individual(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    text = spec.read_text().replace("tests.evo.toy:score", "tests.evo.search.test_loop:partial")
    spec.write_text(text)
    winner = search(tmp_path / "a", spec, InProcess(Task("tests.evo.search.test_loop:partial")))
    assert winner.genome["kind"] == "x"
    errors = [f for f in read(tmp_path / "a") if f.get("status") == "error"]
    assert errors
    assert errors[0]["message"] == "general was not measured, only target"


def test_a_baseline_that_wins_is_compared_once(tmp_path: Path, task: Task) -> None:
    spec = write_spec(tmp_path, evaluations=6)
    best = "recipe: {mixture: {a: 0.5, b: 0.4, c: 0.1}, rate: 0.01, kind: y}\n"
    spec.write_text(spec.read_text() + best)
    cluster = InProcess(task)
    assert search(tmp_path / "a", spec, cluster).operator == "anchor: default"
    assert len(set(cluster.asked)) == len(cluster.asked)


def test_known_genomes_come_after_the_baselines_and_are_not_compared(
    tmp_path: Path, task: Task
) -> None:
    spec = write_spec(tmp_path)
    given = "known: [{mixture: {a: 0.5, b: 0.4, c: 0.1}, rate: 0.01, kind: y}, {mixture: {c: 1}}]\n"
    spec.write_text(spec.read_text() + given)
    cluster = InProcess(task)
    search(tmp_path / "a", spec, cluster)
    facts = read(tmp_path / "a")
    bred = [fact for fact in facts if fact["fact"] == "individual"]
    named = [fact["operator"].startswith("anchor: ") for fact in bred]
    known = [fact for fact in bred if fact["operator"] == "known"]
    assert [fact["id"] for fact in known] == [sum(named), sum(named) + 1]
    assert known[0]["genome"]["mixture"] == {"a": 0.5, "b": 0.4, "c": 0.1}
    assert known[1]["genome"]["mixture"] == {"a": 0.0, "b": 0.0, "c": 1.0}
    compared = {individual for individual, _, _, split in cluster.asked if split == "test"}
    winner = next(fact["individual"] for fact in facts if fact["fact"] == "winner")
    assert known[1]["id"] not in compared - {winner}


def test_a_winner_that_equals_an_earlier_baseline_is_compared_once(
    tmp_path: Path, task: Task
) -> None:
    """Two evaluations under one key would make the ledger unreadable."""
    spec, run = write_spec(tmp_path, evaluations=6), tmp_path / "run"
    text = spec.read_text().replace("over: [a, b, c]", "over: [a, b, c, d]")
    even = "recipe: {mixture: {a: 0.25, b: 0.25, c: 0.25, d: 0.25}, rate: 0.01, kind: y}\n"
    spec.write_text(text.replace("baselines: []", "baselines: [uniform]") + even)
    config = configuration.load(spec)
    search(run, spec, InProcess(task))
    (run / "ledger.jsonl").write_bytes(
        b"".join(
            line
            for line in (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
            if b'"split":"test"' not in line and b'"fact":"winner"' not in line
        )
    )
    with Ledger(run) as ledger:
        decisions, requests = parts(config, ledger, InProcess(task))
        twin = decisions.individual(1)
        assert twin.genome == decisions.individual(0).genome
        compare(config, twin, decisions, requests)
    tested = [f["individual"] for f in read(run) if f.get("split") == "test" and f["fidelity"]]
    assert sorted(tested) == [0, 0, 1, 1]
