import io
import json
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo import history
from evo.config import SearchConfig
from evo.history.comparison import plus_minus
from evo.report.contents import _failures
from evo.report.figures.style import View
from tests.evo.synthetic_ledger import ledger


def measured(facts, individual, **values):
    """The facts with other measurements for one individual on the selection split."""
    return [
        {**f, "measurements": {**f["measurements"], **values}}
        if f["fact"] == "evaluation"
        and (f["individual"], f["split"], f["fidelity"]) == (individual, "selection", 1.0)
        else f
        for f in facts
    ]


def failed(facts, chosen, status="diverged"):
    """The facts with the evaluations that `chosen` picks failed."""
    return [
        {**f, "status": status, "measurements": {}, "cost": {}, "details": {}}
        if f["fact"] == "evaluation" and chosen(f)
        else f
        for f in facts
    ]


def test_the_table_has_a_row_per_evaluation_with_every_gene_measurement_and_cost():
    facts = ledger()
    rows = history.table(facts)
    assert len(rows) == sum(f["fact"] == "evaluation" for f in facts)
    wanted = {"mixture.jargon", "learning_rate", "lora_rank", "target/loss", "jargon/chrf"}
    assert wanted | {"train_seconds", "losses.target/loss", "violation"} <= set(rows.columns)
    fact = [f for f in facts if f["fact"] == "evaluation"][20]
    row = rows.iloc[20]
    assert row["target/loss"] == fact["measurements"]["target/loss"]
    assert row["train_seconds"] == fact["cost"]["train_seconds"]
    assert row["duration"] == pytest.approx(fact["finished"] - fact["started"])
    assert row["realised.jargon"] == fact["details"]["shares"]["jargon"]


def test_the_untouched_base_has_a_name_and_no_genes():
    base = history.table(ledger()).query("fidelity == 0")
    assert set(base["name"]) == {"base"}
    assert base[["learning_rate", "mixture.jargon", "generation"]].isna().all(axis=None)
    assert set(base["operator"]) == {""}


def test_an_inactive_gene_is_empty_and_a_source_left_out_of_a_mixture_has_share_0():
    rows = history.scores(ledger())
    assert rows.loc[rows["adapter"] == "none", "lora_rank"].isna().all()
    only = rows[rows["name"] == "only jargon"].iloc[0]
    assert (only["mixture.jargon"], only["mixture.python"]) == (1.0, 0.0)


def test_a_gene_that_stays_whole_is_written_without_a_decimal_point():
    assert history.table(ledger())["lora_rank"].dtype == "Int64"


def test_names_that_collide_with_columns_are_kept_apart():
    facts = ledger(evaluations=5, population=5)
    for fact in facts:
        if fact["fact"] == "individual":
            fact["genome"] = {**fact["genome"], "seed": 7, "status": "x"}
        if fact["fact"] == "evaluation" and fact["measurements"]:
            fact["measurements"] = {**fact["measurements"], "learning_rate": 9.0}
    rows = history.table(facts)
    assert set(rows["gene.seed"].dropna()) == {7}
    assert set(rows["measurement.learning_rate"].dropna()) == {9.0}
    assert not rows.columns.duplicated().any()


def test_lost_attempts_count_and_copies_cost_nothing():
    facts = ledger()
    rows = history.table(facts).query("split == 'selection' and individual == 11")
    assert list(rows["attempts"]) == [2]
    twin = {**facts[-3], "cost": {}, "details": {"same_as": 4}}
    row = history.table([*facts, twin]).iloc[-1]
    assert (row["same_as"], row["duration"]) == (4, 0.0)


def test_a_maximised_objective_becomes_a_loss_once_and_is_shown_as_it_was_measured():
    facts = ledger(objectives=("jargon/chrf", "general/loss"))
    rows = history.scores(facts)
    assert (rows["losses.jargon/chrf"] == -rows["jargon/chrf"]).all()
    assert history.best_so_far(facts, "jargon/chrf").dropna().is_monotonic_increasing


def test_best_takes_the_first_objective_among_those_that_meet_the_constraints():
    facts = ledger()
    allowed = history.scores(facts).query("violation == 0").set_index("individual")
    assert history.best(facts) == allowed["target/loss"].idxmin()
    tempting = measured(facts, 20, **{"target/loss": 1.0, "general/loss": 9.0})
    assert history.best(tempting) == history.best(facts)
    assert history.best(measured(facts, 20, **{"target/loss": 1.0, "general/loss": 3.0})) == 20


def test_a_key_that_an_old_ledger_lacks_has_the_default_of_the_spec():
    facts = ledger()
    assert "replicates" not in facts[0]["config"]["search"]
    for name, of in (("replicates", "search"), ("inherit_share", "budget"), ("task", "model")):
        section: Any = SearchConfig.model_fields[of].annotation
        read = getattr(getattr(history.spec(facts), of), name)
        assert read == section.model_fields[name].default
    assert history.spec(facts).seed == 0
    thrice = [f for f in facts if f["fact"] == "evaluation" and f["individual"] == 20]
    again = [{**thrice[0], "seed": seed} for seed in (1000, 2000)]
    more = [*facts, *again]  # 20 alone was evaluated under the three seeds of the default
    assert history.best(more) == 20 != history.best(facts)
    facts[0]["config"]["search"]["replicates"] = 1
    assert history.best([*facts, *again]) == history.best(facts)


def test_best_breaks_ties_by_the_lower_id():
    facts = measured(ledger(), 30, **{"target/loss": 1.0, "general/loss": 3.0})
    facts = measured(facts, 8, **{"target/loss": 1.0, "general/loss": 3.2})
    assert history.best(facts) == 8


def test_a_score_is_the_mean_over_the_seeds_that_succeeded():
    facts = ledger(evaluations=5, population=5)
    again = next(f for f in facts if f.get("individual") == 4 and f["fact"] == "evaluation")
    again = {**again, "seed": 1, "measurements": {"target/loss": 2.0, "general/loss": 3.0}}
    row = history.scores([*facts, again]).set_index("individual").loc[4]
    once = history.scores(facts).set_index("individual").loc[4]
    assert row["target/loss"] == pytest.approx((once["target/loss"] + 2.0) / 2)
    assert row["losses.target/loss"] == row["target/loss"]


def test_no_member_of_the_front_is_dominated_or_breaks_a_constraint():
    facts = ledger(evaluations=60)
    front, scores = history.front(facts), history.scores(facts)
    allowed = scores[scores["violation"] == 0][["target/loss", "general/loss"]].to_numpy()
    for point in front[["target/loss", "general/loss"]].to_numpy():
        better = (allowed <= point).all(axis=1) & (allowed < point).any(axis=1)
        assert not better.any()
    assert front["target/loss"].is_monotonic_increasing
    assert history.front(ledger(constraints=("general/loss <= 1",))).empty


def test_the_hypervolume_never_falls_and_rises_with_the_front():
    facts = ledger()
    volume = history.hypervolume(facts)
    assert volume.is_monotonic_increasing
    assert volume.iloc[-1] > volume.iloc[0]
    better = measured(facts, 39, **{"target/loss": 4.0, "general/loss": 3.0})
    assert history.hypervolume(better).iloc[-1] > volume.iloc[-1]


def test_the_lineage_holds_every_ancestor_once_at_its_shortest_distance():
    facts = ledger()
    winner = history.winner(facts)
    assert winner is not None
    line = history.lineage(facts, winner).set_index("individual")
    assert line.index.is_unique
    assert line.iloc[0]["distance"] == 0
    for individual, row in line.iterrows():
        for parent in map(int, row["parents"].split()):
            assert line.loc[parent, "distance"] <= row["distance"] + 1
            assert parent != individual


def test_importance_finds_a_planted_gene_and_rejects_noise():
    facts = ledger(evaluations=60, skill=0.0, failures=False)
    rng = np.random.default_rng(1)
    for fact in facts:
        if fact["fact"] == "individual":
            planted = float(rng.uniform())
            fact["genome"] = {**fact["genome"], "planted": planted, "noise": float(rng.uniform())}
            facts = measured(facts, fact["id"], **{"target/loss": 4 + (planted - 0.5) ** 2})
    found = history.importance(facts).set_index("gene")
    assert found.index[0] == "planted"  # although no rank correlation would show it
    explained = found["explained"].to_dict()
    assert explained["planted"] > 0.9
    assert explained["noise"] < 0.15


def test_no_gene_is_said_to_matter_by_fewer_than_20_distinct_recipes():
    assert not history.importance(ledger(evaluations=20, population=10, failures=False)).empty
    assert history.importance(ledger(evaluations=19, population=10, failures=False)).empty
    few = ledger(evaluations=40, failures=False)
    genomes = [f["genome"] for f in few if f["fact"] == "individual"]
    for fact in few:
        if fact["fact"] == "individual":
            fact["genome"] = genomes[fact["id"] % 19]
    assert history.importance(few).empty  # 40 evaluations, 19 recipes


def test_the_comparison_agrees_with_welch_by_hand():
    facts = ledger()
    result = history.comparison(facts).set_index(["contender", "measurement"])
    rows = history.table(facts).query("split == 'test'")
    winner = rows[rows["individual"] == history.winner(facts)]["target/loss"]
    uniform = rows.query("name == 'uniform'")["target/loss"]
    spread = np.sqrt(winner.var() / 5 + uniform.var() / 5)
    row: Any = result.loc[("uniform", "target/loss")]
    assert row["margin"] == pytest.approx(uniform.mean() - winner.mean())
    assert row["margin_se"] == pytest.approx((uniform.mean() - winner.mean()) / spread)
    assert result.loc[("winner", "target/loss"), "n"] == 5
    assert list(dict.fromkeys(result.index.get_level_values(0))) == [
        *("winner", "base", "uniform", "proportional", "only jargon")
    ]


def test_a_higher_chrf_is_a_positive_margin_though_no_objective_names_it():
    result = history.comparison(ledger()).set_index(["contender", "measurement"])
    means = result["mean"].to_dict()
    base, best = (means[who, "jargon/chrf"] for who in ("base", "winner"))
    assert result.loc[("base", "jargon/chrf"), "margin"] == pytest.approx(best - base)


def test_an_aggregate_is_better_as_its_measurements_are_though_no_objective_names_it():
    facts, names = ledger(), ("answers", "loss")
    sections = {"answers": {"max": ["jargon/chrf"]}, "loss": {"mean": {"jargon/chrf": 2.0}}}
    facts[0]["config"]["aggregates"] = sections
    for fact in facts:
        if fact.get("measurements"):
            chrf = fact["measurements"]["jargon/chrf"]
            fact["measurements"] |= dict.fromkeys(names, chrf)
    assert [history.sign(facts, name) for name in (*names, "target/loss")] == [-1, -1, 1]
    margins = history.comparison(facts).set_index(["contender", "measurement"])["margin"]
    for name in names:
        assert margins["base", name] == margins["base", "jargon/chrf"]


def test_the_base_measured_once_has_no_error_from_seeds():
    row = history.comparison(ledger()).query("contender == 'base'").iloc[0]
    assert (row["n"], row["standard_error"]) == (1, 0.0)


def test_a_win_over_every_baseline_is_good_and_its_price_is_named():
    found = history.verdict(ledger(evaluations=200, population=20))
    assert found.tone == "good"
    assert "beats every baseline" in found.text
    assert any("general/loss" in note for note in found.notes)


def test_a_search_that_does_not_beat_a_baseline_says_so():
    facts = ledger(skill=0.0)
    found = history.verdict(facts)
    assert found.tone == "bad"
    assert found.text.startswith("The search did not beat uniform")


@pytest.mark.parametrize(("limit", "tone"), [(3.28, "good"), (9.0, "bad")])
def test_a_baseline_that_violates_a_constraint_is_told_and_no_rival(
    limit: float, tone: str
) -> None:
    facts = ledger(evaluations=200, population=20, constraints=(f"general/loss <= {limit}",))
    outlaw = history.baselines(facts)["only jargon"]
    for fact in facts:
        if fact.get("split") == "test" and fact.get("individual") == outlaw and fact["fidelity"]:
            fact["measurements"] = {**fact["measurements"], "target/loss": 4.0, "general/loss": 3.5}
    found = history.verdict(facts)
    assert found.tone == tone
    told = [note for note in found.notes if note.startswith("only jargon has target/loss 4.000")]
    if tone == "good":
        assert "beats every baseline within the constraints" in found.text
        assert "but violates general/loss <= 3.28 (3.500)." in told[0]
    else:
        assert found.text.startswith("The search did not beat only jargon")
        assert not told


def test_a_lead_within_the_noise_is_no_win():
    facts = ledger()
    noisy = random.Random(0)
    for fact in facts:
        if fact.get("split") == "test" and fact["fact"] == "evaluation":
            fact["measurements"] = {**fact["measurements"], "target/loss": noisy.gauss(4, 0.3)}
            if fact["individual"] == history.winner(facts):
                fact["measurements"]["target/loss"] -= 0.2
    found = history.verdict(facts)
    assert found.tone in ("mixed", "bad")
    assert "beats every baseline" not in found.text


def with_items(facts, gap, *, count=11, seeds=None):
    """Facts whose target/loss is the share of wrong answers to prompts: `gap` fewer by the winner.

    No seed changes anything, so that the sample of prompts is all the noise there is.
    """
    won = history.winner(facts)
    for fact in facts:
        if fact["fact"] == "evaluation" and fact["split"] == "test":
            wrong = 4 - gap * (fact["individual"] == won and fact["fidelity"] == 1)
            sums = [1.0] * wrong + [0.0] * (count - wrong)
            fact["measurements"] = {**fact["measurements"], "target/loss": wrong / count}
            fact["details"] = {
                **fact["details"],
                "items": {"target/loss": {"unit": "prompt", "count": count, "sums": sums}},
            }
    return facts


def test_what_one_of_11_prompts_decides_is_no_win():
    found = history.verdict(with_items(ledger(), 1))
    assert (found.tone, "not clearly" in found.text) == ("mixed", True)
    assert any(note.startswith("Only 11 prompts for target/loss") for note in found.notes)
    rows = history.comparison(with_items(ledger(), 1)).query("measurement == 'target/loss'")
    assert set(rows["items"]) == {11}
    assert set(rows["clear"]) == {"unclear"}
    assert (rows["total_error"] > rows["standard_error"]).all()


def test_what_many_prompts_say_together_is_a_win():
    facts = with_items(ledger(), 0, count=400)
    for fact in facts:
        if fact.get("split") == "test" and fact["fact"] == "evaluation":
            own = fact["individual"] == history.winner(facts) and fact["fidelity"] == 1
            wrong = 40 if own else 120
            fact["measurements"]["target/loss"] = wrong / 400
            sums = [1.0] * wrong + [0.0] * (400 - wrong)
            fact["details"]["items"]["target/loss"]["sums"] = sums
    found = history.verdict(facts)
    assert found.tone == "good"
    assert "p < .001" in found.text
    assert not any(note.startswith("Only") for note in found.notes)


def test_two_seeds_at_2_4_standard_errors_are_no_win():
    facts = ledger(seeds=2)
    for fact in facts:
        if fact.get("split") == "test" and fact["fact"] == "evaluation":
            value = 4 + 2**0.5 * (fact["seed"] - 1)
            value += 0.0 if fact["individual"] == history.winner(facts) else 2.4 * 2**0.5
            if fact["fidelity"] == 0:
                value = 20.0
            fact["measurements"] = {**fact["measurements"], "target/loss": value}
    found = history.verdict(facts)
    nearest = history.comparison(facts).query("contender == 'uniform'").iloc[0]
    assert nearest["margin_se"] == pytest.approx(2.4 * 2**0.5 / 2**0.5 / 1.0, rel=0.5)
    assert nearest["p"] > 0.05
    assert found.tone == "mixed"


def test_errors_of_seeds_alone_are_called_so():
    found = history.verdict(ledger(evaluations=200, population=20))
    assert found.tone == "good"
    assert any(note.startswith("Error of the seeds alone for target/") for note in found.notes)


def test_one_seed_gives_no_standard_error_and_no_claim():
    found = history.verdict(ledger(seeds=1))
    assert found.tone == "mixed"
    assert "no standard error" in found.text


def test_a_baseline_that_wins_is_called_by_its_name():
    facts: list[Any] = [{**f, "individual": 0} if f["fact"] == "winner" else f for f in ledger()]
    found = history.verdict(facts)
    assert found.tone == "mixed"
    assert "no better recipe than its baseline uniform" in found.text
    assert "clearly better than the untouched base (" in found.text


def test_failed_seeds_and_broken_constraints_are_named_beside_a_win():
    facts = ledger(constraints=("general/loss <= 3.0",))
    won = history.winner(facts)
    facts = failed(facts, lambda f: f["individual"] == won and f["seed"] == 2)
    found = history.verdict(facts)
    assert found.tone != "good"
    assert "1 of 5 seeds of the winner failed." in found.notes
    assert any(note.startswith("On the test split the winner violates") for note in found.notes)
    assert any(
        note.startswith("On the selection split the winner violates") for note in found.notes
    )


def test_a_constraint_relative_to_the_base_is_held_against_it_on_each_split():
    relative, number = (f"general/loss <= {one}" for one in ("1.02 * base", 1.02 * 3.02))
    facts = ledger(constraints=(relative,))
    tested = [
        f["measurements"]["general/loss"]
        for f in facts
        if f["fact"] == "evaluation" and f["split"] == "test" and f["fidelity"] == 0
    ]
    (limit,) = history.constraints(facts)
    assert str(limit) == "general/loss <= 3.08 (1.02 * base)"
    (limit,) = history.constraints(facts, "test")
    assert limit.limit == pytest.approx(1.02 * sum(tested) / len(tested))
    same = history.scores(ledger(constraints=(number,)))["violation"]
    assert history.scores(facts)["violation"].tolist() == pytest.approx(same.tolist())
    assert (same > 0).any()


def test_before_the_base_is_measured_nobody_meets_a_constraint_relative_to_it():
    facts = [
        f
        for f in ledger(constraints=("general/loss <= 1.1 * base",))
        if not (f["fact"] == "evaluation" and f["fidelity"] == 0)
    ]
    assert history.front(facts).empty
    assert str(history.constraints(facts)[0]) == "general/loss <= 1.1 * base"
    assert not any("violates" in note for note in history.verdict(facts).notes)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12, 40])
def test_an_unfinished_run_claims_nothing(count):
    found = history.verdict(ledger()[:count])
    assert found.tone == "open"


def test_a_run_in_which_all_fail_says_so_and_counts_them():
    facts = failed(ledger()[:60], lambda f: f["fidelity"] > 0)
    assert history.best(facts) is None
    assert history.front(facts).empty
    assert history.verdict(facts).text.startswith("No evaluation succeeded (")
    assert history.status(facts)["failures"]["diverged"] > 10


def test_status_is_plain_json_and_adds_up():
    facts = ledger()
    found = json.loads(json.dumps(history.status(facts), allow_nan=False))
    assert (found["state"], found["done"], found["total"]) == ("finished", 40, 40)
    assert found["best"]["target/loss"]["individual"] == history.best(facts)
    assert found["front"] == len(history.front(facts))
    assert found["failures"] == {"diverged": 1, "timed_out": 2}
    assert found["lost_and_retried"] == 1
    assert 0.9 < found["busy_share"] <= 1
    assert history.status(facts[:1])["state"] == "running"
    assert history.status(facts[:1], alive=False)["state"] == "stopped"


def test_a_lost_base_and_a_lost_individual_0_are_told_apart():
    facts = ledger()
    first = next(f for f in facts if f["fact"] == "evaluation" and f["fidelity"] == 1)
    base = next(f for f in facts if f["fact"] == "evaluation" and f["fidelity"] == 0)
    same = {"individual": first["individual"], "seed": first["seed"], "split": first["split"]}
    lost = {"fact": "lost", **same, "attempt": 1, "message": "died"}
    early = [f for f in facts if f["fact"] in ("search", "individual")]
    for fidelity, attempts in (({"fidelity": 0.0}, [2, 1]), ({"fidelity": 1.0}, [1, 2])):
        known = [*early, {**lost, **fidelity}, {**base, **same}, first]
        assert history.table(known)["attempts"].tolist() == attempts
        assert history.table(known)["kind"].iloc[0] == "base"
    told = _failures(View.of([*early, {**lost, "fidelity": 0.0}, {**base, **same}, first]))
    assert told["messages"] == [("untouched base", "lost, retried", "died")]


def test_time_between_a_crash_and_the_resume_does_not_count():
    facts = ledger()
    before = history.usage(facts)["elapsed"]
    later = [
        {k: v + 1e5 if k in ("time", "started", "finished") else v for k, v in f.items()}
        for f in facts[40:]
    ]
    resumed = {"fact": "resumed", "time": min(f["started"] for f in later if "started" in f)}
    assert history.usage([*facts[:40], resumed, *later])["elapsed"] < before + 60


def test_a_resume_with_a_larger_budget_counts_against_that():
    facts = ledger()
    config = {**facts[0]["config"], "budget": {"evaluations": 80, "tokens": 122880}}
    more = [*facts, {"fact": "resumed", "time": facts[-1]["time"] + 5, "config": config}]
    found = history.status(more)
    assert (found["total"], found["state"]) == (80, "running")


def test_csv_and_parquet_hold_the_table(tmp_path, capfdbinary):
    facts = ledger()
    someone = next(f for f in facts if f["fact"] == "individual")
    someone["genome"] = {**someone["genome"], "decay": True}  # a choice of mixed types
    rows = history.table(facts)
    history.to_csv(rows, str(tmp_path / "rows.csv"))
    history.to_parquet(rows, str(tmp_path / "rows.parquet"))
    read = pd.read_csv(tmp_path / "rows.csv")
    assert list(read.columns) == list(rows.columns)
    assert read["target/loss"].equals(rows["target/loss"])
    assert len(pd.read_parquet(tmp_path / "rows.parquet")) == len(rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.csv", "rows.parquet"]
    history.to_csv(rows, "-")
    assert pd.read_csv(io.BytesIO(capfdbinary.readouterr().out)).shape == rows.shape


@given(st.floats(-1e3, 1e3), st.floats(1e-5, 50))
def test_a_mean_and_its_error_are_written_with_the_same_decimals(mean, error):
    left, right = plus_minus(mean, error).split(" ± ")
    assert len(left.partition(".")[2]) == len(right.partition(".")[2])
    assert float(right) == pytest.approx(error, rel=0.5)


@settings(max_examples=15)
@given(st.integers(1, 80))
def test_every_prefix_of_a_ledger_can_be_read(length):
    facts = ledger()[:length]
    rows = history.table(facts)
    assert len(history.scores(facts)) <= len(rows)
    searched = rows.query("fidelity > 0 and split == 'selection'")
    assert history.status(facts)["done"] == len(searched)
