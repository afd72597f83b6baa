"""One pass of mirroring: copies what has changed in a run folder, and deletes what is gone.

Whole lines of the ledgers are read first, and then the other files, so that the mirror has every
small file that its ledgers tell of. What the run has deleted is deleted after the ledger that made
it needless. Weights come last: one that a ledger tells of and the mirror lacks is trained again.
"""

import re
import time
from pathlib import Path

from evo.record import lease
from evo.record.artifacts import DELETED
from evo.record.lease import Lease
from evo.record.ledger import FILE as LEDGER
from evo.storage.contents import Stamp, contents, whole_bytes
from evo.storage.layout import PART_BYTES, WEIGHTS, lease_at, part_of
from fitness.remote.folders import delete_folder, put_folder, whole_folders
from fitness.remote.store import Store, Unavailable

RENEW_SECONDS = 20.0
ARTIFACT = re.compile(r"(?:.*/)?artifacts/[^/]+")  # a checkpoint, or a training state


class Taken(Exception):
    """Another driver has taken the lease on a mirror."""


class Mirror:
    """Copies what has changed in a run folder to its mirror, pass after pass."""

    def __init__(self, run: Path, store: Store, own: Lease) -> None:
        self.run, self.store = run, store
        self._lease = own
        self._renewed = own.time
        self._ledgers: dict[str, int] = {}  # bytes there
        self._sent: dict[str, Stamp] = self._there()

    def _there(self) -> dict[str, Stamp]:
        """Weights in the mirror; an empty stamp for those that are not as in the run folder."""
        names, local = self.store.sizes(), contents(self.run).weights
        items = {m[0] for name in names if (m := ARTIFACT.match(name))}
        found: dict[str, Stamp] = {one: () for one in items if one in local or not _of_worker(one)}
        for folder, sizes in whole_folders(self.store, names).items():
            stamp = local.get(folder, ())
            if sizes == {name: size for name, size, _ in stamp}:
                found[folder] = stamp
        return found

    def copy(self) -> None:
        """Make one pass. Raises Unavailable, or Taken if another driver writes there now."""
        before = contents(self.run)
        if LEDGER not in before.ledgers:  # the launch is not that far, or the folder is gone
            self._renew()
            return
        self._copy_files()
        for name, stamp in contents(self.run).weights.items():
            if self._sent.get(name) != stamp:
                self._send_weights(name, stamp)
                self._copy_files()  # weights may take minutes
        now = contents(self.run)
        for name in [one for one in self._sent if one not in before and one not in now]:
            self._delete(name)
        for name in before.deleted:
            self._delete(name)
            (self.run / f"{name}{DELETED}").unlink(missing_ok=True)

    def release(self) -> None:
        """End the lease."""
        self.store.delete(lease.FILE)

    def _copy_files(self) -> None:
        self._renew()
        ends = {name: whole_bytes(self.run / name) for name in contents(self.run).ledgers}
        for name, stamp in contents(self.run).files.items():
            if self._sent.get(name) != stamp and self._upload(name):
                self._sent[name] = stamp
        for name in reversed(ends):  # what an outer ledger tells of an inner one is there then
            self._send_ledger(name, ends[name])

    def _send_ledger(self, name: str, end: int) -> None:
        sent = self._ledgers.get(name, 0)
        if end == sent:
            return
        first = min(sent, end) // PART_BYTES
        with (self.run / name).open("rb") as file:
            for number in range(first, -(-end // PART_BYTES)):
                file.seek(number * PART_BYTES)
                content = file.read(min(PART_BYTES, end - number * PART_BYTES))
                self.store.write(part_of(name, number), content)
        self._ledgers[name] = end

    def _send_weights(self, name: str, stamp: Stamp) -> None:
        """Put a training state, or a model folder and then the object that says it is whole."""
        self._sent[name] = ()
        if not (self.run / name).is_dir():
            if self._upload(name):
                self._sent[name] = stamp
            return
        try:
            sizes = {file: size for file, size, _ in stamp}
            put_folder(self.store, name, self.run / name, sizes)
            self._sent[name] = stamp
        except Unavailable:
            if (self.run / name).is_dir():
                raise

    def _upload(self, name: str) -> bool:
        """Put a file; False if the run has deleted it meanwhile."""
        try:
            self.store.upload(name, self.run / name)
        except Unavailable:
            if (self.run / name).is_file():
                raise
            return False
        return True

    def _delete(self, name: str) -> None:
        if name.endswith(WEIGHTS) or "." in name.rpartition("/")[2]:
            self.store.delete(name)
        else:
            delete_folder(self.store, name)
        self._sent.pop(name, None)

    def _renew(self) -> None:
        """Renew the lease, if it is time. Raises Taken if another driver has it."""
        if time.time() < self._renewed + RENEW_SECONDS:
            return
        there = lease_at(self.store)
        if there is not None and there.token != self._lease.token:
            raise Taken(f"process {there.pid} on {there.host}")
        self._renewed = time.time()
        renewed = self._lease.model_copy(update={"time": self._renewed})
        self.store.write(lease.FILE, renewed.model_dump_json().encode())


def _of_worker(name: str) -> bool:
    """True for a checkpoint that a worker may have put: Artifacts says when it is needless."""
    return name.startswith("artifacts/individual-")
