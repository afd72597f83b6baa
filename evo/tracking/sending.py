"""Sends what a run's ledgers record to a tracker, each record once."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evo.config.track import Track
from evo.record.facts import Facts
from evo.report.rounds import write
from evo.tracking.records import End, Evaluation, Search, end, evaluations, searches
from evo.tracking.trackers import Tracker, opened
from fitness.errors import InputError
from fitness.facts import Closing, FactFile, lock, read_facts
from fitness.secrets import without_secrets

FOLDER = "tracking"  # in the run folder
BEGUN = "begun"  # key of a search
MESSAGE = 200  # characters of a library's error
REMEDY = "remove it, and everything is sent again"


class Sender(Closing):
    """Sends a run to one tracker, which stays open for each search that goes on.

    What was sent is noted in `tracking/<name>.jsonl` of the run folder; for other settings, such as
    another server, everything is sent anew.
    """

    def __init__(self, run: Path, name: str, track: Track) -> None:
        """Raises InputError if another process sends to this tracker."""
        self.run, self.name, self._track = run, name, track
        self.place = ""  # where to look, once something was sent
        self._open: dict[str, Tracker] = {}
        folder = run / FOLDER
        folder.mkdir(exist_ok=True)
        self._lock = lock(folder, name)
        path = folder / f"{name}.jsonl"
        lines, whole = read_facts(path, REMEDY) if path.is_file() else ([], 0)
        self._to = json.dumps(track.plain[name], sort_keys=True)
        self._sent = {(one["search"], one["key"]) for one in lines if one["to"] == self._to}
        self._file = FactFile(path, whole)

    def send(self) -> int:
        """Send what the tracker does not have yet; the number of records.

        Raises InputError if the tracker refuses, or is down; the next call sends the rest.
        """
        count = 0
        for search, folder, facts in searches(self.run):
            every = evaluations(search, facts)
            known = [one for one in every if (search.identity, one.key) in self._sent]
            fresh = [one for one in every if (search.identity, one.key) not in self._sent]
            ended = end(self.run, folder, facts)
            if ended is not None and (search.identity, ended.key) in self._sent:
                ended = None
            begun = (search.identity, BEGUN) in self._sent
            if fresh or ended or not begun:
                try:
                    self._send(search, known, fresh, ended, facts)
                except InputError:
                    raise
                except Exception as error:  # a library's own, such as for a server that is down
                    self._drop(search.identity)
                    raise InputError(self._unsent(error)) from error
            count += len(fresh) + (ended is not None)
        return count

    def _send(
        self,
        search: Search,
        known: Sequence[Evaluation],
        fresh: Sequence[Evaluation],
        ended: End | None,
        facts: Facts,
    ) -> None:
        if search.identity not in self._open:
            tracker = self._open[search.identity] = opened(self.name, self._track, self.run)
            place = tracker.begin(search, known)
            self.place = self.place or place
            self._note(search, BEGUN)
        tracker = self._open[search.identity]
        for one in fresh:
            tracker.evaluation(one)
            self._note(search, one.key)
        if ended is not None:
            whole = search.within is None
            tracker.end(ended, write(self.run, facts) if whole else None)
            self._open.pop(search.identity).close()
            self._note(search, ended.key)

    def _note(self, search: Search, key: str) -> None:
        record = {"fact": "sent", "to": self._to, "search": search.identity, "key": key}
        self._file.append(record)
        self._sent.add((search.identity, key))

    def _drop(self, identity: str) -> None:
        """Close the tracker of a search, which the next record opens again."""
        if (tracker := self._open.pop(identity, None)) is not None:
            with suppress(Exception):  # of one that is down
                tracker.close()

    def _unsent(self, error: Exception) -> str:
        lines = str(error).strip().splitlines() or [""]
        why = without_secrets(f"{type(error).__name__}: {lines[0]}")
        why = why if len(why) <= MESSAGE else f"{why[:MESSAGE]}..."
        command = f"evo track {self.run} --to {self.name}"
        return f"track.{self.name}: {why}; once that is mended, `{command}` sends the rest"

    def close(self) -> None:
        """Close the tracker, and leave the run to others."""
        for identity in list(self._open):
            self._drop(identity)
        self._file.close()
        self._lock.release()
