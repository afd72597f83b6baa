"""Folders of weights in a store, which several objects make up: put, fetched and deleted whole.

Each has the object COMPLETE with the sizes of its files. It holds none until all are there, and
again before the first is deleted: such a folder, or one in which a size is another, is not whole.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from fitness.files import appearing
from fitness.remote.store import Store

COMPLETE = "complete.json"


def put_folder(store: Store, name: str, folder: Path, sizes: Mapping[str, int]) -> None:
    """Put the files of a folder whose names and bytes are given. Raises Unavailable."""
    store.write(f"{name}/{COMPLETE}", b"{}")
    for file in sizes:
        store.upload(f"{name}/{file}", folder / file)
    store.write(f"{name}/{COMPLETE}", json.dumps(dict(sizes)).encode())


def whole_folders(store: Store, names: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Folders that are whole, among the objects of a store: bytes of each file, by folder."""
    found: dict[str, dict[str, int]] = {}
    for name in names:
        folder, slash, last = name.rpartition("/")
        if last == COMPLETE and slash:
            sizes = _sizes(store, name)
            if sizes and all(names.get(f"{folder}/{one}") == size for one, size in sizes.items()):
                found[folder] = sizes
    return found


def fetch_folder(store: Store, name: str, to: Path) -> bool:
    """Fetch a folder, whole or not at all; false if it is not whole there, or deleted meanwhile."""
    own = {f"{name}/{file}": size for file, size in store.below(name).sizes().items()}
    sizes = whole_folders(store, own).get(name)
    if sizes is None:
        return False
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(to, ignore_errors=True)
    try:
        with appearing(to) as partial:
            for file in filter(is_safe, sizes):
                store.download(f"{name}/{file}", partial / file)
    except FileNotFoundError:
        return False
    return True


def delete_folder(store: Store, name: str) -> None:
    """Delete a folder; the object that says whether it is whole goes last."""
    there = store.below(name).sizes()
    if COMPLETE in there:
        store.write(f"{name}/{COMPLETE}", b"{}")
    for file in sorted(there, key=lambda one: one == COMPLETE):
        store.delete(f"{name}/{file}")


def is_safe(name: str) -> bool:
    """True for a name that stays within a folder: a store may hold any."""
    parts = name.split("/")
    return not {"", ".", ".."} & set(parts) and "\\" not in name and "\0" not in name


def _sizes(store: Store, name: str) -> dict[str, int]:
    try:
        content = json.loads(store.read(name))
    except (FileNotFoundError, ValueError):
        return {}
    return dict(content) if isinstance(content, dict) else {}
