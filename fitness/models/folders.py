"""Model folders: find or download, check, and read facts of a model without loading it.

A base is a folder that `transformers` reads. Hub ids are resolved to a folder by `locate` in the
driver, once, so that workers never touch the network.
"""

import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from fitness.errors import InputError
from fitness.models.gguf import converted, is_gguf
from fitness.remote.fetched import fetched
from fitness.remote.store import is_url
from fitness.suggest import listed

COUNTS = re.compile(r"(layers?|experts|heads|labels|size|dim|embd|inner|_model|positions)$")
NEEDED = ("vocab_size", "hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer")
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
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"  # the library reads no other
SHARDS = "model-*-of-*.safetensors"
MODEL_FILES = (WHOLE, SHARDS, "*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt")
ADAPTER = "adapter_config.json"
HUB = "hf://"


def locate(base: str, *, seconds: float = 20.0) -> Path:
    """Find, or download from the Hub, and check the folder of a base model.

    `base` is a folder, a Hub id, a GGUF file, which is converted to a folder in the cache, or the
    URL of a folder or GGUF file, which is fetched into the cache.
    """
    base = _local(base)
    if is_gguf(base):
        folder = converted(base)
        _check(folder)
        return folder
    folder = Path(os.path.expanduser(base))
    if folder.is_dir():
        _check(folder)
        return folder.resolve()
    if folder.is_absolute() or base.startswith((".", "~")) or base.count("/") > 1:
        near = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())[:8]
        beside = f"; beside it are {', '.join(near)}" if near else ""
        raise InputError(f"model.base {base!r}: there is no such folder{beside}")
    return _fetch(base, seconds)


def _local(base: str) -> str:
    """A base that a URL names, as a path or a Hub id; others as they are."""
    if not is_url(base):
        return base
    on_hub = base.removeprefix(HUB)
    if on_hub != base and on_hub.count("/") == 1 and "@" not in on_hub:
        return on_hub
    return str(fetched(base, MODEL_FILES))


def _fetch(base: str, seconds: float) -> Path:
    """Download a model if the Hub answers within so many seconds, else take it from the cache."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    commit = None
    try:
        try:  # first a request with a timeout: the download itself would wait for the Hub endlessly
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
    if (folder / ADAPTER).is_file():
        raise InputError(
            f"model.base {str(folder)!r}: holds an adapter{_base_of(folder)}, not a model; merge "
            "it into its base, by PEFT's `merge_and_unload` and `save_pretrained`, or by `evo "
            "export` if it is a run's, and give that folder"
        )
    if not (folder / "config.json").is_file():
        raise InputError(f"model.base {str(folder)!r}: a model folder needs a config.json")
    config_json(folder)
    weights = weight_files(folder)
    if not list(folder.glob("tokenizer*")):
        raise InputError(f"model.base {str(folder)!r}: no tokenizer files in it; save one there")
    for path in weights:
        _tensors(path)
    _check_sizes(folder)


def _base_of(folder: Path) -> str:
    """The base that an adapter names, as words for a message; empty if it names none."""
    try:
        base = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return f" of {base!s:.200}" if base else ""


def weight_files(folder: Path) -> list[Path]:
    """The files with a model's weights, each once, in the order in which transformers finds them.

    Other files, such as the `consolidated.safetensors` of another library, hold a second copy and
    are ignored. Raises InputError if there are none, or if a file named in the index is missing.
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        others = sorted(path.name for path in folder.glob("*.safetensors"))
        beside = f", and {listed(others[:3])} is none that transformers reads" if others else ""
        raise InputError(
            f"model.base {str(folder)!r}: no *.safetensors in it with the weights of a model "
            f"({WHOLE}, or {INDEX} and its parts){beside}; save the model with "
            "save_pretrained(folder), other weight formats may run code when loaded"
        )
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
        missing = [name for name in names if not (folder / Path(name).name).is_file()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / INDEX}: is no index of weights ({type(error).__name__}: {error}); save the "
            "model anew with save_pretrained(folder)"
        ) from error
    if missing or not names:
        raise InputError(
            f"{folder / INDEX}: names {missing[0] if missing else 'no file'!r}, which is not "
            "there; copy the whole model folder"
        )
    return [folder / Path(name).name for name in names]


def _check_sizes(folder: Path) -> None:
    """Raise InputError for a size in config.json beyond its weights: building it would hang."""
    layers, weights = len(tensors(folder)), parameters(folder)
    for key, value in architecture(folder).items():
        if isinstance(value, bool) or not isinstance(value, int) or not COUNTS.search(key):
            continue
        most = max(layers, 1000) if "layer" in key else weights
        if value > most or (value < 1 and key in NEEDED):
            raise InputError(
                f"{folder / 'config.json'}: {key} {value} does not fit its weights, {weights:,} in "
                f"{layers} tensors; copy the model's own config.json"
            )


def _tensors(path: Path) -> dict[str, object]:
    """A safetensors file's table of contents; InputError unless the file is whole."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, HEADER_BYTES)))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        whole = path.stat().st_size == 8 + length + end
        whole &= all(min(entry["shape"], default=1) >= 0 for entry in tensors.values())
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
    for path in [folder / "config.json", *weight_files(folder)]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def config_json(folder: Path) -> dict[str, object]:
    """The model's config.json. Raises InputError unless it is an object that names a model type."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); copy the model's own"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise InputError(
            f"{path}: must be an object with the `model_type` of a model, got {content!r:.60}; "
            "copy the model's own, or save it with save_pretrained(folder)"
        )
    return content


def architectures(folder: Path) -> list[str]:
    """Class names in the config.json's `architectures`; empty if missing."""
    named = config_json(folder).get("architectures")
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


def architecture(folder: Path) -> dict[str, Any]:
    """The model's config.json, or its `text_config` where the language model is a part."""
    content = config_json(folder)
    inner = content.get("text_config")
    return inner if isinstance(inner, dict) else content


def context(folder: Path) -> int | None:
    """Longest sequence of the model's position embeddings, tokens; None where unknown.

    Encoders that count positions from after the padding token (FROM_PADDING) have fewer.
    """
    content = architecture(folder)
    length = content.get("max_position_embeddings") or content.get("n_positions")
    if not isinstance(length, int) or length < 1:
        return None
    if content.get("model_type") in FROM_PADDING:
        return int(length) - (content.get("pad_token_id", 1) or 0) - 1
    return length


def tensors(folder: Path) -> dict[str, list[int]]:
    """The shape of every tensor by its name, read from the safetensors headers alone."""
    return {name: entry["shape"] for name, entry in entries(folder).items()}


def entries(folder: Path) -> dict[str, Any]:
    """The entry of every tensor in the safetensors headers, by name: `dtype` and `shape`."""
    return {n: entry for path in weight_files(folder) for n, entry in _tensors(path).items()}


def shapes(folder: Path) -> list[list[int]]:
    """The shape of every tensor."""
    return list(tensors(folder).values())


def parameters(folder: Path) -> int:
    """Number of weights, read from the safetensors headers alone."""
    return sum(map(math.prod, shapes(folder)))
