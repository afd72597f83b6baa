"""An exported model is the same one in transformers 4.57 as in the version that trained it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fitness.models import weights
from fitness.models.base import Base
from fitness.recipe import Recipe
from tests.fitness.models.architectures import tiny_models
from tests.fitness.quickstart import MODEL
from tests.oracles.older import in_older, older_python  # noqa: F401 (a fixture)

TEXT = "chairman: n. one who presides <|endoftext|> bug"
ROWS = torch.arange(2, 120).reshape(2, 59)
ROTARY: Mapping[str, Mapping[str, Any]] = {  # settings that differ from the defaults of 4.57
    "llama": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e4,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
    "gpt_neox": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 3e4,
            "partial_rotary_factor": 0.5,
        }
    },
    "phi": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 2e4,
            "partial_rotary_factor": 0.25,
        }
    },
    "gemma3_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 3e5, "factor": 2.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e3},
        },
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "mistral": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
}
ADAPTED = ("qwen2", "gpt2", "mixtral")
IN_4 = """
import json, sys, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__
assert __version__.startswith("4.57"), __version__
rows, found, tokens = load_file(sys.argv[1])["rows"], {}, {}
for folder in sys.argv[4:]:
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(loading.values()), (folder, loading)
    with torch.no_grad():
        found[folder] = model.eval()(rows).logits.contiguous()
    tokens[folder] = AutoTokenizer.from_pretrained(folder)(sys.argv[3])["input_ids"]
save_file(found, sys.argv[2])
print(json.dumps(tokens))
"""


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(ROWS).logits.clone()
    return found


def exports(base: Path, to: Path, adapters: list[str]) -> dict[Path, torch.Tensor]:
    """Exports of fine-tunes of a base, each with the logits of the model as it was trained."""
    held = Base(base)
    held.model.set_attn_implementation("eager")
    found = {}
    for adapter in adapters:
        recipe = Recipe(adapter=adapter, lora_rank=4, mixture={"x": 1.0})
        with held.prepared(recipe, seed=0) as model:
            torch.manual_seed(1)
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.requires_grad:
                        weight.add_(torch.randn_like(weight) * 0.05)
            model.eval()
            folder = to / f"{base.name}-{adapter}"
            found[folder] = logits(model)
            weights.keep(model, to / "kept" / folder.name)
        weights.assemble(base, to / "kept" / folder.name, folder)
    return found


def compared(python: Path, wanted: Mapping[Path, torch.Tensor], tmp_path: Path) -> None:
    """Logits and tokens of every export, here and in 4.57, against those of the trained model."""
    from transformers import AutoModelForCausalLM

    save_file({"rows": ROWS}, tmp_path / "rows")
    told = in_older(python, IN_4, tmp_path / "rows", tmp_path / "logits", TEXT, *wanted)
    ids = json.loads(told.splitlines()[-1])
    found = load_file(tmp_path / "logits")
    tokens = Base(MODEL).tokenizer(TEXT)["input_ids"]
    for folder, logits_trained in wanted.items():
        here = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
        scale = logits_trained.abs().max()
        for version, values in (("5", logits(here)), ("4.57", found[str(folder)])):
            away = float((values - logits_trained).abs().max() / scale)
            assert away < 1e-5, (folder.name, version, away)
        assert ids[str(folder)] == tokens, folder.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_tiny_architecture_is_exported_to_both_versions(
    older_python: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    wanted: dict[Path, torch.Tensor] = {}
    tiny = tiny_models()
    for kind in tiny.KINDS:
        tiny.save(kind, tmp_path / kind, MODEL, **ROTARY.get(kind, {}))
        adapters = ["none", "lora"] if kind in ADAPTED else ["none"]
        wanted |= exports(tmp_path / kind, tmp_path / "to", adapters)
    compared(older_python, wanted, tmp_path)
