"""A GGUF file becomes a model folder, once, with the weights that it holds."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fitness.errors import InputError
from fitness.models import folders
from fitness.models.base import Base
from tests.fitness.quickstart import MODEL

PARTS = {  # of a layer, as llama.cpp names them
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
HEADS = 4


def written(path: Path) -> Path:
    """The quickstart's model as a GGUF file of float32."""
    told = json.loads((MODEL / "config.json").read_text())
    vocabulary = json.loads((MODEL / "tokenizer.json").read_text())
    file = gguf.GGUFWriter(path, "llama")
    file.add_context_length(told["max_position_embeddings"])
    file.add_embedding_length(told["hidden_size"])
    file.add_block_count(told["num_hidden_layers"])
    file.add_feed_forward_length(told["intermediate_size"])
    file.add_rope_dimension_count(told["head_dim"])
    file.add_rope_freq_base(told["rope_parameters"]["rope_theta"])
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_layer_norm_rms_eps(told["rms_norm_eps"])
    file.add_vocab_size(told["vocab_size"])
    file.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens = dict(vocabulary["model"]["vocab"])
    tokens |= {added["content"]: added["id"] for added in vocabulary["added_tokens"]}
    file.add_tokenizer_model("gpt2")
    file.add_token_list(sorted(tokens, key=tokens.__getitem__))
    file.add_token_merges([" ".join(pair) for pair in vocabulary["model"]["merges"]])
    file.add_bos_token_id(told["bos_token_id"])
    file.add_eos_token_id(told["eos_token_id"])
    file.add_pad_token_id(told["pad_token_id"])
    for name, weight in load_file(MODEL / "model.safetensors").items():
        file.add_tensor(*_tensor(name.removesuffix(".weight"), weight.numpy()))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path


def _tensor(name: str, weight: np.ndarray) -> tuple[str, np.ndarray]:
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    if name in whole:
        return f"{whole[name]}.weight", weight
    layer, part = name.removeprefix("model.layers.").split(".", 1)
    if part in ("self_attn.q_proj", "self_attn.k_proj"):  # llama.cpp turns pairs, not halves
        rows, columns = weight.shape
        weight = weight.reshape(HEADS, 2, rows // HEADS // 2, columns).swapaxes(1, 2)
        weight = np.ascontiguousarray(weight.reshape(rows, columns))
    return f"blk.{layer}.{PARTS[part]}.weight", weight


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path / "cache"))
    return written(tmp_path / "small.gguf")


def test_a_file_becomes_a_folder_with_its_weights_and_tokenizer(file: Path, base: Base) -> None:
    before = torch.get_rng_state()
    folder = folders.locate(str(file))
    assert torch.equal(torch.get_rng_state(), before)
    again = Base(folder)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(again.model(ids).logits, base.model(ids).logits)
    text = "foo: n. [MIT] A sample name, for absolutely anything."
    assert again.tokenizer(text)["input_ids"] == base.tokenizer(text)["input_ids"]
    assert folders.parameters(folder) == base.model.num_parameters()
    assert folders.context(folder) == folders.context(MODEL)


def test_a_file_is_converted_once_wherever_it_lies(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders.locate(str(file))
    moved = file.rename(file.with_name("MOVED.GGUF"))
    monkeypatch.setattr("fitness.models.gguf._convert", None)
    assert folders.locate(str(moved)) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_file_that_cannot_be_read_is_refused_and_leaves_nothing(
    file: Path, tmp_path: Path, damage: str
) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"no model")
    with pytest.raises(InputError, match=r"small\.gguf': not a GGUF file of a language model"):
        folders.locate(str(file))
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_a_missing_file_is_no_hub_id() -> None:
    with pytest.raises(InputError, match=r"model\.base 'owner/none\.gguf': there is no such file"):
        folders.locate("owner/none.gguf")


def test_without_the_package_the_message_says_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Any = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "gguf" else found(name)
    )
    with pytest.raises(InputError, match="needs the package gguf; `pip install gguf`"):
        folders.locate(str(file))
