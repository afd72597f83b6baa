import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from evo import config as configuration
from evo.config import SearchConfig, load
from evo.config.budget import Budget
from evo.config.sections import Model
from evo.starter import QUICKSTART_FOLDER, TEMPLATE, init
from fitness.data.documents import Source, documents
from fitness.data.prompts import PromptSet, read_prompts
from fitness.errors import InputError
from tests.evo.config.conftest import written
from tests.evo.driving import ROOT
from tests.fitness.quickstart import MODEL


def plain_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", [TEMPLATE, QUICKSTART_FOLDER / "search.yaml", *sorted((ROOT / "runs").glob("*.yaml"))]
)
def test_tracked_specs_conform_to_the_schema(path: Path) -> None:
    schema = configuration.json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    data = plain_yaml(path)
    validator.validate(data)
    data.setdefault("search", {})["populaton"] = 3
    assert not validator.is_valid(data)


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("resources.gpus", "auto", "all"),
        ("resources.gpus", 0.25, -1),
        ("genome.lora", {"rank": {"type": "int", "low": 4, "high": 64}}, {"rank": 8}),
        ("genome.merge", {"type": "int", "low": 4, "high": 64}, {"type": "int"}),
        ("genome.thresholds", {"length": {"low": {"type": "float", "low": 0, "high": 1}}}, 1),
        ("genome.thresholds", {}, {"own": {"low": {"type": "float", "low": 0, "high": 1}}}),
    ],
)
def test_the_schema_takes_what_a_spec_may_say_in_other_words(
    key: str, right: object, wrong: object
) -> None:
    validator = jsonschema.Draft202012Validator(configuration.json_schema())
    data = plain_yaml(QUICKSTART_FOLDER / "search.yaml")
    section, name = key.split(".")
    for value, sound in ((right, True), (wrong, False)):
        data.setdefault(section, {})[name] = value
        assert validator.is_valid(data) is sound


def test_every_key_is_described_in_the_schema() -> None:
    schema = configuration.json_schema()
    genes = {"Float", "Int", "Choice", "Simplex"}
    for name, part in {"spec": schema, **schema["$defs"]}.items():
        for key, value in part.get("properties", {}).items():
            described = value.get("description") or (
                "$ref" in value and schema["$defs"][value["$ref"].split("/")[-1]]["description"]
            )
            assert described or name in genes, f"{name}.{key}"


def test_the_template_fits_one_screen_and_repeats_no_default() -> None:
    assert len(TEMPLATE.read_text(encoding="utf-8").splitlines()) <= 50
    data = plain_yaml(TEMPLATE)
    assert data.keys() <= SearchConfig.model_fields.keys()
    sections: list[tuple[type[BaseModel], dict[str, Any]]] = [
        (SearchConfig, data),
        (Model, {**data["model"], "base": None}),
        (Budget, data["budget"]),
        (PromptSet, data["prompts"]["jargon"]),
        (Source, data["sources"]["jargon"]),
    ]
    for model, section in sections:
        for key, value in section.items():
            assert value != model.model_fields[key].default, f"{model.__name__}.{key}"


def test_the_examples_in_the_template_are_valid(tmp_path: Path) -> None:
    path = written(tmp_path / "a.yaml", re.sub(r"#: ", "", TEMPLATE.read_text()))
    config = load(path)
    assert config.constraints == ("general/loss <= 1.02 * base",)
    assert config.recipe["adapter"] == "lora"
    assert {"weight_decay", "mixture"} <= config.genome.keys()


def test_init_writes_a_spec_whose_data_can_be_read(tmp_path: Path) -> None:
    files = init(tmp_path / "new")
    assert files[0] == tmp_path / "new" / "search.yaml"
    config = load(files[0])
    for source in config.sources.values():
        assert sum(len(text) for text in documents(source, tmp_path)) > 5_000
    for domain in config.domains.values():
        for source, half in domain.splits().values():
            assert len(list(documents(source, tmp_path, half=half))) >= 10
    prompts = config.prompts["jargon"]
    for path in (prompts.selection, prompts.test):
        assert len(read_prompts("jargon", path, prompts, MODEL).prompts) == 16


def test_init_leaves_what_is_there(tmp_path: Path) -> None:
    there = tmp_path / "data" / "prompts" / "jargon.test.jsonl"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(InputError, match=r"jargon.test.jsonl: exists already"):
        init(tmp_path)
    assert not (tmp_path / "search.yaml").exists()
    assert there.read_text() == "mine"
