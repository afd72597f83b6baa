"""Fetches a mirrored run: what its reports read into the cache, or all of it to resume it."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from evo.places import check_room_for
from evo.record import lease
from evo.record.ledger import FILE as LEDGER
from evo.record.ledger import in_use
from evo.storage.layout import (
    WEIGHTS,
    check_free,
    is_part,
    ledgers_in,
    read_ledger,
)
from fitness.errors import InputError
from fitness.files import appearing, cache_folder, write_whole
from fitness.remote.folders import COMPLETE, fetch_folder, is_safe, whole_folders
from fitness.remote.store import WRITABLE, Store, Unavailable, check_url, is_url, open_store
from fitness.suggest import listed

HTML = ".html"
FOLLOW_SECONDS = 5.0


def readable(run: str | Path) -> Path:
    """A run folder to read results from: of a URL, a copy in the cache without its weights.

    The copy is made anew at each call. Raises InputError for a URL that holds no run.
    """
    if not is_url(str(run)):
        return Path(run)
    store = _opened(str(run))
    folder = cache_folder() / "mirrored" / _digest(store.url) / _name(store)
    try:
        fetch(store, folder, to_resume=False)
    except Unavailable as error:
        raise InputError(str(error)) from error
    return folder


@contextmanager
def followed(run: str | Path) -> Iterator[Path]:
    """A run folder to read results from for a while; a copy of a URL is made anew now and then."""
    folder, ended = readable(run), threading.Event()

    def renew() -> None:
        while not ended.wait(FOLLOW_SECONDS):
            with suppress(InputError):  # the store is down, and may be back later
                readable(run)

    if is_url(str(run)):
        threading.Thread(target=renew, daemon=True).start()
    try:
        yield folder
    finally:
        ended.set()


def resumable(
    run: str | Path, into: Path | None, overrides: Sequence[str]
) -> tuple[Path, Sequence[str]]:
    """A run folder to resume, and the overrides: a mirrored run goes on with its mirror.

    Of a URL, the run is fetched with its weights into the folder `into`, or its name in `runs`. A
    folder that is there already and as far, or further, is taken as it is. Raises InputError where
    it is another run, has another name, or is in use on another machine.
    """
    if not is_url(str(run)):
        if into is not None:
            raise InputError(f"--run {into}: is where a URL is fetched to, and {run} is a folder")
        return Path(run), overrides
    url = check_url(str(run), WRITABLE)
    mirror = f"mirror={json.dumps(url.rpartition('/')[0])}"
    return _fetched(url, into), [mirror, *overrides]


def _fetched(url: str, to: Path | None) -> Path:
    """Fetch a mirrored run to be resumed; returns its folder."""
    store = _opened(url)
    folder = to or Path("runs") / _name(store)
    if folder.resolve().name != _name(store):
        raise InputError(
            f"--run {folder}: must be named {_name(store)}, as in {store.url}, which it continues"
        )
    try:
        check_free(store)
        if not (folder / LEDGER).is_file():
            check_room_for(folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with appearing(folder) as partial:
                fetch(store, partial, to_resume=True)
            return folder
        here = (folder / LEDGER).read_bytes()
        there = read_ledger(store, LEDGER, store.sizes())
        if here.startswith(there):
            return folder
        if in_use(folder) or not there.startswith(here[: here.rfind(b"\n") + 1]):
            raise InputError(
                f"{folder} is in use, or another run than {store.url}; name another folder: --run "
                f"DIR/{_name(store)}"
            )
        fetch(store, folder, to_resume=True)
    except Unavailable as error:
        raise InputError(str(error)) from error
    return folder


def fetch_weights(url: str, name: str, to: Path) -> None:
    """Fetch a checkpoint of a mirrored run, by its name in the run folder, if it is there."""
    try:
        fetch_folder(_opened(url), name, to)
    except Unavailable as error:
        raise InputError(str(error)) from error


def fetch(store: Store, to: Path, *, to_resume: bool) -> None:
    """Copy a mirrored run to a folder; small files that are there already are written anew.

    To read it, the lease comes with it, which says whether its driver runs; to resume it, the
    weights do. Raises InputError where there is no run.
    """
    names = {name: size for name, size in store.sizes().items() if is_safe(name)}
    if LEDGER not in names:
        raise InputError(f"{store.url}: holds no run{_beside(names)}; name one as .../NAME")
    ledgers = {ledger: read_ledger(store, ledger, names) for ledger in ledgers_in(names)}
    if to_resume:
        for folder in whole_folders(store, names):
            if not (to / folder).is_dir():
                fetch_folder(store, folder, to / folder)
    else:
        _remove_gone(to, names)
    folders = {name.rpartition("/")[0] for name in names if name.endswith(f"/{COMPLETE}")}
    left_out = lease.FILE if to_resume else WEIGHTS
    for name in names:
        apart = is_part(name) or name.rpartition("/")[0] in folders
        if not apart and not name.endswith(left_out):
            _fetch_file(store, name, to / name)
    for ledger, content in reversed(ledgers.items()):  # last, as it is read first
        (to / ledger).parent.mkdir(parents=True, exist_ok=True)
        write_whole(to / ledger, content)


def _remove_gone(to: Path, names: Mapping[str, int]) -> None:
    """Remove what an earlier copy has and the mirror has not; a report is made here."""
    for path in to.rglob("*"):
        name = path.relative_to(to).as_posix()
        if path.is_file() and name not in names and ".partial" not in name and path.suffix != HTML:
            path.unlink(missing_ok=True)


def _fetch_file(store: Store, name: str, to: Path) -> None:
    try:
        store.download(name, to)
    except FileNotFoundError:  # deleted meanwhile
        to.unlink(missing_ok=True)


def _opened(url: str) -> Store:
    return open_store(url, WRITABLE)


def _name(store: Store) -> str:
    return PurePosixPath(store.url).name


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _beside(names: Mapping[str, int]) -> str:
    """The runs in a folder that is none itself."""
    runs = sorted({n.split("/")[0] for n in names if n.endswith(f"/{LEDGER}")})
    return f", but has {listed(runs)} in it" if runs else ""
