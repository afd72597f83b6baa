"""GGUF files as model folders: converted once, into the cache, by the file's own content."""

import hashlib
import importlib.util
import os
import shutil
from pathlib import Path
from uuid import uuid4

from fitness.errors import InputError
from fitness.exported import save_tokenizer
from fitness.quiet import quieten
from fitness.sources import cache_folder

SUFFIX = ".gguf"


def is_gguf(base: str) -> bool:
    """Whether a base model is named as a GGUF file."""
    return base.lower().endswith(SUFFIX)


def converted(base: str) -> Path:
    """The folder of a GGUF file's model, its weights as they are in the file, in float32.

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
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache_folder() / "gguf" / digest[:32]
    if not (folder / "config.json").is_file():
        partial = folder.with_name(f"{folder.name}.{uuid4().hex}.partial")
        try:
            _convert(path, partial)
            os.replace(partial, folder)
        except OSError:  # another driver was faster, or the disk is full
            if not (folder / "config.json").is_file():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
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
