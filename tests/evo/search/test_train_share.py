"""`train_share` in a search: budget, virtual clock and dry run count what each one trains on."""

from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo import history
from evo.config import ConfigError, SearchConfig
from evo.config.genomes import tokens_of
from evo.planning.experts import spent_on_experts
from evo.planning.lineages import from_fact, portion
from evo.prepare.outlook import epochs, outlook
from evo.prepare.task import Prepared, prepare
from evo.record.ledger import Ledger
from evo.search.jobs import Job
from evo.search.loop import compare, virtual_duration
from evo.search.rungs import share
from fitness.cost import cost_of
from population.individual import Individual
from population.space import Genome
from tests.evo.facts import read
from tests.evo.planning.test_lineages import cluster, search
from tests.evo.search.test_loop import parts
from tests.fitness.quickstart import DATA

GENE = "genome.train_share={type: choice, options: [0.25, 0.5, 1.0]}"
SPEC = f"""\
name: lengths
model: {{base: quickstart}}
{DATA}recipe: {{batch_size: 4, sequence_length: 48, start: scratch}}
genome:
  mixture: {{type: simplex}}
  learning_rate: {{type: float, low: 1e-4, high: 1e-2, log: true}}
objectives: {{target/loss: minimize}}
baselines: []
search: {{strategy: nsga2, population: 5, parallel: 2, replicates: 2}}
budget: {{evaluations: 6, tokens: 1536}}
comparison: {{seeds: 1}}
"""


def load(folder: Path, *settings: str) -> SearchConfig:
    folder.mkdir(exist_ok=True)
    (folder / "search.yaml").write_text(SPEC)
    return configuration.load(folder / "search.yaml", settings)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    return load(tmp_path_factory.mktemp("spec"), GENE, "recipe.train_share=1.0")


@pytest.fixture(scope="module")
def prepared(config: SearchConfig) -> Prepared:
    return prepare(config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, config: SearchConfig, prepared: Prepared) -> Path:
    folder = tmp_path_factory.mktemp("lengths") / "run"
    search(folder, config, prepared, cluster(prepared, folder))
    return folder


def test_each_trains_on_its_share_and_takes_as_much_of_the_budget(run: Path) -> None:
    facts = read(run)
    bred: dict[int, Any] = {f["id"]: from_fact(f) for f in facts if f["fact"] == "individual"}
    tokens: dict[tuple[int, int], float] = {}
    for fact in facts:
        if fact["fact"] != "evaluation" or fact["fidelity"] != 1:
            continue
        assert fact["status"] == "ok"
        length = bred[fact["individual"]].genome["train_share"] * 1536
        if "same_as" not in fact["details"]:
            assert fact["cost"]["tokens"] == length
        if fact["split"] == "selection":
            tokens[fact["individual"], fact["seed"]] = length
    assert len(set(tokens.values())) > 1
    spent = sum(tokens.values()) / 1536
    assert 6 <= spent < 7
    assert history.status(facts)["done"] == pytest.approx(spent)


def test_the_virtual_clock_and_the_dry_run_go_by_it(
    config: SearchConfig, prepared: Prepared, tmp_path: Path
) -> None:
    mixture = {"jargon": 1.0, "devil": 0.0}
    genome: Genome = {"mixture": mixture, "learning_rate": 1e-3, "train_share": 0.25}
    short = Individual(5, genome)
    cost, recipe = cost_of(prepared.task), configuration.decode(config, genome)
    scoring, whole = cost(recipe, 0.0), cost(recipe, 1.0)
    assert share(config, Job(short, 0)) == portion(config, short) == 0.25
    duration = virtual_duration(config, cost, Job(short, 0))
    assert duration == pytest.approx(scoring + (whole - scoring) / 4)
    rungs = config.model_copy(update={"search": config.search.model_copy(update={"rungs": (0.5,)})})
    first, second = (virtual_duration(rungs, cost, Job(short, 0, level)) for level in (0.5, 1.0))
    assert first == pytest.approx(scoring + (whole - scoring) / 8)
    assert second == pytest.approx(first)
    assert tokens_of(config) == "384 to 1,536"
    half = load(tmp_path, "recipe.train_share=0.5")
    assert tokens_of(half) == "768"
    every, halved = epochs(config, prepared.task), epochs(half, prepared.task)
    assert halved["jargon"][1] == pytest.approx(every["jargon"][1] / 2)
    one, other = (outlook(spec, prepared).estimate for spec in (config, half))
    assert one is not None
    assert other is not None
    assert other.training == pytest.approx(one.training / 2)
    assert other.scoring == one.scoring


def test_experts_are_as_long_as_the_default_recipe_says(tmp_path: Path) -> None:
    simulated = ("search.strategy=surrogate", "search.simulate=48", "budget.evaluations=12")
    assert spent_on_experts(load(tmp_path, *simulated)) == 0.5
    assert spent_on_experts(load(tmp_path, *simulated, "recipe.train_share=0.5")) == 0.25


def test_a_short_winner_that_inherited_is_compared_with_its_whole_recipe_from_scratch(
    tmp_path: Path, config: SearchConfig, prepared: Prepared, run: Path
) -> None:
    """Its lineage is shorter than its own recipe is from scratch, which then takes all of it."""
    settings = ("recipe.start=parent", "budget.inherit_share=0.5", GENE)
    warm = load(tmp_path / "spec", *settings)
    folder = tmp_path / "run"
    genome: Genome = {"mixture": {"jargon": 1.0, "devil": 0.0}, "learning_rate": 1e-3}
    family = {
        0: Individual(0, {**genome, "train_share": 0.25}),
        1: Individual(1, {**genome, "train_share": 1.0}, parents=(0,)),
    }
    header = {"config": configuration.to_plain(warm), "fingerprints": {}, "time": 0.0}
    Ledger.create(folder, header).close()
    ready = prepare(warm)
    with Ledger(folder) as ledger:
        decisions, requests = parts(warm, ledger, cluster(ready, folder))
        for number, one in family.items():
            decisions.decide(number, Job(one, warm.seed), learned_from=None)
            requests.request(Job(one, warm.seed))
            requests.result(Job(one, warm.seed))
        compare(warm, family[1], decisions, requests)
    spent = {
        f["fidelity"]: f["cost"]["tokens"]
        for f in read(folder)
        if f["fact"] == "evaluation" and f["individual"] == 1
    }
    assert spent.pop(1.0) == 768
    assert [*spent.values()] == [1536]
    assert min(spent) > 1


def test_passes_leave_a_step_to_the_shortest(tmp_path: Path) -> None:
    passes = "budget.epochs={jargon: 0.001}"
    assert prepare(load(tmp_path, passes)).task.budget_tokens == 4 * 48
    assert prepare(load(tmp_path, passes, GENE)).task.budget_tokens == 4 * 4 * 48


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("recipe.train_share=0", "recipe.train_share: must be above 0"),
        ("recipe.train_share=1.5", "recipe.train_share: must be at most 1, got 1.5"),
        ("recipe.train_share=half", "recipe.train_share: "),
        ("recipe.train_share=0.1", "recipe.train_share: 154 tokens are less than one step"),
        (
            "genome.train_share={type: float, low: 0.1, high: 1}",
            "genome.train_share: 154 tokens are less than one step of the largest batch, 4 "
            "sequences of 48; raise it to at least 0.125",
        ),
        ("genome.train_share={type: float, low: 0.5, high: 2}", "genome.train_share.high: "),
        ("genome.train_share={type: float, low: 0, high: 1}", "genome.train_share.low: "),
        ("genome.train_share={type: int, low: 1, high: 2}", "genome.train_share.high: "),
    ],
)
def test_shares_that_train_on_nothing_are_refused(
    tmp_path: Path, setting: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, setting)
