"""The append-only run record: one fact a line, on disk before anything else happens.

Lines are written, read and locked by `fitness.facts`, as for any file of facts. Their kinds are in
`evo.record.facts`; `Fact` here is a line of whatever kind.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from evo.record import facts, lease
from evo.record.lease import Lease
from evo.record.soundness import check, check_together
from fitness.errors import InputError
from fitness.facts import Closing, Fact, FactFile, as_lines, lock, read_facts
from fitness.files import write_whole
from fitness.secrets import Filter

FORMAT = 1
FILE = "ledger.jsonl"
LOCK = "driver"
TEXTS = {"message", "why"}  # keys whose text may come from a library or a user's code
REMEDY = "cut it before this line and resume"


def read(run: Path) -> list[facts.Fact]:
    """Read all whole facts of a run folder, in the order written.

    Secrets in their texts, which older versions wrote, are masked.
    """
    lines, _ = _read(ledger_file(run), samples=True)
    hide = Filter(os.environ)
    return facts.typed([_clean(line, hide) if line.keys() & TEXTS else line for line in lines])


def _clean(fact: Fact, hide: Filter) -> Fact:
    texts = {name: hide.clean(fact[name]) for name in TEXTS if isinstance(fact.get(name), str)}
    return {**fact, **texts}


def ledger_file(run: Path) -> Path:
    """Path of the ledger of a run folder. Raises InputError if it has none."""
    path = run / FILE
    if not path.is_file():
        why = "it has no ledger.jsonl" if run.is_dir() else "there is no such folder"
        raise InputError(f"{run} is not a run folder: {why}; name the folder `evo launch` printed")
    return path


def _read(path: Path, *, samples: bool) -> tuple[list[Fact], int]:
    """Facts, with or without their samples, and the bytes of the whole lines that hold them."""
    passes = [check] if samples else [check, _without_samples]
    lines, whole = read_facts(path, REMEDY, *passes)
    if not lines and whole == 0:
        raise InputError(f"{path}: has no complete line; remove the folder and launch again")
    if lines[0]["fact"] != "search" or lines[0].get("format") != FORMAT:
        raise InputError(
            f"{path}:1: expected the fact `search` in format {FORMAT}, got "
            f"{lines[0]['fact']!r} in format {lines[0].get('format')!r}; "
            "use the version of evomix that wrote this run"
        )
    check_together(lines, str(path))
    return lines, whole


def _without_samples(fact: Fact) -> None:
    (fact.get("details") or {}).pop("samples", None)


def in_use(run: Path) -> bool:
    """True while a driver process has locked the ledger of this run.

    Of a copy that was fetched from a mirror: while the driver elsewhere renews its lease.
    """
    if (run / lease.FILE).is_file():
        elsewhere = Lease.parse((run / lease.FILE).read_bytes())
        return elsewhere is not None and elsewhere.held
    path = run / f"{LOCK}.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # somebody else's folder, which we may not write
        return False


class Ledger(Closing):
    """A run folder's ledger, locked for writing.

    `facts` are those it had when it was opened, without the samples, which only a report reads.
    Appended facts are on disk only, so that the driver's memory does not grow with the run.
    `on_append` is called with each once it is there.
    """

    def __init__(self, run: Path) -> None:
        """Lock and open an existing ledger, cutting a torn tail off the file."""
        self.path = ledger_file(run)
        self.on_append: Callable[[Fact], None] = lambda fact: None
        self._lock = lock(run, LOCK)
        try:
            self.facts, whole = _read(self.path, samples=False)
            self._file = FactFile(self.path, whole)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def create(cls, run: Path, search: Fact, imported: Sequence[Mapping[str, Any]] = ()) -> Self:
        """Create a ledger that begins with the fact `search`, and what the launch has imported.

        All of it appears at once, so that no resume is without a part. Raises InputError if there
        is a ledger already.
        """
        run.mkdir(parents=True, exist_ok=True)
        held = lock(run, LOCK)
        try:
            path = run / FILE
            if path.exists():
                raise InputError(f"{run} has a run already; `evo resume {run}` continues it")
            first = {"fact": "search", "format": FORMAT, **search}
            write_whole(path, as_lines([first, *imported]))
        finally:
            held.release()
        return cls(run)

    def append(self, fact: str, **values: Any) -> Fact:
        """Write one fact and wait until it is on disk. On a full disk the file stays whole.

        Secrets of this machine's environment are masked; those of other machines were there.
        """
        record = _clean({"fact": fact, **values}, Filter(os.environ))
        self._file.append(record)
        self.on_append(record)
        return record

    def close(self) -> None:
        self._file.close()
        self._lock.release()
