"""A search on a table of finished runs: its answers, its figures, and input that cannot be used."""

import csv
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.cli import BAD_INPUT, DONE, main
from evo.replay import Answers, Scale, Table, by_chance, read_table, replay
from evo.replay.summary import checkpoints
from population.individual import Individual
from population.space import Choice, Float
from population.strategies import STRATEGIES
from population.strategies.random import Random
from tests.evo.driving import ROOT
from tests.population.genomes import mixture

MIXED = {
    "simplex": {"mixture": "w_*"},
    "float": {"rate": {"log": True}},
    "int": {"batch": {}},
    "choice": {"adapter": {}},
    "objectives": {"loss": "minimize", "speed": "maximize"},
}


def mixed_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Runs whose loss is least near w_a = .6, rate 1e-3 and a LoRA; speed is at odds with it."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        weights = rng.dirichlet([0.7, 0.7, 0.7])
        rate = float(np.exp(rng.uniform(np.log(1e-5), np.log(1e-1))))
        adapter = str(rng.choice(["none", "lora", "dora"]))
        loss = (weights[0] - 0.6) ** 2 + 0.05 * math.log10(rate / 1e-3) ** 2
        loss += 0.1 * (adapter != "lora")
        shares = {f"w_{name}": round(float(w), 3) for name, w in zip("abc", weights, strict=True)}
        row = {**shares, "rate": rate, "batch": int(rng.choice([4, 8, 16, 32])), "adapter": adapter}
        rows.append({"run": number, **row, "loss": loss, "speed": 3 - weights[0] + rate})
    return rows


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_roles(path: Path, roles: Any) -> Path:
    path.write_text(json.dumps(roles))  # JSON is YAML
    return path


def table_of(folder: Path, rows: Sequence[dict[str, Any]], roles: Any = MIXED) -> Table:
    return read_table(
        write_table(folder / "runs.csv", rows), write_roles(folder / "roles.yaml", roles)
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table_of(tmp_path_factory.mktemp("replay"), mixed_rows(60))


def test_rows_become_genomes_of_the_space_and_oriented_losses(table: Table) -> None:
    rows = mixed_rows(60)
    assert list(table.space.genes) == ["mixture", "rate", "batch", "adapter"]
    for row, genome, losses in zip(rows, table.genomes, table.losses, strict=True):
        assert table.space.repair(genome) == genome
        assert sum(mixture(genome).values()) == pytest.approx(1, abs=1e-12)
        total = row["w_a"] + row["w_b"] + row["w_c"]
        assert mixture(genome)["w_b"] == pytest.approx(row["w_b"] / total)
        assert (genome["rate"], genome["batch"]) == (row["rate"], row["batch"])
        assert genome["adapter"] == row["adapter"]
        assert losses.tolist() == [row["loss"], -row["speed"]]
    rate, adapter = table.space.genes["rate"], table.space.genes["adapter"]
    assert isinstance(rate, Float)
    assert (rate.low, rate.high) == (min(r["rate"] for r in rows), max(r["rate"] for r in rows))
    assert isinstance(adapter, Choice)
    assert adapter.options == ("dora", "lora", "none")


def test_short_forms_of_roles_mean_the_same(tmp_path: Path, table: Table) -> None:
    short = {
        **MIXED,
        "simplex": {"mixture": ["w_a", "w_[bc]"]},
        "int": ["batch"],
        "choice": {"adapter": ["lora", "dora", "none"]},
    }
    assert table_of(tmp_path, mixed_rows(60), short).space == table.space
    (tmp_path / "roles.yaml").write_text(
        "simplex: {mixture: w_*}\nfloat:\n  rate: {log: true}\nint:\n  batch:\n"
        "choice: {adapter: }\nobjectives: {loss: minimize, speed: maximize}\n"
    )
    assert read_table(tmp_path / "runs.csv", tmp_path / "roles.yaml").space == table.space


@settings(max_examples=25)
@given(
    strategy=st.sampled_from(["nsga2", "optuna:nsga2", "random"]),
    budget=st.integers(1, 60),
    seed=st.integers(0, 2**32),
    parallel=st.integers(1, 12),
)
def test_a_row_answers_once_and_the_figures_follow_from_the_answers(
    table: Table, strategy: str, budget: int, seed: int, parallel: int
) -> None:
    found = replay(table, strategy, budget=budget, seed=seed, population=8, parallel=parallel)
    assert len(found.rows) == len(set(found.rows)) == budget
    loss = table.losses[:, 0]
    for done in range(1, budget + 1):
        best = loss[found.rows[:done]].min()
        assert found.best[done - 1] == best
        expected = (best - loss.min()) / (np.median(loss) - loss.min())
        assert found.regret[done - 1] == pytest.approx(expected)
    for values, sign in ((found.regret, -1), (found.hypervolume, 1)):
        assert all(sign * (after - before) >= 0 for before, after in itertools.pairwise(values))
        assert len(values) == budget
    assert min(found.regret) >= 0
    assert 0 <= found.hypervolume[0] <= found.hypervolume[-1] <= 1 + 1e-12
    if budget == 60:
        assert found.regret[-1] == 0
        assert found.hypervolume[-1] == pytest.approx(1)


@pytest.mark.parametrize("strategy", ["nsga2", "optuna:tpe", "random"])
def test_the_same_seed_gives_the_same_search_and_another_seed_another(
    table: Table, strategy: str
) -> None:
    first, again, other = (
        replay(table, strategy, budget=40, seed=seed, population=8) for seed in (1, 1, 2)
    )
    assert first.rows == again.rows
    assert first.rows != other.rows


def test_the_nearest_row_not_yet_taken_answers(table: Table) -> None:
    answers = Answers(table, seed=3)
    rng = np.random.default_rng(5)
    free = set(range(len(table.genomes)))
    for slot in range(len(table.genomes)):
        proposal = table.space.sample(rng)
        row = answers.take(Individual(slot, proposal))
        away = {other: table.space.distance(proposal, table.genomes[other]) for other in free}
        assert row in free
        assert away[row] == pytest.approx(min(away.values()), abs=1e-12)
        free.remove(row)


def test_equally_near_rows_answer_in_an_order_of_the_seed_not_of_the_file(tmp_path: Path) -> None:
    rows = [{"adapter": "ab"[n % 2], "loss": n} for n in range(40)]  # best first
    roles = {"choice": ["adapter"], "objectives": {"loss": "minimize"}}
    sorted_by_loss = table_of(tmp_path, rows, roles)
    firsts = {replay(sorted_by_loss, "random", budget=1, seed=s).rows[0] for s in range(20)}
    assert len(firsts) > 8


def test_a_strategy_is_told_the_row_that_answered(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Individual] = []

    class Watched(Random):
        def tell(self, individual: Individual) -> None:
            told.append(individual)
            super().tell(individual)

    monkeypatch.setitem(STRATEGIES, "watched:random", Watched)
    found = replay(table, "watched:random", budget=6, seed=0, parallel=3)
    genomes = [table.genomes[row] for row in found.rows]
    pending = [one for one in told if one.losses is None]
    scored = [one for one in told if one.losses is not None]
    assert [one.genome for one in pending] == [one.genome for one in scored] == genomes
    assert [one.losses for one in scored] == [tuple(table.losses[row]) for row in found.rows]
    assert [one.losses is None for one in told] == [True] * 3 + [False] * 3 + [True] * 3 + [
        False
    ] * 3


def test_on_a_smooth_table_evolution_beats_blind_draws(tmp_path: Path) -> None:
    single = {**MIXED, "objectives": {"loss": "minimize"}}
    large = table_of(tmp_path, mixed_rows(800), single)
    regrets = [
        replay(large, "nsga2", budget=60, seed=seed, population=8).regret[-1] for seed in range(6)
    ]
    assert np.mean(regrets) < by_chance(large, 60)[-1]


def test_chance_is_the_mean_over_every_order_of_the_rows(tmp_path: Path) -> None:
    rows = [{"x": n, "loss": loss} for n, loss in enumerate([7, 1, 4, 4, 9])]
    roles = {"float": ["x"], "objectives": {"loss": "minimize"}}
    small = table_of(tmp_path, rows, roles)
    regret = (small.losses[:, 0] - 1) / 3
    orders = np.array(list(itertools.permutations(range(5))))
    expected = np.minimum.accumulate(regret[orders], axis=1).mean(axis=0)
    assert by_chance(small, 5) == pytest.approx(expected.tolist())


def test_the_reference_point_lets_the_ends_of_the_front_count() -> None:
    losses = np.array([[0.0, 4.0], [1.0, 1.0], [4.0, 0.0], [2.0, 2.0], [9.0, 9.0]])
    scale = Scale.of(losses)
    assert scale.reference == pytest.approx([4.4, 4.4])  # the front's worst, 4, and a tenth
    assert scale(losses)[0] == pytest.approx([0, 4 / 4.4])
    assert Scale.of(losses[1:]).reference == pytest.approx([1 + 1.1 * 3, 0 + 1.1 * 1.5])


@pytest.mark.parametrize("budget", [1, 2, 7, 20, 21, 50, 100, 999, 100_000])
def test_a_table_for_people_fits_a_screen(budget: int) -> None:
    shown = checkpoints(budget)
    assert shown[0] == 1
    assert shown[-1] == budget
    assert shown == sorted(set(shown))
    assert len(shown) <= 22


def test_the_command_prints_one_object_with_exactly_the_promised_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_table(tmp_path / "runs.csv", mixed_rows(40))
    roles = write_roles(tmp_path / "roles.yaml", MIXED)
    command = ["replay", str(path), "--roles", str(roles), "--strategy", "nsga2"]
    command += ["--budget", "12", "--seeds", "3"]
    assert main([*command, "--json"]) == DONE
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["strategy", "budget", "rows", "seeds", "median_regret", "mean_regret"]
    assert (printed["strategy"], printed["budget"], printed["rows"]) == ("nsga2", 12, 40)
    assert [one["seed"] for one in printed["seeds"]] == [0, 1, 2]
    for one in printed["seeds"]:
        assert list(one) == ["seed", "best", "regret", "hypervolume", "ask_seconds", "tell_seconds"]
        assert len(one["best"]) == len(one["regret"]) == len(one["hypervolume"]) == 12
        assert one["ask_seconds"] > 0
        assert one["tell_seconds"] > 0
    final = [one["regret"][-1] for one in printed["seeds"]]
    assert printed["median_regret"] == pytest.approx(np.median(final))
    assert printed["mean_regret"] == pytest.approx(np.mean(final))


def test_the_command_prints_a_table_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_table(tmp_path / "runs.csv", mixed_rows(40))
    roles = write_roles(tmp_path / "roles.yaml", {**MIXED, "objectives": {"speed": "maximize"}})
    command = ["replay", str(path), "--roles", str(roles), "--strategy", "random"]
    assert main([*command, "--budget", "40"]) == DONE
    shown = capsys.readouterr().out
    best = max(row["speed"] for row in mixed_rows(40))
    assert re.search(rf"^ *40 +{best:.6g} +0\.0000 +0\.0000 *$", shown, re.MULTILINE)
    assert "maximize speed; seed 0" in shown
    assert "hypervolume" not in shown.casefold()


def test_rows_without_a_value_are_reported_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = mixed_rows(20)
    rows[3]["rate"], rows[5]["loss"], rows[6]["w_a"], rows[7]["adapter"] = "", "nan", "NA", ""
    rows[8]["adapter"], rows[9]["loss"] = "null", "inf"  # `null` is an option like any other
    path = write_table(tmp_path / "runs.csv", rows)
    roles = write_roles(tmp_path / "roles.yaml", MIXED)
    command = ["replay", str(path), "--roles", str(roles), "--strategy", "random", "--json"]
    with pytest.warns(UserWarning, match="left out") as caught:
        assert main([*command, "--budget", "15"]) == DONE
    assert json.loads(capsys.readouterr().out)["rows"] == 15
    (warning,) = caught
    message = str(warning.message)
    assert "5 of 20 rows left out" in message
    for where in ("rate (line 5)", "loss (lines 7, 11)", "w_a (line 8)", "adapter (line 9)"):
        assert where in message


def test_a_truth_value_is_one_option_however_it_is_written(tmp_path: Path) -> None:
    rows = mixed_rows(12)
    for number, row in enumerate(rows):
        row["adapter"] = ("True", "true", "TRUE", "False")[number % 4]
    path = write_table(tmp_path / "runs.csv", rows)
    choices: tuple[object, object] = ({}, [True, False])  # as found, and as YAML writes them
    for choice in choices:
        roles = write_roles(tmp_path / "roles.yaml", {**MIXED, "choice": {"adapter": choice}})
        table = read_table(path, roles)
        adapter = table.space.genes["adapter"]
        assert isinstance(adapter, Choice)
        assert adapter.options == ("false", "true")
        assert len(table.genomes) == 12


AGGREGATED: dict[str, Any] = {
    **{name: role for name, role in MIXED.items() if name != "objectives"},
    "aggregates": {"quality": {"mean": {"loss_*": 2, "speed": 1}}, "worst": {"max": "loss_*"}},
    "objectives": {"quality": "minimize", "loss_a": "minimize", "worst": "minimize"},
}


def aggregated_rows(count: int) -> list[dict[str, Any]]:
    """Runs with two losses and a speed, and beside them what the aggregates of these are."""
    rows = mixed_rows(count)
    for row in rows:
        row |= {"loss_a": row["loss"], "loss_b": row["w_b"] + row["rate"]}
        members = [row[name] for name in ("loss_a", "loss_b", "speed")]
        row["as_mean"] = float(np.average(members, weights=[2, 2, 1]))
        row["as_max"] = max(members[:2])
    return rows


def test_a_search_by_aggregates_of_columns_is_the_search_by_columns_of_them(
    tmp_path: Path,
) -> None:
    aggregated = table_of(tmp_path, aggregated_rows(60), AGGREGATED)
    plain = {name: role for name, role in AGGREGATED.items() if name != "aggregates"}
    objectives = {"as_mean": "minimize", "loss_a": "minimize", "as_max": "minimize"}
    computed = table_of(tmp_path, aggregated_rows(60), {**plain, "objectives": objectives})
    np.testing.assert_allclose(aggregated.losses, computed.losses, rtol=1e-12)
    searches = [
        replay(table, "nsga2", budget=40, seed=seed, population=8)
        for table in (aggregated, computed)
        for seed in (0, 1)
    ]
    assert [one.rows for one in searches[:2]] == [one.rows for one in searches[2:]]
    assert searches[0].rows != searches[1].rows


def test_a_table_has_the_columns_that_its_objectives_are_made_of(tmp_path: Path) -> None:
    rows = aggregated_rows(60)
    table = table_of(tmp_path, rows, AGGREGATED)
    assert table.columns == ("loss_a", "loss_b", "speed")
    measured = [[row[name] for name in table.columns] for row in rows]
    np.testing.assert_array_equal(table.measured, measured)
    assert [one.name for one in table.composed] == list(AGGREGATED["objectives"])
    for place, (objective, composed) in enumerate(
        zip(table.objectives, table.composed, strict=True)
    ):
        values = [
            composed.value(dict(zip(table.columns, row, strict=True)))
            for row in table.measured.tolist()
        ]
        np.testing.assert_array_equal(table.losses[:, place], objective.sign * np.array(values))
    assert dict(table.composed[1].weights) == {"loss_a": 1.0}  # a column, the mean of itself


def test_rows_without_a_measurement_of_an_aggregate_are_left_out(tmp_path: Path) -> None:
    rows = aggregated_rows(20)
    rows[3]["loss_b"] = ""
    with pytest.warns(UserWarning, match=r"1 of 20 rows left out, .*: loss_b \(line 5\)"):
        table = table_of(tmp_path, rows, AGGREGATED)
    assert len(table.losses) == len(table.measured) == 19
    narrow = {**AGGREGATED, "objectives": {"loss_a": "minimize"}}  # which does not need loss_b
    assert len(table_of(tmp_path, rows, narrow).losses) == 20


def test_bounds_and_options_narrow_the_table(tmp_path: Path) -> None:
    narrow = {
        **MIXED,
        "float": {"rate": {"low": 1e-4, "log": True}},
        "choice": {"adapter": ["lora"]},
    }
    with pytest.warns(UserWarning, match=r"left out|the same in every row"):
        found = table_of(tmp_path, mixed_rows(60), narrow)
    kept = [row for row in mixed_rows(60) if row["rate"] >= 1e-4 and row["adapter"] == "lora"]
    assert [genome["rate"] for genome in found.genomes] == [row["rate"] for row in kept]
    rate = found.space.genes["rate"]
    assert isinstance(rate, Float)
    assert rate.low == 1e-4
    assert "adapter" not in found.space.genes  # what is left of it is the same in every row


Rows = list[dict[str, Any]]
Change = Callable[[Rows], Any]


def _set(column: str, value: Any, *at: int) -> Change:
    def change(rows: Rows) -> None:
        for index in at or range(len(rows)):
            rows[index][column] = value

    return change


def _nothing(rows: Rows) -> None:
    """The rows as they are."""


def _keep(count: int) -> Change:
    return lambda rows: rows.__delitem__(slice(count, None))


def _repeat_the_first(rows: Rows) -> None:
    rows[:] = [rows[0]] * len(rows)


def _roles(**sections: Any) -> dict[str, Any]:
    return {name: section for name, section in {**MIXED, **sections}.items() if section != "-"}


LOSS = {"loss": "minimize"}
BAD: dict[str, tuple[Change, dict[str, Any], list[str], str]] = {
    "a missing column": (
        _nothing,
        _roles(float={"rte": {}}),
        [],
        r"roles\.yaml:1: float\.rte: .*runs\.csv has no column rte; did you mean rate\?",
    ),
    "a missing column unlike any": (
        _nothing,
        _roles(int={"zzz": {}}),
        [],
        r"int\.zzz: .*no column zzz; its columns are 'run', 'w_a'",
    ),
    "a glob without a match": (
        _nothing,
        _roles(simplex={"mixture": "v_*"}),
        [],
        r"simplex\.mixture: .*no column v_\*",
    ),
    "a missing objective": (
        _nothing,
        _roles(objectives={"los": "minimize"}),
        [],
        r"no column los; did you mean loss\?",
    ),
    "an unknown key": (
        _nothing,
        _roles(float={"rate": {"lg": True}}),
        [],
        r"float\.rate\.lg: unknown key; did you mean log\?",
    ),
    "an unknown section": (_nothing, _roles(flaot={}), [], r"flaot: unknown key; did you mean"),
    "no objective": (_nothing, _roles(objectives="-"), [], r"objectives: missing; columns to"),
    "empty objectives": (_nothing, _roles(objectives={}), [], r"objectives: must not be empty"),
    "no direction": (
        _nothing,
        _roles(objectives={"loss": "down"}),
        [],
        r"must be minimize or maximize, got 'down'",
    ),
    "nothing to search": (_nothing, {"objectives": LOSS}, [], r"nothing to search; name columns"),
    "a column in two roles": (
        _nothing,
        _roles(float={"rate": {}, "batch": {}}),
        [],
        r"int\.batch: column batch has a role already, float\.batch; keep one",
    ),
    "an objective among the genes": (
        _nothing,
        _roles(objectives={"rate": "minimize"}),
        [],
        r"objectives\.rate: column rate has a role already, float\.rate",
    ),
    "a column twice in a mixture": (
        _nothing,
        _roles(simplex={"mixture": ["w_a", "w_*"]}),
        [],
        r"column w_a has a role already, simplex\.mixture",
    ),
    "a mixture called like a column": (
        _nothing,
        _roles(simplex={"rate": "w_*"}),
        [],
        r"float\.rate: a mixture is called rate too; rename",
    ),
    "reversed bounds": (
        _nothing,
        _roles(float={"rate": {"low": 2, "high": 1}}),
        [],
        r"float\.rate: low must be below high, got low=2, high=1",
    ),
    "text for a number": (
        _set("rate", "fast", 4, 6),
        MIXED,
        [],
        r"runs\.csv:6: row 5, column rate: needs a number, got 'fast' \(and 1 more like it\)",
    ),
    "a fraction for a whole number": (
        _set("batch", 8.5, 2),
        MIXED,
        [],
        r"runs\.csv:4: row 3, column batch: needs a whole number, got '8\.5'",
    ),
    "a whole number that is too large": (
        _set("batch", "1e300", 2),
        MIXED,
        [],
        r"runs\.csv:4: row 3, column batch: needs a whole number between -9007199254740992 and",
    ),
    "a negative share": (
        _set("w_b", -0.2, 0),
        MIXED,
        [],
        r"runs\.csv:2: row 1, column w_b: needs a share of at least 0, got '-0\.2'",
    ),
    "log of nothing": (
        _set("rate", 0, 9),
        MIXED,
        [],
        r"float\.rate: log needs values above 0, got 0 in line 11 of the table",
    ),
    "one row": (_keep(1), MIXED, [], r"runs\.csv: 1 row to search; at least 2 are needed"),
    "all rows equal": (_repeat_the_first, MIXED, [], r"runs\.csv: all 12 rows are equal"),
    "all inputs equal": (
        _set("batch", 8),
        {"int": ["batch"], "objectives": LOSS},
        [],
        r"nothing to search: no two rows differ",
    ),
    "all losses equal": (
        _set("loss", 2.5),
        MIXED,
        [],
        r"objectives\.loss: is 2\.5 in every row; there is nothing to find",
    ),
    "most losses the best": (
        _set("loss", 0, *range(8)),
        MIXED,
        [],
        r"objectives\.loss: half of the rows or more have its best value, 0",
    ),
    "a budget above the rows": (
        _nothing,
        MIXED,
        ["--budget", "13"],
        r"budget 13 is above the 12 rows of .*runs\.csv .*at most 12",
    ),
    "a budget above the rows that are left": (
        _set("loss", "nan", 3, 5),
        MIXED,
        ["--budget", "11"],
        r"budget 11 is above the 10 rows of .*runs\.csv that can be used; .*at most 10",
    ),
    "one row left": (
        _set("loss", "nan", *range(1, 12)),
        MIXED,
        [],
        r"runs\.csv: 1 of 12 rows to search; at least 2 are needed",
    ),
    "no row left": (
        _set("rate", ""),
        MIXED,
        [],
        r"runs\.csv: 0 of 12 rows to search; at least 2 are needed",
    ),
    "an aggregate of nothing": (
        _nothing,
        {**MIXED, "aggregates": {"q": {"mean": ["loss", "score_*"]}}},
        [],
        r"roles\.yaml:1: aggregates\.q\.mean\.1: 'score_\*' matches no column of .*runs\.csv; its",
    ),
    "an aggregate of a column misspelt": (
        _nothing,
        {**MIXED, "aggregates": {"q": {"max": "los"}}},
        [],
        r"aggregates\.q\.max\.0: .*runs\.csv has no column los; did you mean loss\?",
    ),
    "an aggregate with a column twice": (
        _nothing,
        {**MIXED, "aggregates": {"q": {"min": ["loss", "l*"]}}},
        [],
        r"aggregates\.q\.min\.1: loss is given twice, by l\*; keep one of them",
    ),
    "an aggregate called like a column": (
        _nothing,
        {**MIXED, "aggregates": {"speed": {"mean": ["loss"]}}},
        [],
        r"aggregates\.speed: .*runs\.csv has a column speed too; rename the aggregate",
    ),
    "an aggregate of a gene": (
        _nothing,
        {**MIXED, "aggregates": {"q": {"mean": ["loss", "rate"]}}},
        [],
        r"aggregates\.q\.mean: column rate has a role already, float\.rate; keep one",
    ),
    "an aggregate of an aggregate": (
        _nothing,
        {**MIXED, "aggregates": {"q": {"mean": ["loss", "q"]}}},
        [],
        r"aggregates\.q\.mean\.1: q is an aggregate; name the columns themselves",
    ),
    "an aggregate relative to a base": (
        _nothing,
        {**MIXED, "aggregates": {"q": {"mean": ["loss"], "relative_to": "base"}}},
        [],
        r"aggregates\.q\.relative_to: unknown key",
    ),
    "an objective misspelt that is an aggregate": (
        _nothing,
        {
            **MIXED,
            "aggregates": {"quality": {"mean": ["loss"]}},
            "objectives": {"qualty": "minimize"},
        },
        [],
        r"objectives\.qualty: .*runs\.csv has no column qualty; did you mean quality\?",
    ),
    "an aggregate equal in every row": (
        lambda rows: [row.update(speed=-row["loss"]) for row in rows],
        {
            **MIXED,
            "aggregates": {"q": {"mean": ["loss", "speed"]}},
            "objectives": {"q": "minimize"},
        },
        [],
        r"objectives\.q: is 0 in every row; there is nothing to find",
    ),
    "losses too far apart": (
        lambda rows: [
            row.update(loss=sign * 1e308) for row, sign in zip(rows, [-1, 1] * 6, strict=True)
        ],
        MIXED,
        [],
        r"objectives\.loss: runs from -1e\+308 to 1e\+308, too far to be compared",
    ),
    "the second objective equal": (
        _set("speed", 3),
        MIXED,
        [],
        r"objectives\.speed: is 3 in every row; there is nothing to find",
    ),
    "an option written in two ways": (
        lambda rows: rows[3].update(adapter="LoRA"),
        MIXED,
        [],
        r"choice\.adapter: LoRA and lora may be one option written in two ways",
    ),
    "a truth value beside a number": (
        lambda rows: [
            row.update(adapter=("TRUE", "true", "1")[n % 3]) for n, row in enumerate(rows)
        ],
        MIXED,
        [],
        r"choice\.adapter: 1 and true may be one option written in two ways",
    ),
    "an unknown strategy": (
        _nothing,
        MIXED,
        ["--strategy", "nsag2"],
        r"strategy 'nsag2' is unknown; did you mean 'nsga2'\?",
    ),
    "a sampler misspelt": (
        _nothing,
        MIXED,
        ["--strategy", "optuna:tpee"],
        r"strategy 'optuna:tpee' is unknown; did you mean 'optuna:tpe'\?",
    ),
    "a strategy for one objective": (
        _nothing,
        MIXED,
        ["--strategy", "optuna:cmaes"],
        r"optuna:cmaes knows one objective, this search has 2; use optuna:nsga2",
    ),
    "a population too small": (
        _nothing,
        MIXED,
        ["--strategy", "nsga2", "--population", "2"],
        r"population 2 is too small for nsga2",
    ),
}


@pytest.mark.filterwarnings("ignore:.*is the same in every row", "ignore:.*rows left out")
@pytest.mark.parametrize(("change", "roles", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_a_clear_line_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    roles: dict[str, Any],
    options: list[str],
    message: str,
) -> None:
    rows = mixed_rows(12)
    change(rows)
    path = write_table(tmp_path / "runs.csv", rows)
    written = write_roles(tmp_path / "roles.yaml", roles)
    command = ["replay", str(path), "--roles", str(written), "--strategy", "random"]
    assert main([*command, "--budget", "2", *options]) == BAD_INPUT
    shown = capsys.readouterr()
    assert re.search(message, shown.err), shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


NO_CSV = {
    "nothing": (b"", r"is empty"),
    "binary": (b"PAR1\x15\x04\xff\xfe", r"is not a CSV: it is not text in UTF-8"),
    "zero bytes": (b"a,b\n1,\x00\n", r"is not a CSV: it holds zero bytes"),
    "semicolons": (b"rate;loss\n1;2\n", r"'rate;loss', has no comma"),
    "prose": (b"Dear all\nthe results\n", r"'Dear all', has no comma"),
    "an open quote": (b'rate,loss\n"1,2\n', r"runs\.csv:2: is not a CSV"),
    "a ragged line": (b"rate,loss\n1,2\n1,2,3\n", r"runs\.csv:3: .*2 columns, this line 3"),
    "a column twice": (b"rate,loss,rate\n1,2,3\n", r"two columns called rate"),
    "a header alone": (b"rate,loss\n", r"0 rows to search"),
}


@pytest.mark.parametrize(("content", "message"), NO_CSV.values(), ids=NO_CSV)
def test_what_is_no_table_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    roles = write_roles(tmp_path / "roles.yaml", {"float": ["rate"], "objectives": LOSS})
    command = ["--roles", str(roles), "--strategy", "random", "--budget", "1"]
    assert main(["replay", str(path), *command]) == BAD_INPUT
    shown = capsys.readouterr().err
    assert re.search(message, shown), shown
    assert len(shown.splitlines()) == 1
    assert main(["replay", str(tmp_path / "none.csv"), *command]) == BAD_INPUT
    assert "none.csv: cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--budget", "--seeds", "--parallel", "--population"])
@pytest.mark.parametrize("number", ["0", "-3", "two"])
def test_counts_are_whole_and_positive(
    capsys: pytest.CaptureFixture[str], option: str, number: str
) -> None:
    command = ["replay", "t.csv", "--roles", "r.yaml", "--strategy", "random", "--budget", "1"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, option, number])
    assert stopped.value.code == BAD_INPUT
    assert (
        f"{option}: needs a whole number of at least 1, got '{number}'" in capsys.readouterr().err
    )


def test_a_large_table_is_read_and_searched_in_seconds(tmp_path: Path) -> None:
    large = table_of(tmp_path, mixed_rows(5_000))
    assert len(replay(large, "random", budget=30, seed=0).rows) == 30


@pytest.mark.slow
def test_the_cores_of_a_machine_do_not_decide_how_sums_are_added_up(tmp_path: Path) -> None:
    write_table(tmp_path / "runs.csv", mixed_rows(60))
    write_roles(tmp_path / "roles.yaml", MIXED)
    line = ["replay", "runs.csv", "--roles", "roles.yaml", "--strategy", "surrogate"]
    code = (
        "from evo.cli import main; from threadpoolctl import threadpool_info\n"
        f"main({[*line, '--budget', '14', '--json']})\n"
        "print({pool['num_threads'] for pool in threadpool_info()})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "{1}"
