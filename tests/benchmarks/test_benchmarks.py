"""Tests of the benchmarks: peers, store and figures of searches, parts of the scale bench."""

import importlib.util
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from evo.config import decode, load
from evo.replay import by_chance, replay
from fitness.data.samples import Sample, to_lines
from fitness.feedback.items import Draft, Item
from population.strategies import STRATEGIES
from tests.benchmarks import annotator, methods, outside, reward, scale_parts
from tests.benchmarks.ablation import variant
from tests.benchmarks.comparison import Cell, Comparison, cells_of
from tests.benchmarks.searches import Found, Search, plan, read_store, run, table_of
from tests.benchmarks.synthetic import SURFACES

NOWHERE = Path("/nowhere")  # synthetic tables are read from no folder


@pytest.mark.parametrize("name", ["deap", "pymoo"])
@pytest.mark.parametrize("task", ["mixed", "pair"])
def test_a_peer_searches_better_than_chance_and_the_same_for_the_same_seed(
    name: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setitem(STRATEGIES, name, {"deap": outside.Deap, "pymoo": outside.Pymoo}[name])
    table = table_of(task, NOWHERE)
    found = [replay(table, name, budget=100, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert found[0].rows == found[1].rows != found[2].rows
    if task == "mixed":
        assert np.mean([one.regret[-1] for one in found]) < by_chance(table, 100)[-1]
    else:
        blind = [replay(table, "random", budget=100, seed=seed) for seed in range(4)]
        volumes = [np.mean([one.hypervolume[-1] for one in these]) for these in (found, blind)]
        assert volumes[0] > volumes[1]


def test_the_simulated_annotator_goes_by_the_rule_and_errs_in_one_judgement_of_ten() -> None:
    good = " a program that runs by itself."
    bad = " a a a a program zzyzx program\nCategory: food"
    assert annotator.quality(good) == 1 > annotator.quality(bad) > annotator.quality("")
    assert annotator.quality(annotator.mended(bad)) == 0 < annotator.quality(good)
    assert annotator.mended(" the bug the bug qqfx is a program,\nhere") == " the bug is a program."
    item = Item("daemon: n.", (Draft(bad), Draft(good)))
    rng = np.random.default_rng(0)
    said = [one.value for _ in range(1000) for one in annotator.judged(item, rng)]
    assert 60 < said.count("first") < 140
    kinds = [one.kind for one in annotator.judged(Item("p", (Draft(good),)), rng)]
    assert kinds == ["rating"], "what is good is not corrected"
    asked, scored = ({*annotator.asked(split)} for split in ("selection", "test"))
    assert asked.isdisjoint(scored)


def test_each_method_has_as_many_answers_and_its_gene_learns_no_label(tmp_path: Path) -> None:
    options = Namespace(prompts=10, evaluations=2)
    prompts = methods.asked(options.prompts, 0, tmp_path / "asked.jsonl")
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    assert len({line["prompt"] for line in lines}) == 10
    specs = methods.alone(prompts, options)
    scores = ({"exact_match": 1.0}, {"exact_match": 0.0}, {"exact_match": 1.0})
    completions = (" found", " wrong", " endless")
    samples = [
        Sample(lines[place]["prompt"], text, 0, 0, ended=text != " endless", scores=own)
        for place, (text, own) in enumerate(zip(completions, scores, strict=True))
    ]
    (tmp_path / "pool.jsonl").write_text("".join(to_lines(samples)))
    pair = {"prompt": "a", "chosen": " b", "rejected": " c"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    specs["mixed"] = methods.mixed(tmp_path, prompts, options)
    answers = {}
    for name, spec in specs.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
        config = load(tmp_path / f"{name}.yaml")
        assert config.recipe["sequence_length"] == methods.LENGTH
        own = config.budget.tokens // methods.LENGTH
        if config.rounds is not None:
            own = config.rounds.limit * config.rounds.writing.count(options.prompts)
        answers[name] = own + ("pool" in config.sources) * methods.PER_PROMPT * options.prompts
    assert answers == dict.fromkeys(specs, 10 * methods.GROUP)
    for method in ("supervised", "preference"):
        shares = {"pool": 0.25, "pairs": 0.25, "asked": 0.5}
        recipe = decode(config, {"method": method, "mixture": shares})
        assert recipe["mixture"] == {"pool": 0.5, "pairs": 0.5}


def test_judged_pairs_go_by_the_rule_and_the_linear_reward_model_learns_it() -> None:
    prompts = reward.words(0)
    assert len(set(prompts)) == len(prompts) > 2000
    pairs = reward.preferred(prompts[:96], 0)
    right = [annotator.quality(p["chosen"]) > annotator.quality(p["rejected"]) for p in pairs]
    assert len(pairs) > 80
    assert 0.8 < np.mean(right) < 0.98
    assert reward.linear(pairs, pairs)["accuracy"] > 0.6
    assert reward.rule([], [], ["", " a program that runs by itself."]) == [0, 1]


def test_a_synthetic_table_is_the_same_wherever_it_is_made() -> None:
    for name, surface in SURFACES.items():
        assert surface.rows() == surface.rows()
        assert len(table_of(name, NOWHERE).genomes) == surface.count
    diverged = [row["loss"] == 1.1 for row in SURFACES["cliff"].rows()]
    assert 0.2 < np.mean(diverged) < 0.4


def test_what_is_stored_is_not_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STRATEGIES, "deap", outside.Deap)
    store = tmp_path / "searches.jsonl"
    wanted = plan({"cliff": [25]}, ["random", "deap"], 2, {})
    assert [(one.seed, one.strategy) for one in wanted[:2]] == [(0, "random"), (0, "deap")]
    first = run(wanted, NOWHERE, register=outside.register, store=store, jobs=2)
    assert list(first) == wanted
    lines = store.read_text().splitlines()
    assert len(lines) == 4
    forged = json.loads(lines[0]) | {"figure": [0.125] * 25}
    store.write_text("\n".join([json.dumps(forged), *lines[1:3], lines[3][:40]]))
    with store.open("a") as file:
        file.write("\n")
    again = run(wanted, NOWHERE, register=outside.register, store=store)
    altered = Search(**{name: forged[name] for name in Search.__dataclass_fields__})
    assert again[altered].figure[-1] == 0.125
    assert [again[one].rows for one in wanted] == [first[one].rows for one in wanted]
    assert len(read_store(store)) == 4
    labelled = plan({"cliff": [25]}, ["random"], 1, {"random": "new"})
    assert (
        run(labelled, NOWHERE, register=outside.register, store=store)[labelled[0]].figure[-1]
        != 0.125
    )


def test_a_strategy_that_knows_its_budget_is_searched_for_each() -> None:
    wanted = plan({"cliff": [25, 50]}, ["regression", "random"], 1, {})
    assert [(one.strategy, one.budget) for one in wanted] == [
        ("regression", 25),
        ("regression", 50),
        ("random", 50),
    ]


def comparison() -> Comparison:
    """Two tasks with one seed each but for `nsga2`, which has three on `cliff`."""
    curves = {
        ("cliff", "random", 0): [0.5] * 10 + [0.2] * 30 + [0.0] * 60,
        ("cliff", "nsga2", 0): [0.4] * 90 + [0.2] * 10,
        ("cliff", "nsga2", 1): [0.4] * 100,
        ("cliff", "nsga2", 2): [0.4] * 49 + [0.1] * 51,
        ("vertex", "random", 0): [0.6] * 100,
        ("vertex", "nsga2", 0): [0.6] * 60 + [0.3] * 40,
    }
    found = {
        Search(task, name, seed, 100): Found(curve, list(range(100)), 1.0, 0.5)
        for (task, name, seed), curve in curves.items()
    }
    assert cells_of(["cliff"], NOWHERE, largest=50) == {"cliff": [25, 50]}
    cells = cells_of(["cliff", "vertex"], NOWHERE, largest=100)
    assert cells == {"cliff": [25, 50, 100], "vertex": [25, 50, 100]}
    return Comparison.of(found, cells, ["random", "nsga2"])


def test_figures_of_a_cell_are_over_the_seeds_and_ties_count_as_won() -> None:
    compared = comparison()
    assert compared.cells[Cell("cliff", 50)] == {"random": [0.0], "nsga2": [0.4, 0.4, 0.1]}
    every = compared.complete()
    assert len(every) == 6
    # random: better in 3 cells of cliff, even in 2 of vertex, worse in the last
    assert compared.share_won("random", every) == pytest.approx(5 / 6)
    assert compared.share_won("nsga2", every) == pytest.approx(3 / 6)
    assert compared.over([Cell("cliff", 50)], np.mean)["nsga2"] == pytest.approx(0.3)
    assert compared.milliseconds == {"random": 15, "nsga2": 15}


def test_evaluations_to_reach_the_end_of_the_best_other_are_censored_when_never() -> None:
    # nsga2's median on cliff ends at .2, where random is after 11; it never gets to .3 on vertex
    assert comparison().evaluations_to_reach("random") == {"cliff": 11, "vertex": None}


def test_a_cell_that_lacks_a_strategy_is_in_no_summary() -> None:
    compared = comparison()
    cells = {cell: dict(row) for cell, row in compared.cells.items()}
    del cells[Cell("vertex", 100)]["nsga2"]
    assert Cell("vertex", 100) not in replace(compared, cells=cells).complete()


def test_a_variant_is_the_strategy_with_other_keywords(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of("vertex", NOWHERE)
    smaller = variant(STRATEGIES["nsga2"], population=8)
    monkeypatch.setitem(STRATEGIES, "nsga2, smaller", smaller)
    varied = replay(table, "nsga2, smaller", budget=40, seed=0)
    assert varied.rows == replay(table, "nsga2", budget=40, seed=0, population=8).rows
    assert varied.rows != replay(table, "nsga2", budget=40, seed=0).rows


def test_the_time_of_asking_and_telling_is_taken_early_and_late() -> None:
    found = scale_parts.nsga2("1500")
    assert found.keys() == {"at_1000", "at_1500"}
    assert all(milliseconds > 0 for milliseconds in found.values())
