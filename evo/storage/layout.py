"""Layout of a mirror: the files of the run folder under their own names, with three additions.

- A ledger is cut every PART_BYTES: `ledger.jsonl`, then `ledger.jsonl.0001` and so on, so that a
  long one need not be sent again and again. The parts one after the other are the file.
- A folder with weights has `complete.json`, see `fitness.remote.folders`.
- `lease.json` names the driver that writes.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from evo.record import lease
from evo.record.lease import Lease
from evo.record.ledger import FILE as LEDGER
from fitness.errors import InputError
from fitness.remote.store import WRITABLE, Store, open_store

PART_BYTES = 4 * 2**20
WEIGHTS = ".safetensors"


def place_of(url: str, name: str) -> Store:
    """The mirror of the run folder of this name. Raises InputError for an unusable URL."""
    return open_store(url, WRITABLE).below(name)


def check_mirror(url: str) -> None:
    """Raise InputError unless a small object can be written at a URL, and deleted again."""
    store = open_store(url, WRITABLE)
    try:
        store.write("evomix-was-here", b"")
        store.delete("evomix-was-here")
    except OSError as error:
        raise InputError(f"mirror: {error}, or leave `mirror` out") from error


def lease_at(store: Store) -> Lease | None:
    """The lease in a mirror, None if there is none."""
    try:
        return Lease.parse(store.read(lease.FILE))
    except FileNotFoundError:
        return None


def check_free(store: Store) -> None:
    """Raise InputError if a driver holds the lease on a mirror."""
    other = lease_at(store)
    if other is not None and other.held:
        raise InputError(
            f"{store.url} is written by process {other.pid} on {other.host}: stop that one first; "
            f"if the machine is gone, wait for {other.seconds_left:.0f} seconds"
        )


def part_of(ledger: str, number: int) -> str:
    """Name of a part of a ledger, from 0."""
    return f"{ledger}.{number:04}" if number else ledger


def ledgers_in(names: Mapping[str, int]) -> list[str]:
    """Names of the ledgers among objects, that of the run before those within it."""
    found = (name for name in names if PurePosixPath(name).name == LEDGER)
    return sorted(found, key=lambda name: (name.count("/"), name))


def parts_of(ledger: str, names: Mapping[str, int]) -> list[str]:
    """Names of the parts of a ledger among objects, in order, up to the first that is missing."""
    parts: list[str] = []
    while (part := part_of(ledger, len(parts))) in names:
        parts.append(part)
    return parts


def is_part(name: str) -> bool:
    """True for an object that is a part of a ledger."""
    last = PurePosixPath(name).name
    return last == LEDGER or last.startswith(f"{LEDGER}.")


def read_ledger(store: Store, ledger: str, names: Mapping[str, int]) -> bytes:
    """Whole lines of a mirrored ledger."""
    content = b"".join(store.read(part) for part in parts_of(ledger, names))
    return content[: content.rfind(b"\n") + 1]
