"""Send the model, the data and Python modules to machines that lack the driver's files."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from fitness.data.sources import TokenFile
from fitness.evaluation import Task
from fitness.files import cache_folder, file_digest, write_whole


def marks(task: Task) -> dict[Path, str | int]:
    """Files that a worker reads, with a mark to verify each.

    A hash for the files of a model; the size (bytes) for a file of tokens, which is named after a
    hash of its content.
    """
    tokens = {Path(file.path): file.size for file in _token_files(task)}
    return {path: file_digest(path) for path in _model_files(task)} | tokens


def missing(task: Task, wanted: Mapping[Path, str | int]) -> list[Path]:
    """Files missing or different on a worker's machine; of a model all files or none."""
    absent = {path for path, mark in wanted.items() if not _is(path, mark)}
    for folder in _folders(task):
        if any(path.parent == folder for path in absent):
            absent |= {path for path in wanted if path.parent == folder}
    return sorted(absent)


def _is(path: Path, mark: str | int) -> bool:
    if not path.is_file():
        return False
    return path.stat().st_size == mark if isinstance(mark, int) else file_digest(path) == mark


def _folders(task: Task) -> list[Path]:
    """Folders of the model and of the parts to merge."""
    return [folder for folder in (task.model, *task.parts.values()) if folder is not None]


def _model_files(task: Task) -> list[Path]:
    return [path for folder in _folders(task) for path in folder.iterdir() if path.is_file()]


def _token_files(task: Task) -> Iterator[TokenFile]:
    yield from task.sources.values()
    for splits in task.domains.values():
        yield from splits.values()


def stored(path: Path, content: bytes, wanted: Mapping[Path, str | int]) -> Path:
    """Write a file from another machine to this machine's cache, under the same name.

    Files of one folder stay together, in a folder named after a hash of all that is needed of it.
    """
    together = sorted((str(p), mark) for p, mark in wanted.items() if p.parent == path.parent)
    key = hashlib.sha256(repr(together).encode()).hexdigest()[:16]
    copy = cache_folder() / "shipped" / key / path.name
    if not _is(copy, wanted[path]):
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_whole(copy, content)
    return copy


def moved(task: Task, copies: Mapping[Path, Path]) -> Task:
    """The task with the paths of the copies; either all files of a model are copies or none.

    A machine that needs copies does not share the run's folder either. With a mirror, checkpoints
    are exchanged through it, and have a temporary folder here; without one none are written, and
    `evo export` trains them again.
    """
    shared = task.artifacts is None or task.artifacts.parent.is_dir()
    if not copies and (shared or task.mirror is None):
        return replace(task, mirror=None)
    exchanges = task.mirror is not None and task.processes == 1 and task.form.reads_recipe
    room = Path(mkdtemp(prefix="evomix-checkpoints-")) / "artifacts" if exchanges else None

    def here(file: TokenFile) -> TokenFile:
        return replace(file, path=str(copies.get(Path(file.path), file.path)))

    def there(folder: Path) -> Path:
        return next((copies[path].parent for path in copies if path.parent == folder), folder)

    return replace(
        task,
        model=task.model and there(task.model),
        parts={name: there(folder) for name, folder in task.parts.items()},
        artifacts=room,
        mirror=task.mirror if exchanges else None,
        server=None,  # which would have to read adapters there
        sources={name: here(file) for name, file in task.sources.items()},
        domains={
            name: {split: here(file) for split, file in splits.items()}
            for name, splits in task.domains.items()
        },
    )


def own_modules(task: Task, folders: Iterable[Path]) -> list[Path]:
    """Package folder or file of each `module:function` in the spec, if it is in `folders`.

    Its own imports are not followed: they must be in its package, or on every machine.
    """
    named = [m for prompts in task.prompt_sets.values() for m in prompts.metrics]
    named += [task.evaluator] if isinstance(task.evaluator, str) else []
    names = sorted({name.split(":")[0].split(".")[0] for name in named if ":" in name})
    places = [folder.resolve() for folder in folders]
    found = []
    for name in names:
        candidates = [p for f in places for p in (f / name, f / f"{name}.py") if p.exists()]
        found += candidates[:1]
    return found
