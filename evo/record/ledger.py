"""The append-only run record: one fact a line, on disk before anything else happens.

How lines are written, read and locked is that of any file of facts: see `fitness.facts`.
"""

import os
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from evo.record.facts import check, check_together
from fitness.errors import InputError
from fitness.facts import Closing, Fact, FactFile, as_line, lock, read_facts
from fitness.files import write_whole
from fitness.secrets import Filter

FORMAT = 1
FILE = "ledger.jsonl"
LOCK = "driver"
TEXTS = {"message", "why"}  # of facts, in words that a library or a user's code may have chosen
REMEDY = "cut it before this line and resume"


def read(run: Path) -> list[Fact]:
    """Every whole fact of a run folder, in the order written.

    Older versions wrote texts that hold secrets; none is shown.
    """
    facts, _ = _read(ledger_file(run), samples=True)
    hide = Filter(os.environ)
    return [_clean(fact, hide) if fact.keys() & TEXTS else fact for fact in facts]


def _clean(fact: Fact, hide: Filter) -> Fact:
    texts = {name: hide.clean(fact[name]) for name in TEXTS if isinstance(fact.get(name), str)}
    return {**fact, **texts}


def ledger_file(run: Path) -> Path:
    """The ledger of a run folder, or an InputError that says what a run folder is."""
    path = run / FILE
    if not path.is_file():
        why = "it has no ledger.jsonl" if run.is_dir() else "there is no such folder"
        raise InputError(f"{run} is not a run folder: {why}; name the folder `evo launch` printed")
    return path


def _read(path: Path, *, samples: bool) -> tuple[list[Fact], int]:
    """Facts, with or without their samples, and the bytes of the whole lines that hold them."""
    passes = [check] if samples else [check, _without_samples]
    facts, whole = read_facts(path, REMEDY, *passes)
    if not facts and whole == 0:
        raise InputError(f"{path}: holds no whole fact; remove the folder and launch again")
    if facts[0]["fact"] != "search" or facts[0].get("format") != FORMAT:
        raise InputError(
            f"{path}:1: expected the fact `search` in format {FORMAT}, got "
            f"{facts[0]['fact']!r} in format {facts[0].get('format')!r}; "
            "use the version of evomix that wrote this run"
        )
    check_together(facts, str(path))
    return facts, whole


def _without_samples(fact: Fact) -> None:
    (fact.get("details") or {}).pop("samples", None)


def in_use(run: Path) -> bool:
    """Whether some driver writes this run right now."""
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

    `facts` is what it held when it was opened, without the samples, which nothing but a report
    reads; what is appended stays on disk alone, so that a driver's memory does not grow with it.
    """

    def __init__(self, run: Path) -> None:
        """Lock and open an existing ledger, cutting a torn tail off the file."""
        self.path = ledger_file(run)
        self._lock = lock(run, LOCK)
        try:
            self.facts, whole = _read(self.path, samples=False)
            self._file = FactFile(self.path, whole)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def create(cls, run: Path, search: Fact) -> Self:
        """A new ledger whose first fact is `search`; the folder must hold none."""
        run.mkdir(parents=True, exist_ok=True)
        held = lock(run, LOCK)
        try:
            path = run / FILE
            if path.exists():
                raise InputError(f"{run} holds a run already; `evo resume {run}` goes on with it")
            write_whole(path, as_line({"fact": "search", "format": FORMAT, **search}))
        finally:
            held.release()
        return cls(run)

    def append(self, fact: str, **values: Any) -> Fact:
        """Write one fact and wait until it is on disk. On a full disk the file stays whole.

        What came from elsewhere is free of its secrets already, and of this machine's as well now.
        """
        record = _clean({"fact": fact, **values}, Filter(os.environ))
        self._file.append(record)
        return record

    def close(self) -> None:
        self._file.close()
        self._lock.release()
