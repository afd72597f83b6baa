"""Model folders: found or fetched, checked, and what they tell without being loaded.

A base is a folder that `transformers` reads. Hub ids are resolved to a folder by `locate` in the
driver, once, so that workers never touch the network.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from fitness.errors import InputError
from fitness.gguf import converted, is_gguf

FROM_PADDING = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "data2vec-text",
    "mpnet",
    "longformer",
)
HEADER_BYTES = 100_000_000  # the longest table of contents that safetensors allows
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "vocab.txt")


def locate(base: str, *, seconds: float = 20.0) -> Path:
    """The local folder of a base model: `base` itself, or a Hub id fetched to the Hub's cache.

    Of a GGUF file, the folder in the cache that it was converted to.
    """
    if is_gguf(base):
        folder = converted(base)
        _check(folder)
        return folder
    folder = Path(base).expanduser()
    if folder.is_dir():
        _check(folder)
        return folder.resolve()
    if folder.is_absolute() or base.startswith((".", "~")) or base.count("/") > 1:
        near = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())[:8]
        beside = f"; beside it are {', '.join(near)}" if near else ""
        raise InputError(f"model.base {base!r}: there is no such folder{beside}")
    return _fetch(base, seconds)


def _fetch(base: str, seconds: float) -> Path:
    """From the Hub if it answers within so many seconds, else what the Hub's cache has of it."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    commit = None
    try:
        try:  # asked first because the download itself would wait for the Hub without end
            commit = HfApi().model_info(base, timeout=seconds).sha
        except RepositoryNotFoundError:
            raise
        except (HTTPError, OSError):  # no network: what is in the cache will do
            pass
        folder = snapshot_download(
            base,
            revision=commit,
            allow_patterns=list(MODEL_FILES),
            etag_timeout=seconds,
            local_files_only=commit is None,
        )
    except LocalEntryNotFoundError:
        raise InputError(
            f"model.base {base!r}: no such folder, not in the Hub's cache, and the Hub cannot be "
            "reached; give the folder of a model you have, or connect and try again"
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"model.base {base!r}: no such folder and not to be had from the Hub "
            f"({str(error).strip().splitlines()[0]}); check the name, or give a model folder"
        ) from None
    _check(Path(folder))
    return Path(folder)


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"model.base {str(folder)!r}: a model folder needs a config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(
            f"model.base {str(folder)!r}: no *.safetensors in it; save the model with "
            "save_pretrained(folder), other weight formats may run code when loaded"
        )
    if not list(folder.glob("tokenizer*")):
        raise InputError(f"model.base {str(folder)!r}: no tokenizer files in it; save one there")
    for path in weights:
        _tensors(path)


def _tensors(path: Path) -> dict[str, Any]:
    """A safetensors file's table of contents; InputError unless the file is whole."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, HEADER_BYTES)))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        whole = path.stat().st_size == 8 + length + end
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(
            f"{path}: not a whole safetensors file; copy it anew (if it is a Git LFS pointer, "
            "`git lfs pull` fetches the weights)"
        )
    return tensors


def fingerprint(folder: Path) -> str:
    """sha256 over the configuration and the weights, hexadecimal."""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def told(folder: Path) -> dict[str, Any]:
    """The model's config.json."""
    content: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return content


def architecture(folder: Path) -> dict[str, Any]:
    """The model's config.json: of its language model, where that is a part of it."""
    content = told(folder)
    return content.get("text_config", content)


def context(folder: Path) -> int | None:
    """Longest sequence of the model's position embeddings, tokens; None where none is told.

    The encoders that count positions from behind the padding token have so many fewer.
    """
    content = architecture(folder)
    length = content.get("max_position_embeddings") or content.get("n_positions")
    if length and content.get("model_type") in FROM_PADDING:
        return int(length) - (content.get("pad_token_id", 1) or 0) - 1
    return length


def tensors(folder: Path) -> dict[str, list[int]]:
    """The shape of every tensor by its name, read from the safetensors headers alone."""
    paths = sorted(folder.glob("*.safetensors"))
    return {name: told["shape"] for path in paths for name, told in _tensors(path).items()}


def shapes(folder: Path) -> list[list[int]]:
    """The shape of every tensor."""
    return list(tensors(folder).values())


def parameters(folder: Path) -> int:
    """Number of weights, read from the safetensors headers alone."""
    return sum(map(math.prod, shapes(folder)))
