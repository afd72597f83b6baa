"""Tiny random models of real architectures with the quickstart's tokenizer, to be fine-tuned."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import torch

from tests.fitness.quickstart import MODEL

CASES = Path(__file__).parents[2] / "cases" / "models" / "tiny_models.py"
MLA = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def tiny_models() -> Any:
    """A module of its own of the tiny random models of real architectures."""
    spec = importlib.util.spec_from_file_location("tiny_models", CASES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = tiny_models()
SHARED = {**tiny.BASE, **EXPERTS, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1}
tiny.KINDS |= {
    "glm4_moe": ("glm4_moe", {**SHARED, "head_dim": 8, "topk_group": 1}),
    "deepseek_v3": ("deepseek_v3", {**SHARED, **MLA, "v_head_dim": 8, "topk_group": 1}),
    "olmo2": ("olmo2", tiny.BASE),
    "falcon": ("falcon", {k: v for k, v in tiny.BASE.items() if "intermediate" not in k}),
    "rwkv": ("rwkv", {**tiny.BASE, "attention_hidden_size": 32, "context_length": 512}),
    "llama4_text": ("llama4_text", {**tiny.BASE, "head_dim": 8, "num_local_experts": 4}),
    "xlnet": ("xlnet", {"vocab_size": 1024, "d_model": 32, "n_layer": 2, "n_head": 4}),
}
KINDS = tuple(kind for kind in tiny.KINDS if kind != "xlnet")
LEAKING = {"opt", "bloom", "mamba", "jamba", "falcon", "rwkv"}


def saved(kind: str, root: Path, **more: Any) -> Path:
    """The folder of a kind, made once in `root`."""
    folder = root / "-".join([kind, *map(str, more.values())])
    if not folder.is_dir():
        with torch.random.fork_rng():
            tiny.save(kind, folder, MODEL, **more)
    return folder


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))
