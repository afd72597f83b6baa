"""Exports out of a small run on the real quickstart model: full, adapted and retrained ones."""

import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from evo import config as configuration
from evo.export.model import _front, _train_again, export, hub_id
from evo.prepare.outlook import duration
from evo.prepare.task import prepare
from evo.record.ledger import Ledger
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec, Split, Status, Task, failed
from fitness.files import size
from fitness.models import weights
from fitness.recipe import Recipe
from tests.evo.driving import evo
from tests.evo.facts import read
from tests.evo.strange import without_sums

QUICKSTART = configuration.resolve_spec("quickstart").parent
SPEC = f"""\
name: little
model: {{base: quickstart}}
sources:
  jargon: {{path: {QUICKSTART}/corpus/sources/jargon.jsonl}}
  wordnet: {{path: {QUICKSTART}/corpus/sources/wordnet, limit: 200}}
domains:
  target:
    selection: {{path: {QUICKSTART}/corpus/held_out/jargon.selection.jsonl, limit: 20}}
    test: {{path: {QUICKSTART}/corpus/held_out/jargon.test.jsonl, limit: 20}}
recipe: {{batch_size: 4, sequence_length: 48}}
genome:
  mixture: {{type: simplex}}
  learning_rate: {{type: float, low: 1e-4, high: 10, log: true}}
  adapter: {{type: choice, options: [none, lora]}}
objectives: {{target/loss: minimize}}
constraints: [target/loss <= 1.05 * base, target/loss <= 5]
baselines: []
search: {{strategy: nsga2, population: 4}}
budget: {{evaluations: 8, tokens: 768}}
comparison: {{seeds: 2}}
"""
FULL, LORA, DIVERGED, TWIN, UNSEEN = range(5)
GENOMES = {
    FULL: {"mixture": {"jargon": 0.75, "wordnet": 0.25}, "learning_rate": 1e-3, "adapter": "none"},
    LORA: {"mixture": {"jargon": 0.5, "wordnet": 0.5}, "learning_rate": 3e-4, "adapter": "lora"},
    DIVERGED: {"mixture": {"jargon": 1.0, "wordnet": 0.0}, "learning_rate": 10, "adapter": "none"},
}
GENOMES[TWIN] = GENOMES[UNSEEN] = GENOMES[FULL]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("spec")
    (folder / "little.yaml").write_text(SPEC)
    return prepare(configuration.load(folder / "little.yaml")).task


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder as a driver leaves it, its weights kept; nothing may change it."""
    folder = tmp_path_factory.mktemp("little")
    (folder / "little.yaml").write_text(SPEC)
    config = configuration.load(folder / "little.yaml")
    prepared = prepare(config)
    run = folder / "run"
    evaluator = Evaluator(replace(prepared.task, artifacts=run / "artifacts"))
    header = {
        "config": configuration.to_plain(config),
        "fingerprints": prepared.fingerprints,
        "time": 0.0,
    }
    with Ledger.create(run, header) as ledger:

        def evaluate(individual: int, seed: int, fidelity: float, split: Split) -> None:
            recipe = configuration.decode(config, GENOMES[individual])
            spec = EvaluationSpec(individual, recipe, seed, fidelity, split)
            if individual == DIVERGED:
                evaluation = failed(spec, Status.DIVERGED, "loss nan")
            else:
                evaluation = evaluator.evaluate(spec)
                assert evaluation.status is Status.OK, evaluation.message
            if individual == TWIN:
                evaluation = replace(evaluation, cost={}, details={"same_as": FULL})
            ledger.append("evaluation", **evaluation.fact())

        for individual, genome in GENOMES.items():
            values = {"genome": genome, "parents": [], "operator": "random", "generation": 0}
            ledger.append("individual", id=individual, learned_from=None, **values)
        evaluate(FULL, 0, 0.0, "selection")
        evaluate(FULL, 0, 0.5, "selection")
        for individual in (FULL, LORA, DIVERGED, TWIN):
            evaluate(individual, 0, 1.0, "selection")
        shutil.rmtree(weights.folder_of(run / "artifacts", TWIN))
        for seed in (1, 2):
            evaluate(FULL, seed, 1.0, "test")
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run that may be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def measured(run: Path, individual: int) -> float:
    return next(
        fact["measurements"]["target/loss"]
        for fact in read(run)
        if fact["fact"] == "evaluation"
        and fact["individual"] == individual
        and fact["fidelity"] == 1
    )


def loss_of(folder: Path, task: Task) -> float:
    from transformers import AutoModelForCausalLM

    from fitness.evaluate.held_out import held_out_loss

    model = AutoModelForCausalLM.from_pretrained(folder)
    return held_out_loss(model, task.domains["target"]["selection"], task.held_out_length)


def test_a_fine_tune_that_stopped_early_is_trained_again_to_the_same_weights(
    task: Task, tmp_path: Path
) -> None:
    patient = replace(task, patience=1, stop_on="target/loss", budget_tokens=10 * 4 * 48)
    recipe = {**GENOMES[FULL], "learning_rate": 2e-2, "batch_size": 4, "sequence_length": 48}
    spec = EvaluationSpec(0, recipe, seed=0)
    done = Evaluator(replace(patient, artifacts=tmp_path / "one")).evaluate(spec)
    assert 0 < done.details["best_step"] < done.details["steps"], done.message
    again = _train_again(replace(patient, artifacts=tmp_path / "two"), spec)
    kept = weights.folder_of(tmp_path / "one", 0) / "model.safetensors"
    assert kept.read_bytes() == (again / kept.name).read_bytes()


@pytest.mark.parametrize("individual", [FULL, LORA])
def test_an_export_loses_what_the_search_measured(
    finished: Path, task: Task, tmp_path: Path, individual: int
) -> None:
    from transformers import AutoTokenizer

    to = export(finished, str(individual), tmp_path / "deep" / "er" / "model")
    assert loss_of(to, task) == pytest.approx(measured(finished, individual), abs=1e-5)
    assert AutoTokenizer.from_pretrained(to)("bug: n.")["input_ids"]
    recipe = YAML(typ="safe").load(to / "recipe.yaml")
    whole = configuration.decode(configuration.of(read(finished)), GENOMES[individual])
    assert Recipe.model_validate(recipe) == Recipe.model_validate(whole)
    searched, given = {"mixture", "learning_rate", "adapter"}, {"batch_size", "sequence_length"}
    assert recipe.keys() == searched | given
    assert [path.name for path in to.parent.iterdir()] == ["model"]


def test_best_is_the_lowest_loss_and_the_earlier_among_equals(
    finished: Path, tmp_path: Path
) -> None:
    to = export(finished, "best", tmp_path / "model")
    losses = {number: measured(finished, number) for number in (FULL, LORA, TWIN)}
    assert min(losses, key=lambda number: (losses[number], number)) == FULL
    kept = weights.folder_of(finished / "artifacts", FULL) / "model.safetensors"
    assert (to / "model.safetensors").read_bytes() == kept.read_bytes()


@pytest.mark.parametrize("individual", [FULL, LORA])
def test_weights_that_were_not_kept_are_trained_again_to_the_last_bit(
    run: Path, tmp_path: Path, individual: int
) -> None:
    kept = export(run, str(individual), tmp_path / "kept")
    shutil.rmtree(run / "artifacts")
    again = export(run, str(individual), tmp_path / "again")
    for path in kept.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    assert not (run / "artifacts").exists()


def test_an_individual_equal_to_another_is_exported_like_it(finished: Path, tmp_path: Path) -> None:
    one = export(finished, str(FULL), tmp_path / "one")
    twin = export(finished, str(TWIN), tmp_path / "twin")
    weights_of = [(folder / "model.safetensors").read_bytes() for folder in (one, twin)]
    assert weights_of[0] == weights_of[1]
    assert "| jargon | 0.750 |" in (twin / "README.md").read_text()


def test_the_model_card_tells_data_measurements_and_origin(finished: Path, tmp_path: Path) -> None:
    text = (export(finished, str(FULL), tmp_path / "model") / "README.md").read_text()
    assert "selection split: `target/loss <= 5`: met." in text
    assert re.search(r"`target/loss <= \d\.\d+ \(1\.05 \* base\)`: met\.", text)
    front = YAML(typ="safe").load(text.split("---\n")[1])
    assert front == {"library_name": "transformers", "tags": ["evomix"]}  # it is on no Hub
    assert "# little: individual 0" in text
    assert "over 3 fine-tunes of evomix's quickstart model, 768 tokens each" in text
    shares = dict(re.findall(r"^\| (\w+) \| (0\.\d+) \|", text, re.M))
    assert shares == {"jargon": "0.750", "wordnet": "0.250"}
    facts = [f for f in read(finished) if f["fact"] == "evaluation" and f["fidelity"] == 1]
    own = [f for f in facts if f["individual"] == FULL]
    test = [f["measurements"]["target/loss"] for f in own if f["split"] == "test"]
    wanted = f"| {measured(finished, FULL):.4f} (n=1) | {sum(test) / 2:.4f} (n=2) |"
    assert f"| target/loss {wanted}" in text
    assert str(tmp_path.parent) not in text


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("gpt2", "gpt2"),
        ("/x/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899d", "Qwen/Qwen3-0.6B"),
        ("/x/hub/models--a-b--c--d.e/snapshots/c1899d", "a-b/c--d.e"),
        ("/nowhere/my model", None),
        ("/nowhere/model.gguf", None),
        ("tests", None),
        ("a b/c", None),
        ("", None),
    ],
)
def test_a_card_names_its_base_by_a_name_of_the_hub_or_not_at_all(
    base: str, name: str | None
) -> None:
    assert hub_id(base) == name
    front = YAML(typ="safe").load(_front(base, adapter=True))
    assert front.get("base_model") == name
    assert front["library_name"] == "peft"


def test_an_adapter_is_exported_as_peft_reads_it_and_merges_to_the_same_model(
    finished: Path, tmp_path: Path
) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM

    to = export(finished, str(LORA), tmp_path / "adapter", adapter=True)
    names = {"adapter_config.json", "adapter_model.safetensors", "README.md", "recipe.yaml"}
    assert {path.name for path in to.iterdir()} == names
    assert "library_name: peft" in (to / "README.md").read_text()
    rows = torch.arange(40).reshape(2, 20)
    whole = AutoModelForCausalLM.from_pretrained(export(finished, str(LORA), tmp_path / "whole"))
    base = AutoModelForCausalLM.from_pretrained(QUICKSTART / "model")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)
        alone = AutoPeftModelForCausalLM.from_pretrained(to)(rows).logits
        beside = PeftModel.from_pretrained(base, to)
        wanted = whole(rows).logits
        assert not torch.allclose(
            AutoModelForCausalLM.from_pretrained(QUICKSTART / "model")(rows).logits,
            wanted,
            atol=1e-3,
        )
        for found in (alone, beside(rows).logits, beside.merge_and_unload()(rows).logits):
            assert torch.allclose(found, wanted, atol=1e-4)


def test_an_adapter_that_was_not_kept_is_trained_again_to_the_same_one(
    run: Path, tmp_path: Path
) -> None:
    kept = export(run, str(LORA), tmp_path / "kept", adapter=True)
    shutil.rmtree(run / "artifacts")
    told: list[str] = []
    again = export(run, str(LORA), tmp_path / "again", adapter=True, tell=told.append)
    for path in kept.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(told) == 1


def test_all_weights_are_no_adapter(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="individual 0 trained all weights and has no adapter"):
        export(finished, str(FULL), tmp_path / "adapter", adapter=True)
    assert list(tmp_path.iterdir()) == []


def test_the_time_and_disk_of_training_again_are_told_before(run: Path, tmp_path: Path) -> None:
    told: list[str] = []
    export(run, str(FULL), tmp_path / "kept", tell=told.append)
    assert told == []
    shutil.rmtree(run / "artifacts")
    export(run, str(TWIN), tmp_path / "again", tell=told.append)
    seconds = next(
        fact["cost"]["train_seconds"]
        for fact in read(run)
        if fact["fact"] == "evaluation" and fact["individual"] == FULL and fact["fidelity"] == 1
    )
    paused = next(f for f in read(run) if f["fact"] == "evaluation" and f["fidelity"] == 0.5)
    took = duration(seconds + paused["cost"]["train_seconds"])
    bytes_ = (QUICKSTART / "model" / "model.safetensors").stat().st_size
    assert told == [
        f"the checkpoint of individual {TWIN} was not kept: training it again, which took "
        f"{took} in the run; {bytes_ / 1e6:.1f} MB of disk in {tempfile.gettempdir()} for the "
        f"time being, {bytes_ / 1e6:.1f} MB in {tmp_path / 'again'}"
    ]


def test_a_disk_without_room_is_told_before_anything_is_trained(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run / "artifacts")
    usage = shutil._ntuple_diskusage(2_000_000, 0, 2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(InputError, match=r"an export needs 3\.4 MB there and the disk has 2\.0 MB"):
        export(run, str(FULL), tmp_path / "model", tell=lambda line: pytest.fail(line))
    assert list(tmp_path.iterdir()) == [run]


def test_sizes_are_told_in_units_of_their_own() -> None:
    assert [size(n) for n in (12, 1500, 2_340_000, 7 * 10**9)] == [
        "12 bytes",
        "1.5 kB",
        "2.3 MB",
        "7.0 GB",
    ]


def test_the_card_of_an_individual_that_was_never_tested_says_so(
    finished: Path, tmp_path: Path
) -> None:
    text = (export(finished, str(LORA), tmp_path / "model") / "README.md").read_text()
    assert re.search(r"^\| target/loss \| [\d.]+ \(n=1\) \| - \|$", text, re.M)


def test_a_run_that_goes_on_can_be_exported_from(run: Path, tmp_path: Path) -> None:
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:9]))
    with Ledger(run):
        assert (export(run, "best", tmp_path / "model") / "config.json").is_file()


def cut_before_any_result(run: Path) -> None:
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:6]))


def nothing(run: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("individual", "damage", "told"),
    [
        ("99", nothing, r"has no individual '99'; it has 0 to 4, or say `best`"),
        ("-1", nothing, r"has no individual '-1'"),
        ("bset", nothing, r"has no individual 'bset'"),
        (str(DIVERGED), nothing, "individual 2 has no finished evaluation"),
        (str(UNSEEN), nothing, "individual 4 has no finished evaluation"),
        ("best", cut_before_any_result, "no individual has finished yet"),
        ("0", cut_before_any_result, "individual 0 has no finished evaluation"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(
    run: Path, tmp_path: Path, individual: str, damage: Callable[[Path], None], told: str
) -> None:
    damage(run)
    with pytest.raises(InputError, match=told):
        export(run, individual, tmp_path / "model")
    assert list(tmp_path.iterdir()) == [run]


def test_only_a_new_or_empty_folder_is_written_to(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for taken in (tmp_path, file):
        with pytest.raises(InputError, match="exists and is not an empty folder; name a new one"):
            export(finished, "best", taken)
    assert file.read_text() == "precious"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    export(finished, "best", Path())
    assert (tmp_path / "empty" / "config.json").is_file()


def changed(run: Path, **values: Any) -> None:
    """The run's first fact, made to say something else."""
    path = run / "ledger.jsonl"
    first, rest = without_sums(run / "ledger.jsonl").split("\n", 1)
    for old, new in values.items():
        assert old in first
        first = re.sub(f'"{old}":"[^"]*"', f'"{old}":"{new}"', first, count=1)
    path.write_text(f"{first}\n{rest}")


def test_another_model_or_other_data_than_at_the_launch_are_refused(
    run: Path, tmp_path: Path
) -> None:
    path = run / "ledger.jsonl"
    whole = without_sums(run / "ledger.jsonl")
    fingerprints = read(run)[0]["fingerprints"]
    path.write_text(whole.replace(fingerprints["model"], "0" * 64))
    with pytest.raises(InputError, match="not the same model as at the launch"):
        export(run, "best", tmp_path / "model")
    path.write_text(whole.replace(fingerprints["sources"]["wordnet"], "0" * 64))
    export(run, "best", tmp_path / "kept")  # its weights are there, its data do not matter
    shutil.rmtree(run / "artifacts")
    with pytest.raises(InputError, match="not the same sources as at the launch"):
        export(run, "best", tmp_path / "model")


def test_no_room_to_train_again_leaves_nothing_behind(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "keep", lambda model, folder: None)
    shutil.rmtree(run / "artifacts")
    with pytest.raises(InputError, match="no room for its weights"):
        export(run, "best", tmp_path / "model")
    assert list(tmp_path.iterdir()) == [run]


def test_a_disk_that_fills_up_leaves_nothing_behind(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(configuration, "write_yaml", fill_up)
    with pytest.raises((OSError, InputError), match="No space left"):
        export(finished, "best", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_an_evaluator_of_its_own_has_no_models_to_export(run: Path) -> None:
    changed(run, evaluator="mine.trainer:run")
    with pytest.raises(InputError, match=r"its evaluator mine\.trainer:run trains models of its"):
        export(run, "best", run / "model")


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [FULL, LORA])
def test_the_command_prints_the_folder_and_nothing_else(
    run: Path, tmp_path: Path, adapter: int
) -> None:
    shutil.rmtree(run / "artifacts")
    to = tmp_path / "model"
    done = evo("export", run, "--individual", adapter, "--to", to)
    assert (done.returncode, done.stdout) == (0, f"{to}\n")
    assert re.fullmatch(
        rf"evo: the checkpoint of individual {adapter} was not kept: training it again, which took "
        r"(under a second|\d+ s) in the run; [\d.]+ [kM]B of disk in \S+ for the time being, "
        rf"1\.7 MB in {to}\n",
        done.stderr,
    )
    refused = evo("export", run, "--to", to)
    assert refused.returncode == 2
    assert refused.stderr == f"evo: {to} exists and is not an empty folder; name a new one\n"
