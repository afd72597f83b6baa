"""Model and data for machines that do not see the driver's files; nothing here needs Ray."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fitness.evaluate import Task
from fitness.sources import TokenFile, cache_folder


def files_of(task: Task) -> list[Path]:
    """Every file a worker reads: the base model's and all token files."""
    model = [] if task.model is None else [p for p in task.model.iterdir() if p.is_file()]
    return sorted([*model, *(Path(file.path) for file in _token_files(task))])


def _token_files(task: Task) -> Iterator[TokenFile]:
    yield from task.sources.values()
    for splits in task.domains.values():
        yield from splits.values()


def missing(sizes: Mapping[Path, int]) -> list[Path]:
    """Runs on each machine: the files that are not there in the same size (bytes)."""
    return [
        path for path, size in sizes.items() if not path.is_file() or path.stat().st_size != size
    ]


def stored(path: Path, content: bytes) -> Path:
    """A copy of a file from another machine, in this machine's cache, under its own name."""
    folder = cache_folder() / "shipped" / hashlib.sha256(str(path.parent).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / path.name
    if not copy.is_file() or copy.read_bytes() != content:
        partial = copy.with_name(f"{copy.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        os.replace(partial, copy)
    return copy


def moved(task: Task, copies: Mapping[Path, Path]) -> Task:
    """The task with the paths of the copies; all files of the model must be copies, or none."""
    if not copies:
        return task

    def here(file: TokenFile) -> TokenFile:
        return replace(file, path=str(copies.get(Path(file.path), file.path)))

    model = next((copies[path].parent for path in copies if path.parent == task.model), task.model)
    return replace(
        task,
        model=model,
        sources={name: here(file) for name, file in task.sources.items()},
        domains={
            name: {split: here(file) for split, file in splits.items()}
            for name, splits in task.domains.items()
        },
    )
