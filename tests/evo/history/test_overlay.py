import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import ttest_ind

from evo import history
from evo.cli import BAD_INPUT, DONE, main
from evo.history.overlay import at, overlay, to_json
from evo.report.overlay import summary, write
from population.selection import hypervolume
from tests.evo.synthetic_ledger import ledger


def written(folder: Path, name: str, facts: list) -> Path:
    run = folder / name
    run.mkdir(parents=True)
    (run / "ledger.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    return run


def shown(found) -> str:
    console = Console(width=80, record=True, file=(Path("/dev/null")).open("w"))  # noqa: SIM115
    with console.file:
        console.print(summary(found))
        return console.export_text()


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    evolved = written(tmp_path, "evolved", ledger(evaluations=60, seed=1))
    return [evolved, written(tmp_path, "chance", ledger(evaluations=40, skill=0.0, seed=2))]


def test_best_so_far_at_the_checkpoints_is_that_of_the_history(runs):
    found = to_json(overlay(runs))
    assert found["checkpoints"]["evaluations"] == [2, 5, 10, 20, 50, 60]
    best = history.best_so_far(ledger(evaluations=60, seed=1), "target/loss")
    told = found["runs"][0]["best_at_evaluations"]["target/loss"]
    assert told == [best[n - 1] for n in (2, 5, 10, 20, 50, 60)]
    assert found["runs"][1]["best_at_evaluations"]["target/loss"][-2:] == [None, None]  # 40 of 60


def test_how_many_evaluations_a_run_needs_for_what_the_other_found(runs):
    found = overlay(runs)
    told = to_json(found)["runs"]
    evolved, chance = (run.best["target/loss"] for run in found.runs)
    assert evolved[-1] < chance[-1]
    reached = told[0]["evaluations_to_reach"]["target/loss"]["chance"]
    assert evolved[reached - 1] <= chance[-1] < evolved[reached - 2]
    assert told[1]["evaluations_to_reach"]["target/loss"]["evolved"] is None
    assert "never" in shown(found)


def test_the_test_split_comes_with_mean_and_standard_error(runs):
    facts = ledger(evaluations=60, seed=1)
    closing = history.comparison(facts).query("contender == 'winner'").set_index("measurement")
    told = to_json(overlay(runs))["runs"][0]["test"]["target/loss"]
    assert told["mean"] == closing.loc["target/loss", "mean"]
    assert told["standard_error"] == closing.loc["target/loss", "standard_error"]
    assert told["seeds"] == 5


def test_the_winners_of_runs_are_told_apart_as_contenders_are(tmp_path):
    good, poor = ledger(evaluations=60, seed=1), ledger(evaluations=40, skill=0.0, seed=2)
    runs = [written(tmp_path, "good", good), written(tmp_path, "poor", poor)]
    values = [
        [
            f["measurements"]["target/loss"]
            for f in facts
            if f["fact"] == "evaluation" and f["split"] == "test" and f["fidelity"]
            if f["individual"] == history.winner(facts)
        ]
        for facts in (good, poor)
    ]
    found = overlay(runs)
    lead = to_json(found)["runs"][0]["test"]["target/loss"]["better_than"]["poor"]
    assert lead["p"] == pytest.approx(ttest_ind(*values, equal_var=False).pvalue)
    assert (lead["clear"], lead["margin"] > 0) == ("better", True)
    assert re.search(r"poor .* 5 .*-0\.\d+.*clearly", shown(found).replace("\n", " "))
    for facts, name in ((good, "same"), (poor, "other")):  # n, and pairs where data are the same
        for fact in facts:
            if fact["fact"] == "evaluation" and fact["split"] == "test":
                fact["details"]["items"] = {
                    "target/loss": {"unit": "document", "count": 3, "sums": [4.0, 9.0, 1.0]}
                }
        written(tmp_path, name, facts)
    paired = overlay([tmp_path / "same", tmp_path / "other"])
    same = paired.lead("target/loss", *paired.runs)
    assert same is not None
    assert same.paired
    assert to_json(paired)["runs"][0]["test"]["target/loss"]["items"] == 3
    poor[0]["fingerprints"]["domains"] = {"target": "another"}
    apart = overlay([tmp_path / "same", written(tmp_path, "elsewhere", poor)])
    other = apart.lead("target/loss", *apart.runs)
    assert other is not None
    assert not other.paired


def test_the_hypervolume_of_all_runs_together_is_one(runs):
    found = overlay([runs[0], runs[0]])
    assert found.hypervolume is not None
    assert found.hypervolume[0][-1] == pytest.approx(1)
    apart = overlay(runs)
    assert apart.hypervolume is not None
    counted = [run.points[np.isfinite(run.points).all(axis=1)] for run in apart.runs]
    points = np.concatenate(counted)
    high, low = points.max(axis=0), points.min(axis=0)
    reference = high + 0.1 * (high - low)
    for run, own in zip(apart.hypervolume, counted, strict=True):
        share = hypervolume(own, reference) / hypervolume(points, reference)
        assert run[-1] == pytest.approx(share)


def test_cheap_evaluations_count_by_the_tokens_they_trained_on(tmp_path):
    facts = ledger(evaluations=20, failures=False)
    for fact in facts:
        if fact["fact"] == "evaluation" and fact["split"] == "selection" and fact["fidelity"]:
            cheap = fact["individual"] % 2
            fact["fidelity"] = 0.25 if cheap else 1.0
            fact["cost"] = {**fact["cost"], "tokens": 30_720 if cheap else 122_880}
    found = overlay([written(tmp_path, "rungs", facts)])
    assert found.runs[0].budgets[-1] == pytest.approx(12.5)
    assert "token budgets" in shown(found)
    for fact in facts:
        fact.get("cost", {}).pop("tokens", None)  # somebody's own evaluator
    assert overlay([written(tmp_path, "own", facts)]).runs[0].budgets[-1] == pytest.approx(12.5)


def test_runs_without_a_common_objective_are_refused(tmp_path, runs, capsys):
    facts = ledger(objectives=("jargon/chrf",))
    other = written(tmp_path, "other", facts)
    assert main(["compare", str(runs[0]), str(other)]) == BAD_INPUT
    told = capsys.readouterr().err
    assert "no objective is common" in told
    assert "jargon/chrf: maximize" in told


def test_what_makes_runs_incomparable_is_said(tmp_path, runs):
    facts = ledger(evaluations=20)
    facts[0]["fingerprints"] = {**facts[0]["fingerprints"], "model": "another"}
    found = overlay([runs[0], written(tmp_path, "other", facts)])
    assert found.notes() == ["The runs differ in their base model."]
    assert "differ in their base model" in shown(found)


def test_what_is_left_out_is_said_with_the_reason(tmp_path, runs):
    facts = ledger(evaluations=20, constraints=("general/loss <= 3.08",))
    cheap, failed, over = set(), set(), set()
    for fact in facts:
        if fact["fact"] == "evaluation" and fact["split"] == "selection" and fact["fidelity"]:
            if fact["status"] != "ok":
                failed.add(fact["individual"])
            elif fact["individual"] % 5 == 4:
                fact["fidelity"] = 0.25
                cheap.add(fact["individual"])
            elif fact["measurements"]["general/loss"] > 3.08:
                over.add(fact["individual"])
    facts[0]["config"]["objectives"] |= {"jargon/chrf": "maximize"}
    assert min(map(len, (cheap, failed, over))) > 0
    found = overlay([runs[1], written(tmp_path, "other", facts)])
    objective, chance, other = found.left_out()
    assert objective == (
        "jargon/chrf is left out: it is not an objective of all these runs in the same "
        "direction, but of other."
    )
    assert chance.startswith("Individuals of chance that are left out of the best so far: failed (")
    assert other == (
        "Individuals of other that are left out of the best so far: "
        f"failed ({', '.join(map(str, sorted(failed)))}), "
        f"not trained on the full token budget ({', '.join(map(str, sorted(cheap)))}), "
        f"break a constraint ({', '.join(map(str, sorted(over)))})."
    )
    assert to_json(found)["left_out"] == found.left_out()
    assert "jargon/chrf is left out: it is not an objective" in shown(found)
    write(found, tmp_path / "page.html")
    assert "left out of the best so far: failed (" in (tmp_path / "page.html").read_text()


def aggregated(folder: Path, name: str, mean: dict[str, float]) -> Path:
    """A run whose first objective is a mean that others may make of other measurements."""
    facts = ledger(evaluations=20)
    facts[0]["config"]["aggregates"] = {"quality": {"mean": mean}}
    facts[0]["config"]["objectives"] = {"quality": "minimize", "target/loss": "minimize"}
    for fact in facts:
        if fact.get("measurements"):
            fact["measurements"]["quality"] = fact["measurements"]["general/loss"]
    return written(folder, name, facts)


def test_aggregates_of_other_measurements_are_not_compared_and_it_is_said(tmp_path, capsys):
    alike = [aggregated(tmp_path, name, {"general/loss": 1}) for name in "ab"]
    other = aggregated(tmp_path, "c", {"general/loss": 2, "target/loss": 1})
    assert list(overlay(alike).objectives) == ["quality", "target/loss"]
    assert overlay(alike).unit("quality") == overlay(alike).unit("target/loss") == "nats"
    found = overlay([*alike, other])
    assert list(found.objectives) == ["target/loss"]
    assert found.notes() == [
        "quality is not compared: the runs aggregate other measurements under this name."
    ]
    for run in (alike[0], other):
        facts = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
        del facts[0]["config"]["objectives"]["target/loss"]
        written(tmp_path / "alone", run.name, facts)
    runs = [str(tmp_path / "alone" / name) for name in "ac"]
    assert main(["compare", *runs]) == BAD_INPUT
    told = capsys.readouterr().err
    assert (
        "a has quality: minimize (mean of general/loss); c has quality: minimize (mean of" in told
    )


@pytest.mark.parametrize("facts", [1, 2, 4, 30])
def test_a_run_that_has_hardly_begun_can_be_compared(tmp_path, runs, facts):
    found = overlay([written(tmp_path, "young", ledger()[:facts]), runs[0]])
    assert json.loads(json.dumps(to_json(found), allow_nan=False))["runs"][0]["run"] == "young"
    assert "young" in shown(found)
    write(found, tmp_path / "page.html")


def test_the_command_writes_the_page_and_prints_the_tables(tmp_path, runs, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *map(str, runs)]) == DONE
    assert "evolved" in capsys.readouterr().out
    page = Path("compare.html").read_text()
    assert not re.search(r"(src|href)=", page.partition("<script nonce")[0])
    drawn = re.search(r'id="overlay-figure">(.*?)</script>', page)
    assert drawn is not None
    figure = json.loads(drawn[1])
    assert {trace["name"] for trace in figure["data"]} == {"evolved", "chance"}
    assert len(figure["data"]) == 2 * 3 * 2  # runs, panels, evaluations and hours


def test_json_is_one_object_and_writes_nothing(tmp_path, runs, capsys, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["compare", *map(str, runs), "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["objectives"]["target/loss"] == "minimize"
    assert not list(Path().iterdir())


def test_two_folders_of_one_name_are_told_apart(tmp_path):
    names = [written(tmp_path / part, "run", ledger(evaluations=10)) for part in "ab"]
    assert [run.name for run in overlay(names).runs] == list(map(str, names))


def test_hostile_names_stay_text(tmp_path):
    run = written(tmp_path, "<img src=x onerror=alert(1)>", ledger(evaluations=10))
    write(overlay([run]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<img" not in page.partition("<script nonce")[0]


def test_a_value_is_looked_up_at_what_had_been_counted():
    counted, values = np.array([1.0, 1.25, 2.25]), np.array([5.0, 4.0, 3.0])
    assert [at(counted, values, n) for n in (1, 1.2, 2, 2.25)] == [5, 5, 4, 3]
    assert np.isnan(at(counted, values, 0.5))
    assert np.isnan(at(counted, values, 3))
