import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evo.config import json_schema, load
from evo.config.budget import Resources
from evo.config.sections import Halves, TwoFiles
from evo.starter import QUICKSTART_FOLDER
from population.space import Float
from tests.evo.config.conftest import edited


def test_a_spec_loads_with_numbers_as_yaml_1_2_reads_them(spec: Path) -> None:
    config = load(spec)
    assert config.recipe["learning_rate"] == 0.001
    assert config.budget.tokens == 100_000
    assert config.genome["learning_rate"] == Float(1e-4, 1e-2, log=True)


@pytest.mark.parametrize("number", ["1e-4", "1.0e-4", "1E-4", "0.0001", ".0001"])
def test_a_number_is_read_in_every_spelling(spec: Path, number: str) -> None:
    config = load(edited(spec, "low: 1e-4", f"low: {number}"), [f"recipe.weight_decay={number}"])
    assert config.genome["learning_rate"] == Float(1e-4, 1e-2, log=True)
    assert config.recipe["weight_decay"] == 1e-4


def test_the_schema_says_how_to_write_numbers_for_readers_of_yaml_1_1() -> None:
    numbers = re.findall(r"\d[.\d]*e[-+]\d", json_schema()["description"])
    assert [isinstance(yaml.safe_load(number), float) for number in numbers] == [
        "." in number for number in numbers
    ]
    assert {"1e-4", "1.0e-4", "1.0e+5"} == {*numbers}


def test_paths_are_taken_from_the_folder_of_the_spec(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spec.parent
    monkeypatch.chdir(folder.parent)
    config = load(Path(folder.name) / spec.name)
    assert config.sources["devil"].path == str(folder / "texts" / "devil.txt")
    assert config.sources["wordnet"].path == "hub:owner/wordnet"
    target, general = config.domains["target"], config.domains["general"]
    assert isinstance(target, Halves)
    assert isinstance(general, TwoFiles)
    assert target.path == str(folder / "held_out.jsonl")
    assert general.test.path == str(folder / "general" / "test.jsonl")
    assert config.prompts["quiz"].selection == str(folder / "quiz.jsonl")


def test_a_domain_tells_the_source_of_each_split(spec: Path) -> None:
    domains = load(spec).domains
    target, general = domains["target"].splits(), domains["general"].splits()
    assert target["selection"] == (domains["target"], "selection")
    assert target["test"] == (domains["target"], "test")
    assert [half for _, half in general.values()] == [None, None]
    assert general["test"][0].path.endswith("general/test.jsonl")


def test_a_model_is_the_shipped_one_a_folder_or_a_hub_id(spec: Path) -> None:
    (spec.parent / "mine").mkdir()
    assert load(spec).model.base == str(QUICKSTART_FOLDER / "model")
    for given_base, resolved in {
        "mine": str(spec.parent / "mine"),
        "./other": str(spec.parent / "other"),
        "owner/model": "owner/model",
    }.items():
        assert load(spec, [f"model.base={given_base}"]).model.base == resolved


def test_the_quickstart_loads_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load("quickstart")
    assert config.name == "quickstart"
    assert all(Path(source.path).is_file() for source in config.sources.values())


def test_an_empty_section_is_as_good_as_left_out(spec: Path) -> None:
    config = load(edited(spec, 'constraints: ["general/loss <= 3.1"]', "constraints:\nresources:"))
    assert config.constraints == ()
    assert config.resources == Resources()


def test_a_config_is_frozen(spec: Path) -> None:
    config = load(spec)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


def test_importing_the_config_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "ray", "optuna", "pandas", "datasets", "pyarrow", "plotly")
    code = f"import sys, evo.config; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
