"""Weights of an individual on disk: a full model, or an adapter on top of the base."""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

from fitness import folders
from fitness.heads import CAUSAL, Head
from fitness.loading import load

ADAPTER = "adapter_config.json"


def folder_of(artifacts: Path, individual: int) -> Path:
    """Where the weights of an individual are kept while they may be needed."""
    return artifacts / f"individual-{individual}"


def keep(model: Any, folder: Path) -> None:
    """Save weights, whole or not at all. A full disk costs the weights, not the evaluation."""
    from safetensors import SafetensorError

    for abandoned in folder.parent.glob(f"{folder.name}.*.partial"):  # by a worker that died
        shutil.rmtree(abandoned, ignore_errors=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        model.save_pretrained(partial)
        for path in partial.iterdir():
            _sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except (OSError, SafetensorError):
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def assemble(
    base: Path, weights: Path, to: Path, *, dtype: str = "float32", head: Head = CAUSAL
) -> None:
    """Write model and tokenizer to the folder `to`; an adapter is merged into the base.

    The merged weights are float32, like the adapter's, on top of the base as it was trained on:
    in `dtype`.
    """
    from transformers import AutoTokenizer

    if (weights / ADAPTER).is_file():
        _merged(load(base, dtype, head), weights).save_pretrained(to)
    else:
        shutil.copytree(weights, to, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if head.labels and tokenizer.pad_token is None:  # by which the head knows where a text ends
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(
            folders.architecture(to)["pad_token_id"]
        )
    tokenizer.save_pretrained(to)


def _merged(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's use of transformers
        return PeftModel.from_pretrained(model.float(), adapter).merge_and_unload()
