"""Weights of an individual on disk: a full model, or an adapter on top of the base."""

import os
import shutil
from pathlib import Path
from typing import Any

ADAPTER = "adapter_config.json"


def folder_of(artifacts: Path, individual: int) -> Path:
    """Where the weights of an individual are kept while they may be needed."""
    return artifacts / f"individual-{individual}"


def keep(model: Any, folder: Path) -> None:
    """Save weights, whole or not at all. A full disk costs the weights, not the evaluation."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        model.save_pretrained(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)


def assemble(base: Path, weights: Path, to: Path) -> None:
    """Write model and tokenizer to the folder `to`; an adapter is merged into the base."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (weights / ADAPTER).is_file():
        from peft import PeftModel

        model = AutoModelForCausalLM.from_pretrained(base)
        merged = PeftModel.from_pretrained(model, weights).merge_and_unload()
        merged.save_pretrained(to)
    else:
        shutil.copytree(weights, to, dirs_exist_ok=True)
    AutoTokenizer.from_pretrained(base).save_pretrained(to)
