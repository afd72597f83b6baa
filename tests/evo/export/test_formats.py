"""A recipe taken elsewhere: configurations that other trainers read, and the data beside them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml  # 1.1, as the other trainers read it

from evo import config as configuration
from evo.cli import main
from evo.export.formats import export_as
from evo.prepare.task import prepare
from evo.record.ledger import Ledger
from fitness.errors import InputError
from fitness.evaluate import materialise
from fitness.evaluation import Task
from tests.evo.export.test_model import SPEC

FULL, LORA, TOP = range(3)
SHARES = {"jargon": 0.25, "wordnet": 0.75}
GENOMES = {
    FULL: {"mixture": SHARES, "learning_rate": 1e-3, "adapter": "none"},
    LORA: {"mixture": SHARES, "learning_rate": 3e-4, "adapter": "lora"},
    TOP: {"mixture": SHARES, "learning_rate": 1e-5, "adapter": "lora"},
}
LEARNS = {"mixture": {"jargon": 0.75, "wordnet": 0.25}, "learning_rate": 5e-3}
CHANGES = {
    FULL: "recipe: {batch_size: 4, sequence_length: 48, dropout: 0.1, warmup_share: 0}",
    LORA: "recipe: {batch_size: 4, sequence_length: 48, warmup_share: 0.5, beta2: 0.9}",
    TOP: "recipe: {batch_size: 4, sequence_length: 48, lora_layers: 1, lora_alpha: 2.5}",
}


def run_of(folder: Path, individual: int, *overrides: str) -> Path:
    """A run in which one individual was bred, and nothing evaluated."""
    spec = SPEC.replace("recipe: {batch_size: 4, sequence_length: 48}", CHANGES[individual])
    (folder / "little.yaml").write_text(spec)
    config = configuration.load(folder / "little.yaml", overrides)
    header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
    with Ledger.create(folder / "run", header) as ledger:
        values = {"parents": [], "operator": "random", "generation": 0, "learned_from": None}
        ledger.append("individual", id=individual, genome=GENOMES[individual], **values)
    return folder / "run"


def exported(folder: Path, individual: int, name: str, *overrides: str) -> tuple[dict, str, Path]:
    """The configuration as its trainer reads it, its comments, and the folder."""
    run = run_of(folder, individual, *overrides)
    to = folder / "elsewhere"
    told = export_as(run, str(individual), name, to)
    file = next(path for path in to.glob("*.yaml") if path.name != "recipe.yaml")
    comments = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert told.splitlines()[1:] == [line.removeprefix("# ") for line in comments[2:]]
    return yaml.safe_load(file.read_text()), told, to


def task_of(folder: Path) -> Task:
    return prepare(configuration.load(folder / "little.yaml")).task


def drawn(folder: Path, individual: int) -> list[list[int]]:
    config = configuration.load(folder / "little.yaml")
    recipe = configuration.decode(config, GENOMES[individual])
    return [row.tokens.tolist() for row in materialise.drawn(task_of(folder), recipe, seed=0)]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trl_is_told_the_recipe_and_given_the_very_tokens(tmp_path: Path) -> None:
    told, text, to = exported(tmp_path, FULL, "trl")
    assert text == f"cd {to} && trl sft --config sft.yaml"
    assert (told["max_steps"], told["per_device_train_batch_size"]) == (4, 4)
    assert (told["learning_rate"], told["dtype"], told["bf16"]) == (1e-3, "float32", False)
    assert told["model_init_kwargs"] == {"attention_dropout": 0.1}
    assert told["save_strategy"] == "no"
    assert told["train_sampling_strategy"] == "sequential"
    assert "use_peft" not in told
    rows = lines_of(to / "data" / "train.jsonl")
    assert [row["input_ids"] for row in rows] == drawn(tmp_path, FULL)
    assert [row["source"] for row in rows].count("jargon") == 4
    assert yaml.safe_load((to / "recipe.yaml").read_text())["dropout"] == 0.1


def test_what_a_trainer_cannot_express_is_told_twice(tmp_path: Path) -> None:
    told, text, _ = exported(tmp_path, TOP, "trl")
    assert "- lora_alpha: 2.5 must be a whole number there" in text
    assert told["learning_rate"] == 1e-5
    assert {name.split(".")[2] for name in told["lora_target_modules"]} == {"2"}
    assert all(name.startswith("model.layers.2.") for name in told["lora_target_modules"])


def test_axolotl_is_given_tokens_that_it_takes_as_they_are(tmp_path: Path) -> None:
    told, text, to = exported(tmp_path, LORA, "axolotl")
    assert "- warmup_share: step i of the 2 of the warm-up has i/2 of the learning rate" in text
    assert (told["adapter"], told["lora_r"], told["adam_beta2"]) == ("lora", 8, 0.9)
    assert sorted(told["lora_target_modules"])[0] == "down_proj"
    assert (told["save_strategy"], told["curriculum_sampling"]) == ("no", True)
    data = told["datasets"][0]["path"]
    assert lines_of(to / data) == [
        {"input_ids": row, "attention_mask": [1] * len(row), "labels": row}
        for row in drawn(tmp_path, LORA)
    ]


def test_weights_that_axolotl_would_round_are_told(tmp_path: Path) -> None:
    _, text, _ = exported(tmp_path, FULL, "axolotl", "recipe.precision=bfloat16")
    assert "- precision: bf16 keeps the weights in bfloat16" in text


def test_llamafactory_is_given_text_and_tokens(tmp_path: Path) -> None:
    import datasets

    told, text, to = exported(tmp_path, FULL, "llamafactory")
    assert "- dropout: only an adapter's can be set, not the model's own" in text
    assert (told["stage"], told["finetuning_type"], told["max_steps"]) == ("pt", "full", 4)
    info = json.loads((to / told["dataset_dir"] / "dataset_info.json").read_text())
    rows = lines_of(to / told["dataset_dir"] / info[told["dataset"]]["file_name"])
    assert set(rows[0]) == {"text", "source"}
    tokens = datasets.load_from_disk(to / told["tokenized_path"])["train"]
    assert tokens["input_ids"][:] == drawn(tmp_path, FULL)


QUANTISED = ("genome.adapter={type: choice, options: [lora, dora]}", "model.quantisation=nf4")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("trl", {"load_in_4bit": True, "use_bnb_nested_quant": True, "use_peft": True}),
        ("axolotl", {"load_in_4bit": True, "adapter": "qlora"}),
        ("llamafactory", {"quantization_bit": 4, "quantization_method": "bnb"}),
    ],
)
def test_other_trainers_quantise_the_base_too(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    told, text, _ = exported(tmp_path, LORA, name, *QUANTISED)
    assert {key: told.get(key) for key in settings} == settings
    assert ("beside 4 bits it trains the adapter in bfloat16" in text) == (name == "trl")


def test_trainers_without_such_an_int8_say_so(tmp_path: Path) -> None:
    told, text, _ = exported(tmp_path, LORA, "trl", *QUANTISED, "model.quantisation=int8")
    assert "- model.quantisation: int8, with a scale for each row, has no counterpart" in text
    assert "load_in_8bit" not in told


def test_an_evaluator_of_ones_own_has_no_recipe_to_take_elsewhere(tmp_path: Path) -> None:
    run = run_of(tmp_path, FULL)
    header, *rest = (run / "ledger.jsonl").read_text().splitlines()
    facts = json.loads(header)
    facts["config"]["evaluator"] = {"command": ["sh"], "data": None, "timeout": None}
    (run / "ledger.jsonl").write_text("\n".join([json.dumps(facts), *rest]) + "\n")
    with pytest.raises(InputError, match="its evaluator command trains models of its own"):
        export_as(run, "0", "trl", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_the_command_writes_to_a_new_folder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, to = run_of(tmp_path, FULL), tmp_path / "elsewhere"
    line = ["export", str(run), "--individual", "0", "--as", "axolotl", "--to", str(to)]
    assert main(line) == 0
    assert capsys.readouterr().out == f"cd {to} && axolotl train axolotl.yaml\n"
    assert main(line) == 2
    assert "is not an empty folder" in capsys.readouterr().err
