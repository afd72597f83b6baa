"""The files of a named data set: a file, or all readable ones of a folder."""

import os
import re
from pathlib import Path

from fitness.data import hub
from fitness.data.formats import COMPRESSIONS
from fitness.data.readers import FORMATS, SUFFIXES
from fitness.data.spec import Source
from fitness.errors import InputError
from fitness.suggest import brief, did_you_mean, listed, shortened


def files(source: Source, base: Path) -> list[tuple[Path, str]]:
    """The files of a source that is not on the Hub, in the order in which they are read."""
    path = existing(source.path, base)
    if path.is_dir():
        if source.format not in (None, "folder"):
            raise InputError(f"{path}: is a folder, not {source.format}; leave `format` out")
        return _files_of_folder(path)
    if source.format == "folder":
        raise InputError(f"{path}: is a file, not a folder; leave `format` out")
    if source.format is not None and source.format != "hub":
        return [(path, source.format)]
    if (format_ := format_of(path)) is None:
        raise InputError(
            f"{path}: unknown suffix {path.suffix!r}; set `format` to "
            f"{' or '.join(FORMATS)}, or use one of the suffixes {listed(SUFFIXES)}"
        )
    return [(path, format_)]


def format_of(path: Path) -> str | None:
    """The format by a file's suffix, before that of a compression; None for an unknown one."""
    name = path.name.lower()
    stem, _, last = name.rpartition(".")
    return SUFFIXES.get(Path(stem if f".{last}" in COMPRESSIONS else name).suffix)


def is_on_hub(source: Source) -> bool:
    return source.format == "hub" or (source.format is None and source.path.startswith(hub.PREFIX))


def existing(path: str, base: Path) -> Path:
    """The file or folder that a path relative to `base` names; InputError if there is none."""
    try:
        full = base / Path(os.path.expanduser(path))
        if full.is_file() or full.is_dir():
            return full
        exists = full.exists()
        nearest = next(parent for parent in full.parents if parent.is_dir())
        neighbours = os.listdir(nearest)
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, not permitted
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{brief(path)}: is no path to read ({reason}); check it") from error
    if exists:
        raise InputError(f"{full}: is neither a file nor a folder; name one that can be read twice")
    missing = full.relative_to(nearest).parts[0]
    remedy = did_you_mean(missing, neighbours) or "; check the path"
    if re.fullmatch(r"[\w.-]+/[\w-]+", path):
        remedy += f", or write hub:{path} for a data set of the Hugging Face Hub"
    raise InputError(
        f"{brief(full)}: there is no {shortened(missing, 256)} in {brief(nearest)}{remedy}"
    )


def _files_of_folder(folder: Path) -> list[tuple[Path, str]]:
    readable = [
        (path, kind)
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
        if (kind := format_of(path))
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not readable:
        raise InputError(
            f"{folder}: no readable file in this folder; those with the suffixes "
            f"{listed(SUFFIXES)} are read, at any depth"
        )
    return readable
