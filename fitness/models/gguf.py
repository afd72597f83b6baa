"""GGUF files as model folders: converted once, into the cache, by the file's own content."""

import importlib.util
import os
from pathlib import Path

from fitness.errors import InputError
from fitness.files import appearing, cache_folder, file_digest
from fitness.models.exported import save_tokenizer
from fitness.quiet import quieten

SUFFIX = ".gguf"


def is_gguf(base: str) -> bool:
    """True where a base model's name is that of a GGUF file."""
    return base.lower().endswith(SUFFIX)


def converted(base: str) -> Path:
    """Convert a GGUF file to a model folder in the cache, weights in float32; return the folder.

    Raises InputError if there is no such file, or it cannot be read.
    """
    path = Path(os.path.expanduser(base))
    if not path.is_file():
        raise InputError(f"model.base {base!r}: there is no such file")
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            f"model.base {base!r}: reading it needs the package gguf; `pip install gguf`, or give "
            "a model folder"
        )
    folder = cache_folder() / "gguf" / file_digest(path)[:32]
    if not (folder / "config.json").is_file():
        try:
            with appearing(folder) as partial:
                _convert(path, partial)
        except OSError:  # another driver was faster, or the disk is full
            if not (folder / "config.json").is_file():
                raise
    return folder


def _convert(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quieten()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, trust_remote_code=False
        )
        loaded = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, trust_remote_code=False
        )
    except Exception as error:  # whatever a file of unknown making does to its readers
        raise InputError(
            f"model.base {str(path)!r}: not a GGUF file of a language model that transformers "
            f"reads ({type(error).__name__}: {str(error).strip() or 'no reason'}); copy it anew, "
            "or give a model folder"
        ) from error
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)  # else its copy would count as quantised
    with torch.random.fork_rng(devices=[]):
        model = type(loaded)(type(loaded.config).from_dict(settings))
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
