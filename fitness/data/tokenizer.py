"""Load the tokenizer of a model's folder, and compute its fingerprint."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fitness.data.tokens import separator
from fitness.errors import InputError
from fitness.files import file_digest
from fitness.quiet import quieten

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


TOKENIZER_FILES = (
    ".json",
    ".jinja",
    ".model",
    ".tiktoken",
    ".bpe",
    ".spm",
    "merges.txt",
    "vocab.txt",
)


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in a model's folder; runs no code from there."""
    from transformers import AutoTokenizer

    _check_folder(folder)
    quieten()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # whatever odd content makes the library raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{folder}: no usable tokenizer in it ({reason}); save one with "
            "`tokenizer.save_pretrained(folder)`"
        ) from error
    if separator(tokenizer) is None:
        raise InputError(
            f"{folder}: the tokenizer has no end-of-sequence token, which separates documents; "
            "set `eos_token` in its tokenizer_config.json"
        )
    return tokenizer


def fingerprint_of_tokenizer(folder: Path) -> str:
    """SHA-256, in hex, over every file in a model's folder that a tokenizer may be read from.

    Weights and documentation, such as a README, are not included.
    """
    _check_folder(folder)
    digests = {
        path.name: file_digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name.endswith(TOKENIZER_FILES) and not path.name.startswith(".")
    }
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a tokenizer is read from a model's folder")
