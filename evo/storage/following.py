"""Follows a run folder with its mirror, from a thread, while the driver runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evo.record import lease
from evo.record.lease import Lease
from evo.record.ledger import FILE as LEDGER
from evo.storage.layout import check_free, check_mirror, place_of, read_ledger
from evo.storage.mirror import Mirror, Taken
from fitness.errors import InputError
from fitness.remote.store import Store, Unavailable

SECONDS = 5.0  # between two passes
SAID_SECONDS = 2.0  # of waiting at the end, after which it is said
END_SECONDS = 600.0  # of waiting at the end, at most
Tell = Callable[[str], None]


@contextmanager
def mirrored(url: str | None, run: Path, tell: Tell, *, new: bool = False) -> Iterator[None]:
    """Mirror a run folder below a URL, if there is one, within the context.

    InputError, before the context is entered, for a store that does not answer or refuses, for a
    mirror that another driver writes to, and for one that holds another run (if `new`, any run).
    Later on, `tell` is called where the store is down, is back, or is behind at the end.
    """
    if url is None:
        yield
        return
    mirror, ended = _opened(url, run, new=new), threading.Event()
    about = (mirror, ended, tell)
    thread = threading.Thread(target=_follow, args=about, name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(SAID_SECONDS)
        if thread.is_alive():
            tell(f"copying the rest to {mirror.store.url}")
            thread.join(END_SECONDS)
        if thread.is_alive():
            tell(f"{mirror.store.url} is behind; {_remedy(run)}")


def _remedy(run: Path) -> str:
    return f"`evo resume {run}` copies the rest, of a finished run too"


def _follow(mirror: Mirror, ended: threading.Event, tell: Tell) -> None:
    """Make passes until the event, and a last one after it."""
    behind = False
    while True:
        last = ended.is_set()
        try:
            mirror.copy()
            if last:
                mirror.release()
            if behind:
                tell(f"{mirror.store.url} is back, and has everything again")
            behind = False
        except Taken as error:
            tell(f"{mirror.store.url} is written by {error} now, which resumed this run")
            return
        except OSError as error:
            if not behind and not last:
                tell(f"{error}; the search continues, and copies the rest once it can")
            behind = True
            if last:
                tell(f"{error}; {_remedy(mirror.run)}")
        if last:
            return
        ended.wait(SECONDS)


def _opened(url: str, run: Path, *, new: bool) -> Mirror:
    """The mirror of a run, with a lease on it. Raises InputError as `mirrored` does."""
    check_mirror(url)
    store = place_of(url, run.resolve().name)
    try:
        check_free(store)
        _check_ledger(store, run, new=new)
        own = Lease.own()
        store.write(lease.FILE, own.model_dump_json().encode())
        return Mirror(run, store, own)
    except Unavailable as error:
        raise InputError(f"mirror: {error}") from error


def _check_ledger(store: Store, run: Path, *, new: bool) -> None:
    """Raise InputError unless a run continues what its mirror holds."""
    names = store.sizes()
    if LEDGER not in names:
        return
    if new:
        raise InputError(
            f"mirror: {store.url} has a run already; `evo resume {store.url}` continues it, or "
            "launch with another name for the run folder (--run)"
        )
    there, here = read_ledger(store, LEDGER, names), (run / LEDGER).read_bytes()
    if not here.startswith(there):
        ahead = there.startswith(here[: here.rfind(b"\n") + 1])
        raise InputError(
            f"mirror: {store.url} {'is ahead of' if ahead else 'does not continue'} {run}: the run "
            f"was resumed elsewhere, or it is another one; `evo resume {store.url}` continues what "
            "is there, and --set mirror=null this folder without a mirror"
        )
