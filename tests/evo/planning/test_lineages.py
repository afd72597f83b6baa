"""Searches whose children begin with their parents' weights: the same whatever happens to them."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evo import config as configuration
from evo import history
from evo.config import ConfigError, SearchConfig
from evo.export.model import export
from evo.history.comparison import COLD
from evo.planning.lineages import origins, portion, recorded
from evo.prepare.task import Prepared, prepare
from evo.record.artifacts import Artifacts
from evo.record.ledger import Ledger
from evo.report import page
from evo.report.contents import comparison_table
from evo.search.jobs import Job
from evo.search.loop import compare, evolve, virtual_duration
from fitness.cost import cost_of
from fitness.models import weights
from population.individual import Individual
from population.space import Genome
from tests.evo.driving import evo, start, wait_until
from tests.evo.facts import Fact, read
from tests.evo.search.test_loop import InProcess, outcome, parts

QUICKSTART = configuration.resolve_spec("quickstart").parent
SPEC = f"""\
name: heirs
seed: 2
model: {{base: quickstart}}
sources:
  jargon: {{path: {QUICKSTART}/corpus/sources/jargon.jsonl}}
  wordnet: {{path: {QUICKSTART}/corpus/sources/wordnet, limit: 200}}
domains:
  target:
    selection: {{path: {QUICKSTART}/corpus/held_out/jargon.selection.jsonl, limit: 10}}
    test: {{path: {QUICKSTART}/corpus/held_out/jargon.test.jsonl, limit: 10}}
recipe: {{batch_size: 4, sequence_length: 48}}
genome:
  mixture: {{type: simplex}}
  learning_rate: {{type: float, low: 1e-4, high: 1e-2, log: true}}
  adapter: {{type: choice, options: [none, lora]}}
  start: {{type: choice, options: [parent, merge]}}
  merge_method: {{type: choice, options: [svd, dare_ties], when: {{start: merge}}}}
objectives: {{target/loss: minimize}}
baselines: []
search: {{strategy: nsga2, population: 5, parallel: 2, replicates: 2}}
budget: {{evaluations: 7, tokens: 768, inherit_share: 0.25}}
comparison: {{seeds: 1}}
"""


def load(folder: Path, text: str = SPEC) -> SearchConfig:
    folder.mkdir(exist_ok=True)
    (folder / "search.yaml").write_text(text)
    return configuration.load(folder / "search.yaml")


class Killed(Exception):
    pass


def search(
    run: Path,
    config: SearchConfig,
    prepared: Prepared,
    cluster: InProcess,
    watch: Callable[[Fact], None] = lambda fact: None,
) -> Individual:
    """Launch, or resume where there is a ledger, to the end."""
    if not (run / "ledger.jsonl").exists():
        header = {
            "config": configuration.to_plain(config),
            "fingerprints": prepared.fingerprints,
            "time": 0.0,
        }
        Ledger.create(run, header).close()
    with Ledger(run) as ledger:
        decisions, requests = parts(config, ledger, cluster, watch=watch)
        cost, artifacts = cost_of(prepared.task), Artifacts(run / "artifacts")
        winner = evolve(config, prepared.sizes, cost, decisions, requests, artifacts)
        compare(config, winner, decisions, requests)
    return winner


def cluster(prepared: Prepared, run: Path, number: int = 0, size: int = 2) -> InProcess:
    task = replace(prepared.task, artifacts=run / "artifacts")
    return InProcess(task, random.Random(number), size=size)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    return load(tmp_path_factory.mktemp("spec"))


@pytest.fixture(scope="module")
def prepared(config: SearchConfig) -> Prepared:
    return prepare(config)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, config: SearchConfig, prepared: Prepared
) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    search(run, config, prepared, cluster(prepared, run))
    return run


def heirs(run: Path) -> list[Fact]:
    return [f for f in read(run) if f["fact"] == "evaluation" and "inherited_from" in f["details"]]


def test_order_of_completions_and_number_of_workers_change_nothing(
    tmp_path: Path, config: SearchConfig, prepared: Prepared, undisturbed: Path
) -> None:
    run = tmp_path / "run"
    search(run, config, prepared, cluster(prepared, run, number=1, size=5))
    assert outcome(run) == outcome(undisturbed)
    assert {len(fact["details"]["inherited_from"]) for fact in heirs(run)} == {1, 2}


def test_a_search_that_is_cut_off_and_loses_its_weights_ends_in_the_same_run(
    tmp_path: Path, config: SearchConfig, prepared: Prepared, undisturbed: Path
) -> None:
    run, rng = tmp_path / "run", random.Random(0)
    total = len(read(undisturbed))
    for place in sorted(rng.sample(range(4, total - 4), 3)):

        def cut(fact: Fact, place: int = place) -> None:
            if len(read(run)) > place:
                raise Killed

        with pytest.raises(Killed):
            search(run, config, prepared, cluster(prepared, run, number=place), cut)
        for folder in sorted((run / "artifacts").glob("individual-*")):
            if rng.random() < 0.6:
                shutil.rmtree(folder)
    search(run, config, prepared, cluster(prepared, run))
    assert outcome(run) == outcome(undisturbed)


def test_weights_are_kept_for_the_living_and_what_they_began_with(undisturbed: Path) -> None:
    facts = read(undisturbed)
    born = {f["id"]: f["parents"] for f in facts if f["fact"] == "individual"}
    kept = {int(path.name.split("-")[1]) for path in (undisturbed / "artifacts").iterdir()}
    assert 5 <= len(kept) < len(born)
    assert history.best(facts) in kept
    assert set(born[history.best(facts)]) <= kept


def test_weights_that_are_held_are_deleted_once_they_are_let_go(tmp_path: Path) -> None:
    for number in range(3):
        weights.folder_of(tmp_path, number).mkdir()
    (tmp_path / "retrained-by-a-worker-that-died").mkdir()
    artifacts = Artifacts(tmp_path)
    artifacts.keep_also({1, 2})
    for number, loss in enumerate((1.0, 2.0, 3.0)):
        artifacts.keep_or_delete(Individual(number, {}, losses=(loss,)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("individual-0", "individual-1", "individual-2")
    ]
    artifacts.keep_also({1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["individual-0", "individual-1"]
    artifacts.keep_also(())
    assert [path.name for path in tmp_path.iterdir()] == ["individual-0"]


def test_an_heir_is_exported_to_the_bit_without_the_weights_of_its_lineage(
    tmp_path: Path, undisturbed: Path
) -> None:
    kept = [int(p.name.split("-")[1]) for p in (undisturbed / "artifacts").iterdir()]
    number = max(f["individual"] for f in heirs(undisturbed) if f["individual"] in kept)
    export(undisturbed, str(number), tmp_path / "kept")
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    shutil.rmtree(weights.folder_of(run / "artifacts", number))
    export(run, str(number), tmp_path / "from its parents")
    shutil.rmtree(run / "artifacts")
    export(run, str(number), tmp_path / "from the base")
    wanted = (tmp_path / "kept/model.safetensors").read_bytes()
    for again in ("from its parents", "from the base"):
        assert (tmp_path / again / "model.safetensors").read_bytes() == wanted
    assert "It started from the weights of individual" in (tmp_path / "kept/README.md").read_text()


def test_a_lineage_counts_every_fine_tune_once(config: SearchConfig, undisturbed: Path) -> None:
    facts = read(undisturbed)
    for fact in heirs(undisturbed):
        lineage = recorded(config, facts, fact["individual"])
        assert list(lineage.parents) == fact["details"]["inherited_from"]
        tokens = sum(192 if one.parents else 768 for one in lineage.ancestors)
        assert sum(lineage.seen.values()) == tokens
        assert sum(fact["details"]["cumulative_tokens"].values()) == tokens + 192
    rows = history.table(facts)
    assert rows.loc[rows["inherited_from"] != "", "cumulative_tokens"].min() >= 960
    own = rows[(rows["inherited_from"] == "") & (rows["fidelity"] == 1)]
    assert set(own["cumulative_tokens"]) == {768.0}


def test_an_heir_takes_its_share_of_budget_and_virtual_time(
    config: SearchConfig, prepared: Prepared, undisturbed: Path
) -> None:
    facts = read(undisturbed)
    spent = sum(
        0.25 if "inherited_from" in fact["details"] else 1.0
        for fact in facts
        if fact["fact"] == "evaluation" and fact["split"] == "selection" and fact["fidelity"] == 1
    )
    assert 7 <= spent < 8
    assert history.status(facts)["done"] == spent
    mixture = {"jargon": 1.0, "wordnet": 0.0}
    genome: Genome = {"mixture": mixture, "learning_rate": 1e-3, "adapter": "none"}
    child = Individual(5, {**genome, "start": "parent"}, parents=(3,))
    assert portion(config, child) == 0.25
    cost = cost_of(prepared.task)
    recipe = configuration.decode(config, genome)
    scoring, whole = cost(recipe, 0.0), cost(recipe, 1.0)
    duration = virtual_duration(config, cost, Job(child, 0))
    assert duration == pytest.approx(scoring + (whole - scoring) / 4)


def test_equal_genomes_share_an_evaluation_only_if_they_began_alike(
    tmp_path: Path, config: SearchConfig, prepared: Prepared, undisturbed: Path
) -> None:
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    heir = heirs(run)[0]["individual"]
    with Ledger(run) as ledger:
        asked = cluster(prepared, run)
        decisions, requests = parts(config, ledger, asked)
        known = decisions.individual(heir)
        requests.request(Job(known, config.seed))
        twin = replace(known, id=100)
        requests.request(Job(twin, config.seed))
        details = requests.result(Job(twin, config.seed)).details
        assert details["same_as"] == heir
        assert details["inherited_from"] == list(known.parents[:1])
        elsewhere = next(one for one in range(4) if one not in known.parents)
        other = replace(known, id=101, parents=(elsewhere,))
        requests.request(Job(other, config.seed))
        assert requests.result(Job(other, config.seed)).details["inherited_from"] == [elsewhere]
    assert asked.asked == [(101, config.seed, 1.0, "selection")]


@pytest.mark.parametrize(
    ("start_with", "parents", "wanted"),
    [
        ("scratch", (3, 4), ()),
        ("parent", (3, 4), (3,)),
        ("merge", (3, 4), (3, 4)),
        ("merge", (3,), (3,)),
        ("parent", (), ()),
    ],
)
def test_who_begins_with_whose_weights(
    start_with: str, parents: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    assert origins({"start": start_with}, {}, parents) == wanted
    assert origins({"start": "scratch"}, {"start": start_with}, parents) == wanted


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "strategy: nsga2",
            "strategy: optuna:tpe",
            "optuna:tpe has no parents to start from",
        ),
        ("replicates: 2", "rungs: [0.5]", "a parent whose fine-tune has paused"),
        ("inherit_share: 0.25", "inherit_share: 0.1", "less than one step"),
    ],
)
def test_what_does_not_go_with_inheritance_is_said_before_anything_trains(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, SPEC.replace(old, new))
    lines = SPEC.replace(old, new).splitlines(keepends=True)
    alike = [line for line in lines if not line.startswith(("  start:", "  merge_method:"))]
    load(tmp_path, "".join(alike))


def compared(folder: Path, cold: float) -> list[Fact]:
    """A run of two fine-tunes whose winner is the heir, tested under two seeds each."""
    plain = configuration.to_plain(load(folder))
    genome = {"mixture": {"jargon": 1.0, "wordnet": 0.0}, "learning_rate": 1e-3, "adapter": "none"}
    facts: list[Fact] = [{"fact": "search", "format": 1, "config": plain, "time": 0.0}]
    for number, parents in ((0, []), (1, [0])):
        born = {"id": number, "genome": {**genome, "start": "parent"}, "parents": parents}
        facts.append({"fact": "individual", "operator": "", "generation": 0, **born})

    def evaluated(number: int, seed: int, fidelity: float, split: str, loss: float) -> None:
        heir = number == 1 and fidelity == 1
        tokens = {0.0: 0, 1.0: 960 if heir else 768}.get(fidelity, 960)
        details = {"cumulative_tokens": {"jargon": tokens}}
        facts.append(
            {
                "fact": "evaluation",
                **{"individual": number, "seed": seed, "fidelity": fidelity, "split": split},
                **{"status": "ok", "measurements": {"target/loss": loss}, "cost": {}},
                "details": details | ({"inherited_from": [0]} if heir else {}),
                **{"message": "", "worker": "", "started": 0.0, "finished": 1.0},
            }
        )

    for number in (0, 1):
        evaluated(number, 2, 1.0, "selection", 4.0 - number)
    facts.append({"fact": "winner", "individual": 1, "split": "selection", "seeds": 1})
    for seed, noise in ((3, 0.0), (4, 0.01)):
        evaluated(0, seed, 0.0, "test", 5.0)
        evaluated(1, seed, 1.0, "test", 3.0 + noise)
        evaluated(1, seed, 1.25, "test", cold + noise)
    return facts


@pytest.mark.parametrize(
    ("cold", "tone", "note"),
    [
        (3.5, "good", "The warm start paid off: its recipe reached 3.505"),
        (2.5, "mixed", "The warm start was a loss: its recipe reached 2.505"),
        (3.001, "mixed", "The warm start did not clearly pay off"),
    ],
)
def test_a_winner_that_inherited_is_held_against_its_recipe_on_as_many_tokens(
    tmp_path: Path, cold: float, tone: str, note: str
) -> None:
    facts = compared(tmp_path, cold)
    closing = history.comparison(facts).set_index("contender")
    assert closing["tokens"].to_dict() == {"winner": 960.0, "base": 0.0, COLD: 960.0}
    told = history.verdict(facts)
    assert told.tone == tone
    assert any(line.startswith(note) and "960 tokens" in line for line in told.notes)
    table = comparison_table(facts)
    assert table is not None
    assert table["with_tokens"]
    assert [row["tokens"] for row in table["rows"]] == ["960", "0", "960"]
    text = page(facts)
    assert "Warm starts" in text
    assert "tokens, with its lineage" in text


def test_the_winner_meets_its_recipe_from_scratch_only_if_it_inherited(
    undisturbed: Path, tmp_path: Path, config: SearchConfig, prepared: Prepared
) -> None:
    facts = read(undisturbed)
    assert not {f["fidelity"] for f in facts if f["fact"] == "evaluation"} - {0.0, 1.0}
    heir = max(fact["individual"] for fact in heirs(undisturbed))
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    with Ledger(run) as ledger:
        asked = cluster(prepared, run)
        decisions, requests = parts(config, ledger, asked)
        compare(config, decisions.individual(heir), decisions, requests)
    longer = [f for f in read(run) if f["fact"] == "evaluation" and f["fidelity"] > 1]
    (wanted,) = {
        sum(f["details"]["cumulative_tokens"].values())
        for f in heirs(run)
        if f["individual"] == heir
    }
    (scratch,) = longer
    assert scratch["cost"]["tokens"] == wanted
    assert "inherited_from" not in scratch["details"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torn last line")
def test_a_killed_search_resumes_to_the_same_run(tmp_path: Path, undisturbed: Path) -> None:
    load(tmp_path)
    run = tmp_path / "run"
    line = ("launch", tmp_path / "search.yaml", "--run", run, "--set", "resources.workers=2")
    driver = start(*line)
    wait_until(driver, run, '"inherited_from"', 1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    shutil.rmtree(run / "artifacts", ignore_errors=True)
    finished = evo("resume", run)
    assert finished.returncode == 0, finished.stderr
    assert outcome(run) == outcome(undisturbed)
