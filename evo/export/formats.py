"""The recipe of an individual as a configuration of another trainer, with its data beside it."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from evo.config import SearchConfig
from evo.export.model import check_same, chosen, new_folder, write_recipe
from evo.export.trainers import DATA, TRAINERS, Fine, Trainer
from evo.prepare.task import prepare
from evo.record.facts import launch_of
from evo.record.ledger import read
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluate import handover, materialise
from fitness.evaluation import Task
from fitness.evaluators import Trl, TrlSettings
from fitness.files import appearing, write_whole
from fitness.recipe import Recipe


def export_as(run: Path, individual: str, name: str, to: Path, *, trusted: bool = False) -> str:
    """Write everything that the trainer `name` needs to the new folder `to`.

    Returns a message: the command to run, and what the trainer cannot express. The data are the
    windows that the individual was trained on in the search. Raises InputError.
    """
    facts = read(run)
    to = new_folder(to)
    config, number, plain = chosen(run, facts, individual, trusted=trusted)
    if config.model.task != "causal":
        raise InputError(
            f"{run}: --as {name} exports recipes of causal models only, and model.task is "
            f"{config.model.task}; `evo export` without --as writes the model itself"
        )
    prepared = prepare(config)
    check_same(run, launch_of(facts), prepared.fingerprints)
    trainer = TRAINERS[name]
    fine = _fine_tune(config, prepared.task, Recipe.model_validate(plain))
    missing = trainer.missing(fine)
    with appearing(to) as partial:
        (partial / DATA).mkdir(parents=True)
        _write_data(trainer, config, prepared.task, plain, partial / DATA)
        write_recipe(config, plain, partial / "recipe.yaml")
        heading = [f"Individual {number} of the evomix search {config.name}, for {name}."]
        heading += [f"In this folder, on one device: {trainer.command}", *_list_of(name, missing)]
        comment = "".join(f"# {line}\n" for line in heading)
        write_whole(partial / trainer.file, comment + _yaml(trainer.configuration(fine)))
    return "\n".join([f"cd {to} && {trainer.command}", *_list_of(name, missing)])


def _list_of(name: str, missing: list[str]) -> list[str]:
    if not missing:
        return []
    return [f"What {name} cannot express, or does otherwise:", *(f"- {one}" for one in missing)]


def _yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML 1.1, which other trainers read: there `no` is a boolean and 1e-5 a text."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 1000
    text = io.StringIO()
    yaml.dump(dict(settings), text)
    return text.getvalue().partition("---\n")[2]


def _fine_tune(config: SearchConfig, task: Task, recipe: Recipe) -> Fine:
    assert task.model is not None
    mixing = materialise.mixing_of(task, recipe, seed=config.seed)
    adapted = recipe.adapter != "none"
    return Fine(
        base=config.model.base,
        base_dtype=config.model.dtype,
        quantisation=config.model.quantisation,
        recipe=recipe,
        steps=mixing.steps(recipe.batch_size),
        seed=config.seed,
        settings=config.evaluator.trl if isinstance(config.evaluator, Trl) else TrlSettings(),
        adapted=handover.adapted_modules(task.model, recipe) if adapted else [],
        dropouts=handover.dropout_rates(task.model, recipe.dropout),
    )


def _write_data(
    trainer: Trainer, config: SearchConfig, task: Task, recipe: dict[str, Any], folder: Path
) -> None:
    assert task.model is not None
    tokenizer = load_tokenizer(task.model)
    windows = materialise.drawn(task, recipe, seed=config.seed)
    materialise.write_jsonl(folder / "train.jsonl", windows, tokenizer, columns=trainer.columns)
    if trainer.name == "llamafactory":
        info = {"evomix": {"file_name": "train.jsonl", "columns": {"prompt": "text"}}}
        (folder / "dataset_info.json").write_text(json.dumps(info, indent=2), encoding="utf-8")
        windows = materialise.drawn(task, recipe, seed=config.seed)
        materialise.write_tokenised(folder / "tokenized", windows)
