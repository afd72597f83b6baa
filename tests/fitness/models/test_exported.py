"""Exported files: the base's own settings and tokenizer, apart from the changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fitness.data.tokenizer import load_tokenizer
from fitness.models import weights
from fitness.models.base import Base
from fitness.models.exported import merged_config, old_names, save_tokenizer, write_settings
from fitness.models.heads import Head
from tests.fitness.quickstart import MODEL, small_recipe

OF_4 = {  # what transformers 4 writes, and 5 would write otherwise
    "torch_dtype": "bfloat16",
    "rope_theta": 1000000.0,
    "rope_scaling": None,
    "transformers_version": "4.51.0",
    "a_key_of_its_own": [1, {"x": None}],
}
TOKENIZER: dict[str, Any] = {
    "add_bos_token": False,
    "additional_special_tokens": ["<|padding|>"],
    "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "tokenizer_class": "PreTrainedTokenizerFast",
}


def settings(folder: Path, name: str = "config.json") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The embedded default's model as transformers 4 would have left it."""
    folder = Path(shutil.copytree(MODEL, tmp_path / "older"))
    config = settings(MODEL)
    for name in ("dtype", "rope_parameters"):
        config.pop(name)
    (folder / "config.json").write_text(json.dumps({**config, **OF_4}))
    told = settings(MODEL, "tokenizer_config.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, **TOKENIZER}))
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|endoftext|>"}')
    (folder / "chat_template.jinja").write_text(TOKENIZER["chat_template"])
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("{{ messages }}")
    generation = {"eos_token_id": [0, 7], "temperature": 0.6, "top_k": 20}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "README.md").write_text("not of the tokenizer")
    return folder


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_an_export_keeps_the_base_as_it_was_but_for_what_changed(
    older: Path, tmp_path: Path, adapter: str
) -> None:
    base = Base(older)
    with base.prepared(small_recipe(adapter=adapter), seed=0) as model:
        weights.keep(model, tmp_path / "kept")
    weights.assemble(older, tmp_path / "kept", tmp_path / "to", dtype="bfloat16")
    wanted = {**settings(older), "torch_dtype": "float32", "dtype": "float32"}
    assert settings(tmp_path / "to") == wanted  # its weights are float32 now
    kept = [path for path in older.rglob("*") if path.is_file()]
    written = {path.relative_to(tmp_path / "to") for path in (tmp_path / "to").rglob("*.*")}
    names = {path.relative_to(older) for path in kept} - {Path("README.md")}
    assert written == names
    for path in kept:
        if path.name not in ("config.json", "model.safetensors", "README.md"):
            copy = tmp_path / "to" / path.relative_to(older)
            assert copy.read_bytes() == path.read_bytes(), path.name


def test_generation_settings_that_the_base_has_not_are_not_invented(tmp_path: Path) -> None:
    base = Path(shutil.copytree(MODEL, tmp_path / "base"))
    (base / "generation_config.json").unlink()
    to = Path(shutil.copytree(MODEL, tmp_path / "to"))
    write_settings(base, to)
    assert not (to / "generation_config.json").exists()


def test_a_new_head_is_written_into_the_settings_of_the_base(older: Path, tmp_path: Path) -> None:
    told = settings(older, "tokenizer_config.json")
    told.pop("pad_token")
    (older / "tokenizer_config.json").write_text(json.dumps(told))
    config = settings(older)
    config.pop("pad_token_id")
    (older / "config.json").write_text(json.dumps(config))
    head = Head("classification", ("bug", "praise"))
    base = Base(older, head=head)
    weights.keep(base.model, tmp_path / "kept")
    weights.assemble(older, tmp_path / "kept", tmp_path / "to", head=head)
    found = settings(tmp_path / "to")
    assert found["architectures"] == ["LlamaForSequenceClassification"]
    assert found["id2label"] == {"0": "bug", "1": "praise"}
    assert (found["rope_theta"], found["a_key_of_its_own"]) == (1e6, OF_4["a_key_of_its_own"])
    tokenizer = load_tokenizer(tmp_path / "to")
    assert tokenizer.pad_token_id == found["pad_token_id"] == base.model.config.pad_token_id
    rest = settings(tmp_path / "to", "tokenizer_config.json")
    assert rest.pop("pad_token") == "<|endoftext|>"
    assert rest == told


def test_names_of_files_with_code_are_not_carried_on(older: Path, tmp_path: Path) -> None:
    remote = {"auto_map": {"AutoModelForCausalLM": "modeling_x.Model"}}
    for name in ("config.json", "tokenizer_config.json"):
        (older / name).write_text(json.dumps({**settings(older, name), **remote}))
    weights.keep(Base(older).model, tmp_path / "kept")
    weights.assemble(older, tmp_path / "kept", tmp_path / "to")
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in settings(tmp_path / "to", name)


def test_the_language_model_of_a_larger_one_keeps_its_own_part_of_the_settings(
    tmp_path: Path,
) -> None:
    from transformers import AutoConfig

    part = {"model_type": "gemma3_text", "hidden_size": 32, "rope_theta": 5e5, "own": 1}
    for name in ("whole", "other", "saved"):
        (tmp_path / name).mkdir()
    whole = {"model_type": "gemma3", "text_config": part, "vision_config": {}}
    (tmp_path / "whole" / "config.json").write_text(json.dumps(whole))
    (tmp_path / "other" / "config.json").write_text('{"model_type": "gpt2"}')
    AutoConfig.for_model(**part).save_pretrained(tmp_path / "saved")
    found = merged_config(tmp_path / "whole", tmp_path / "saved")
    assert found.items() >= part.items()
    assert merged_config(tmp_path / "other", tmp_path / "saved")["rope_theta"] == 5e5


def test_scaled_positions_get_their_old_names_too() -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}
    assert old_names({"model_type": "qwen3", "rope_parameters": yarn}) == {
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    }
    local = {
        "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    assert old_names({"model_type": "modernbert", "rope_parameters": local}) == {
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
    }
    assert old_names({"model_type": "gpt2"}) == {}


def test_a_new_tokenizer_is_saved_in_words_that_both_versions_read(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(MODEL)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|x|>"]})
    save_tokenizer(tokenizer, tmp_path)
    told = settings(tmp_path, "tokenizer_config.json")
    assert told["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert told["additional_special_tokens"] == ["<|x|>"]
    assert not told.keys() & {"extra_special_tokens", "is_local", "backend"}
    again = load_tokenizer(tmp_path)
    assert again.extra_special_tokens == ["<|x|>"]
    assert again("bug <|x|>")["input_ids"] == tokenizer("bug <|x|>")["input_ids"]
