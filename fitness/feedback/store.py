"""The feedback of a run on disk, and what an annotator may do with it, each step a fact.

`feedback/judgements.jsonl` has one writer at a time, who holds the lock of that folder: a server
or an import. It is not the lock of the search, so people can judge while a search goes on.
"""

import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fitness.errors import InputError
from fitness.facts import Closing, Fact, FactFile, lock, read_facts
from fitness.feedback import items as shown
from fitness.feedback.items import Item, read_items
from fitness.feedback.judgements import (
    JUDGE,
    Judgement,
    by_judge,
    checked,
    criterion_of,
    named,
)
from fitness.feedback.standing import Settings, Standing
from fitness.filters import of_criterion
from fitness.suggest import did_you_mean, listed

FOLDER = "feedback"
FILE = "judgements.jsonl"
LOCK = "judging"
REMEDY = "cut it before this line, which loses what was said after it"


def check_criterion(kind: str, criteria: Mapping[str, str]) -> None:
    """Raise InputError for a rating by a criterion that is not among those of the run."""
    if of_criterion(kind) and (name := criterion_of(kind)) not in criteria:
        raise InputError(
            f"there is no criterion {name!r} among {listed(criteria) or 'none'}"
            f"{did_you_mean(name, criteria)}"
        )


class Conflict(InputError):
    """A request that no longer fits the state, such as for an item not handed to the annotator."""


def read_standing(folder: Path) -> Standing:
    """Read the state of a folder's feedback; needs no lock."""
    return _read(folder)[0]


def _read(folder: Path) -> tuple[Standing, int]:
    path, standing = folder / FILE, Standing()
    if not path.exists():
        return standing, 0
    facts, whole = read_facts(path, REMEDY)
    for number, fact in enumerate(facts, 1):
        try:
            standing.apply(fact)
        except (InputError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}:{number}: does not follow from the lines before it ({error!r:.80}); "
                f"restore the file from a copy, or {REMEDY}"
            ) from None
    return standing, whole


def _check_known(folder: Path, items: Mapping[str, Item], standing: Standing) -> None:
    unknown = standing.holders.keys() - items.keys()
    if unknown:
        raise InputError(
            f"{folder / shown.FILE}: lacks {listed(sorted(unknown), at_most=3)}, which "
            f"{FILE} speaks of; restore the file from a copy"
        )


class Store(Closing):
    """A feedback folder, locked for writing; its methods may be called from several threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = lock(folder, LOCK)
        self._turn = threading.RLock()
        try:
            self.items = read_items(folder)
            self.standing, whole = _read(folder)
            _check_known(folder, self.items, self.standing)
            self._file = FactFile(folder / FILE, whole)
        except BaseException:
            self._lock.release()
            raise
        self._size = self._bytes_of_items()

    def set(self, settings: Settings) -> None:
        """Set the settings of judging from now on."""
        if not 0 <= settings.repeat <= 1:
            raise InputError(f"the share of repeated items is from 0 to 1, got {settings.repeat}")
        if settings.raters < 1:
            raise InputError(f"each item has at least one rater, got {settings.raters}")
        if settings != self.standing.settings:
            self._write(settings.to_fact())

    def current(self, annotator: str) -> Item | None:
        """The item handed to an annotator; if there is none, hand out the next free one."""
        if by_judge(annotator):
            raise InputError(f"names that begin with {JUDGE!r} are of models; take another")
        with self._turn:
            in_hand = self.standing.in_hand.get(annotator)
            if in_hand:
                return self.items[in_hand[0]]
            self._see_new_items()
            for item in self.items.values():
                holders = self.standing.holders.get(item.id, ())
                people = sum(not by_judge(holder) for holder in holders)
                if annotator not in holders and people < self.wanted(item):
                    self._write({"fact": "handed", "item": item.id, "annotator": annotator})
                    return item
            return None

    def wanted(self, item: Item) -> int:
        """Number of people to judge an item: at least two for the repeated share, by the seed."""
        settings = self.standing.settings
        return max(settings.raters, 1 + (self._drawn("repeat", item.id) < settings.repeat))

    def swapped(self, item: Item, annotator: str) -> bool:
        """True if an annotator sees the second draft of a pair first, drawn by the seed."""
        return item.pair and self._drawn("order", item.id, annotator) < 0.5

    def judge(self, item: str, annotator: str, kind: str, value: Any) -> None:
        """Record one judgement of the item handed out. Raises InputError for an invalid one."""
        with self._turn:
            judgement = checked(self._held(item, annotator), annotator, kind, value)
            labels = self.standing.settings.labels
            if kind == "labels" and (strange := [v for v in judgement.value if v not in labels]):
                near = did_you_mean(strange[0], labels)
                raise InputError(f"there is no label {strange[0]!r} among {listed(labels)}{near}")
            check_criterion(kind, self.standing.settings.criteria)
            self._write({"fact": "judgement", **asdict(judgement)})

    def finish(self, item: str, annotator: str) -> None:
        """Finish an item that has been judged, and free the annotator for the next."""
        with self._turn:
            self._held(item, annotator)
            if not self.standing.of(item, annotator):
                raise InputError("say something of this item first, or skip it")
            self._write({"fact": "next", "item": item, "annotator": annotator})

    def reopen(self, item: str, annotator: str) -> None:
        """Hand out an item again to an annotator who has judged it, to change what was said."""
        annotator = named(annotator)
        with self._turn:
            if by_judge(annotator) or not self.standing.of(item, annotator):
                raise InputError("you have not judged this item; choose one of your list")
            if self.standing.in_hand.get(annotator, [])[:1] != [item]:
                self._write({"fact": "reopened", "item": item, "annotator": annotator})

    def judgements(self) -> list[Judgement]:
        """All judgements in force, see `Standing.judgements`."""
        with self._turn:
            return self.standing.judgements()

    def judged_by(self, annotator: str) -> list[Item]:
        """Items that an annotator has judged or skipped, those begun last first."""
        with self._turn:
            found = [item for item, by in self.standing.said if by == annotator]
            return [self.items[item] for item in reversed(found)]

    def undo(self, annotator: str) -> None:
        """Undo the annotator's last step, and hand out its item again."""
        with self._turn:
            if not self.standing.steps.get(annotator):
                raise InputError("there is nothing to undo")
            self._write({"fact": "undo", "annotator": annotator})

    def release(self, annotator: str) -> int:
        """Free the items handed to an annotator, for others; returns their number."""
        with self._turn:
            count = len(self.standing.in_hand.get(annotator, ()))
            if not count:
                known = sorted(name for name, items in self.standing.in_hand.items() if items)
                raise InputError(
                    f"{annotator!r} has no item in hand{did_you_mean(annotator, known)}"
                    f"; in whose hands items are: {listed(known) or 'nobody'}"
                )
            self._write({"fact": "released", "annotator": annotator})
            return count

    def progress(self, annotator: str) -> dict[str, int]:
        """Numbers of items that the annotator has finished, that anybody has, and of all."""
        with self._turn:
            in_hand = self.standing.in_hand
            done = {
                (item, by)
                for item, by in self.standing.said
                if item not in in_hand.get(by, ()) and not by_judge(by)
            }
            mine = sum(by == annotator for _, by in done)
            return {"mine": mine, "all": len({i for i, _ in done}), "items": len(self.items)}

    def take_in(self, name: str, items: Iterable[Item], judgements: list[Judgement]) -> int:
        """Add judgements made elsewhere, all or none; returns the number of new ones."""
        with self._turn:
            shown.add_items(self._folder, items)
            self._see_new_items()
            new = [j for j in judgements if self.standing.of(j.item, j.annotator).get(j.kind) != j]
            if new:
                self._write({"fact": "imported", "file": name, "judgements": [*map(asdict, new)]})
            return len(new)

    def close(self) -> None:
        self._file.close()
        self._lock.release()

    def _held(self, item: str, annotator: str) -> Item:
        in_hand = self.standing.in_hand.get(named(annotator))
        if not in_hand or in_hand[0] != item:
            raise Conflict("this item is no longer in your hands; here is the one that is")
        return self.items[item]

    def _write(self, fact: Fact) -> None:
        fact["time"] = round(time.time(), 3)
        self._file.append(fact)
        self.standing.apply(fact)

    def _drawn(self, *what: str) -> float:
        """A random number from 0 to 1, determined by the seed and its purpose."""
        text = "\n".join([str(self.standing.settings.seed), *what])
        digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"evomix feedback").digest()
        return int.from_bytes(digest) / 2**64

    def _bytes_of_items(self) -> int:
        path = self._folder / shown.FILE
        return path.stat().st_size if path.exists() else 0

    def _see_new_items(self) -> None:
        """Read the items again if another process has appended some."""
        if (size := self._bytes_of_items()) != self._size:
            self.items, self._size = read_items(self._folder), size
