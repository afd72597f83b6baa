"""Checkpoints of individuals on disk: a full model, or an adapter on top of the base."""

import json
import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.files import appearing, remove_partial
from fitness.models import exported, folders
from fitness.models.heads import CAUSAL, Head
from fitness.models.loading import load
from fitness.models.quantisation import dequantise, load_quantised

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "adapter_config.json"
SERVED = "served-"  # begins the name of the folder for an adapter that a server is lent
KEPT = re.compile(  # the files that `keep` writes
    r"(config|adapter_config|model\.safetensors\.index)\.json|adapter_model\.safetensors"
    r"|model(-\d+-of-\d+)?\.safetensors"
)


def folder_of(artifacts: Path, individual: int) -> Path:
    """The folder of an individual's checkpoint."""
    return artifacts / f"individual-{individual}"


def kept_in(artifacts: Path) -> list[Path]:
    """Folders of all checkpoints, also unfinished ones."""
    return sorted(artifacts.glob("individual-*"))


def keep(model: "PreTrainedModel", folder: Path) -> None:
    """Save a checkpoint, whole or not at all. A full disk costs it, but not the evaluation."""
    from safetensors import SafetensorError

    remove_partial(folder)  # of a worker that died
    try:
        with appearing(folder) as partial:
            model.save_pretrained(partial)
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, SafetensorError):
        pass


def copy_kept(weights: Path, to: Path) -> None:
    """Copy the files of a checkpoint to a folder, and no other files beside them.

    Raises InputError where one of them is a link or anything but a regular file: it could lead to
    any file of this machine.
    """
    for folder in (weights.parent, weights):
        _check_kind(folder, stat.S_ISDIR)
    to.mkdir(parents=True, exist_ok=True)
    for name in sorted(os.listdir(weights)):
        if KEPT.fullmatch(name):
            _copy_regular(weights / name, to / name)


def _copy_regular(path: Path, to: Path) -> None:
    _check_kind(path, stat.S_ISREG)
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(file, "rb") as source, to.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 22)


def _check_kind(path: Path, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(os.lstat(path).st_mode):
        what = "a folder" if is_kind is stat.S_ISDIR else "a regular file"
        link = "a link, " if path.is_symlink() else ""
        raise InputError(
            f"{path}: {link}not {what}; weights are read from files inside the run's own folder "
            "alone: put the file itself there"
        )


def is_adapter(weights: Path) -> bool:
    """True where a checkpoint holds an adapter, false where it holds all weights."""
    return (weights / ADAPTER).is_file()


def assemble(
    base: Path,
    weights: Path,
    to: Path,
    *,
    dtype: str = "float32",
    head: Head = CAUSAL,
    quantisation: str = "none",
) -> None:
    """Write model and tokenizer to the folder `to`; an adapter is merged into the base.

    The merged weights are float32, like the adapter's, on top of the base as it was trained on:
    in `dtype`, and dequantised where it was quantised. Configuration and tokenizer are the base's
    own files, see `fitness.models.exported`.
    """
    if is_adapter(weights):
        with TemporaryDirectory() as temporary:
            copy_kept(weights, Path(temporary))
            plain = load(base, dtype, head)
            if quantisation != "none":
                dequantise(plain, load_quantised(base, dtype, head, quantisation))
            _merged(plain, Path(temporary)).save_pretrained(to)
    else:
        copy_kept(weights, to)
    exported.write_settings(base, to)
    exported.copy_tokenizer(base, to)
    if head.on_top:  # which knows by the padding where a text ends
        tokenizer = load_tokenizer(base)
        if tokenizer.pad_token is None:
            padding = folders.architecture(to)["pad_token_id"]
            exported.add_padding(to, tokenizer.convert_ids_to_tokens(padding))


def assemble_adapter(weights: Path, to: Path, *, base: str) -> None:
    """Write an adapter as PEFT reads it to the folder `to`, for the base model of this name."""
    copy_kept(weights, to)
    settings = to / ADAPTER
    told = {**json.loads(settings.read_text(encoding="utf-8")), "base_model_name_or_path": base}
    settings.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _merged(model: "PreTrainedModel", adapter: Path) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's use of transformers
        warnings.filterwarnings("ignore", "fan_in_fan_out")  # of an adapter beside 4 bits
        return PeftModel.from_pretrained(model.float(), adapter).merge_and_unload()
