"""Local copies of data and models that a spec names by URL, in the cache."""

import hashlib
import json
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath

from fitness.errors import InputError
from fitness.files import appearing, cache_folder
from fitness.remote.folders import is_safe
from fitness.remote.store import open_store


@cache
def fetched(url: str, patterns: Sequence[str] = ("*",)) -> Path:
    """The file or folder at a URL, as a copy in the cache under the same name.

    It is fetched once for each version of it, and looked for once in a process, so that a launch
    sees one version. Of a folder only the files that match one of the `patterns` are fetched.
    Raises InputError if there is nothing, or the store does not answer or refuses.
    """
    store = open_store(url)
    try:
        found = store.versions()
        versions = {
            name: version
            for name, version in found.items()
            if not name or (is_safe(name) and any(fnmatch(name, one) for one in patterns))
        }
        if not versions:
            raise InputError(f"{url}: there is no such file or folder; check the address")
        identity = json.dumps([store.url, sorted(versions.items())])
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        copy = cache_folder() / "fetched" / key / PurePosixPath(store.url).name
        if copy.exists():
            return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        if "" in versions:
            store.download("", copy)
            return copy
        with appearing(copy) as partial:
            for name in versions:
                store.download(name, partial / name)
    except OSError as error:
        raise InputError(str(error)) from error
    return copy
